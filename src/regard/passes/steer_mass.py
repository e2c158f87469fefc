"""Raise the scores of chosen keys by just as much as guarantees them a share of every row's mass.

Before: softmax(5 · tanh(s), where = j <= i), the keys j < 4, and the share 0.9.
After: softmax(where(j < 4, 5 · tanh(s) + b, 5 · tanh(s)), where = j <= i) with
b = 10 + ln(0.9/0.1) + ln(max(n - 1, 1)), n the keys that the row sees.
With scores in lo … hi, s chosen keys of the n seen, and outside = n - s (a sink is one more):
chosen mass >= s · exp(lo + b), other mass <= outside · exp(hi), so that
b = hi - lo + ln((1 - ε)/ε · outside/s) suffices. Leaves to others: who chooses (`ops`).
"""

import math
from dataclasses import dataclass

from regard.errors import InputError
from regard.ir import nodes as n
from regard.passes.build import add, both, call
from regard.passes.contracts.bound_terms import bound_number
from regard.passes.contracts.prove import always_sees

# Single precision errs by less on scores and biases below 1000; larger ones are refused.
_ROUNDING = 1e-3
_LARGEST = 1000.0


@dataclass(frozen=True)
class Steering:
    """A program whose chosen keys have their share, and the numbers of the proof.

    Attributes:
        root: The program.
        lowest: The least score a pair can have.
        highest: The largest score a pair or a sink can have.
        sink: Whether a sink counts among the other keys.
        seen: How many chosen keys each row sees at least.
        promised: Whether that was promised rather than proved.
    """

    root: n.Output
    lowest: float
    highest: float
    sink: bool
    seen: int
    promised: bool


def steer_mass(root: n.Output, keys: n.Node, eps: float, promised: int | None = None) -> Steering:
    """Return the program in which chosen keys have at least 1 - eps of every row's mass.

    Args:
        root: A program whose weights are one softmax.
        keys: The condition that chooses keys, of any pair.
        eps: How much mass the other keys may have at most, between 0 and 1.
        promised: How many chosen keys each row is promised to see; None has it proved of one.

    Returns:
        The program and the proof's numbers.

    Raises:
        InputError: If it cannot be guaranteed; the message says why.
    """
    term = root.weights
    if not isinstance(term, n.Softmax):
        kind = type(term).__name__.lower()
        raise InputError(f"mass is guaranteed in one softmax; the weights of this are {kind}")
    lowest, highest = _bounds(term)
    if promised is None and not always_sees(both(term.where, keys) or n.Const(True)):
        raise InputError(
            "a row may see none of the keys, and then their share cannot be had\n"
            "choose keys that every `where` admits, such as lambda pair: pair.j == pair.i, or "
            "promise with seen=1 that every row of every call sees one"
        )
    seen = promised or 1
    fixed = highest - lowest + math.log((1 - eps) / eps) - math.log(seen) + _ROUNDING
    others = add(n.Visible(), n.Const(int(term.sink is not None) - seen))
    bias = call("add", fixed, call("log", call("max", others, 1)))
    raised = call("add", term.score, call("max", bias, 0.0))
    score = call("where", keys, raised, term.score)
    steered = n.Softmax(score, term.where, term.sink, term.name)
    made = n.Output(steered, root.values, root.finish)
    sink = term.sink is not None
    return Steering(made, lowest, highest, sink, seen, promised is not None)


def _bounds(term: n.Softmax) -> tuple[float, float]:
    """Return the least score, and the largest of a score or the sink."""
    lowest, highest = bound_number(term.score)
    if math.isinf(lowest) or math.isinf(highest):
        raise InputError(
            f"the score lies in {lowest:g} … {highest:g}: nothing bounds it, and no bias outweighs "
            "it\nbound it, as 20 * rg.tanh(score / 20) does, and hide pairs with `where`"
        )
    if term.sink is not None:
        top = bound_number(term.sink)[1]
        if top == math.inf:
            raise InputError("nothing bounds the sink from above, and it takes mass as well")
        highest = max(highest, top)
    if highest - lowest > _LARGEST:
        raise InputError(
            f"the score lies in {lowest:g} … {highest:g}; single precision cannot hold a bias "
            f"that outweighs more than {_LARGEST:g}"
        )
    return lowest, highest
