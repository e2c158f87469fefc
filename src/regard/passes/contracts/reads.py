"""Which key rows reach an output row, and at which pairs: everything a region contract is about.

Before: softmax(q·k, where = j <= i) summed over max_over_keys-shifted values.
After: pairs with j <= i are read by weights a; every key is read by rg.max_over_keys.
Values, factors and maps are evaluated where some term sees the pair, so the terms stand for them.
A hidden pair is never evaluated, whatever it holds; a weight of 0 is, and 0 · NaN is NaN.
Leaves to others: what is allowed (`prove`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import TypeVar

from regard.ir import nodes as n
from regard.ir.types import type_of
from regard.passes.bound_scores import Bounds, bounds_within
from regard.passes.build import both, call, either

T = TypeVar("T")

ALL = n.Const(True)
_NONE = n.Const(False)


@dataclass(frozen=True)
class Read:
    """Key rows that reach an output row.

    Attributes:
        condition: At which pairs.
        reader: Who reads them, in the words of the language.
    """

    condition: n.Node
    reader: str


def find_reads(root: n.Output) -> list[Read]:
    """Return all reads of key rows.

    Args:
        root: The program.

    Returns:
        Reads whose conditions cover every pair at which a key row can reach an output row.
    """
    found = []
    for node in n.walk(root):
        match node:
            case n.Softmax() | n.Weigh() | n.Ratio() | n.Entmax():
                found.append(Read(_reaching(node), f"weights '{node.name}'"))
            case n.TopK():
                found.append(Read(_reaching(node), "rg.topk"))
            case n.KeyMax():
                found.append(Read(ALL, "rg.max_over_keys"))
            case n.Running():
                # At a pair that its own `where` admits, whichever sum the key then is part of.
                found.append(Read(node.where or ALL, "rg.running_sum"))
            case n.Index(name="keys"):
                found.append(Read(ALL, "pair.keys, which counts every key"))
    return found


def _reaching(node: n.Term | n.TopK) -> n.Node:
    """Return the pairs that a term evaluates, or counts if it reads how many there are."""
    admitted = node.where or ALL
    if isinstance(node, n.Weigh | n.Ratio) or _counts(node):
        return admitted
    return both(admitted, negated(surely_hidden(node.score))) or ALL


def _counts(node: n.Node) -> bool:
    """Tell whether a term reads pair.visible, outside its `where`, which cannot."""
    return n.Visible() in n.walk(*n.children(node))


def negated(condition: n.Node) -> n.Node:
    """Return the opposite of a condition; constants stay constants."""
    if isinstance(condition, n.Const):
        return n.Const(not condition.value)
    return call("not", condition)


def surely_hidden(score: n.Node) -> n.Node:
    """Return where a score is -inf whatever the data is: there the pair is hidden.

    Args:
        score: A softmax's or entmax's score.

    Returns:
        A condition. -inf added to a number is not counted: it hides numbers, but not NaN.
    """
    return _hidden(score, certain=True)


def may_be_hidden(score: n.Node) -> n.Node:
    """Return where a score can be -inf although all inputs are finite.

    Args:
        score: A softmax's or entmax's score, or a sink.

    Returns:
        A condition; outside it the score is certainly above -inf.
    """
    return _hidden(score, certain=False)


# Where a pair is seen there is a key, and it is counted.
_SEEN = {n.Index("keys"): (1.0, math.inf), n.Visible(): (1.0, math.inf)}


def _hidden(score: n.Node, certain: bool) -> n.Node:
    bounds = {} if certain else bounds_within(score, _SEEN)
    found: dict[n.Node, n.Node] = {}
    for node in n.walk(score):
        found[node] = _hidden_at(node, found, bounds, certain)
    return found[score]


def _hidden_at(
    node: n.Node, found: dict[n.Node, n.Node], bounds: dict[n.Node, Bounds], certain: bool
) -> n.Node:
    if isinstance(node, n.Const):
        infinite = node.value == -float("inf") if certain else abs(node.value) == float("inf")
        return n.Const(infinite)
    if isinstance(node, n.Call) and node.op == "where":
        condition, yes, no = node.args
        here = _when(condition, found[yes])
        return _or(here, _when(negated(condition), found[no]))
    if certain:
        return _NONE
    if isinstance(node, n.Running):
        # What is infinite at one key is so in the sums of others.
        return found[node.body] if found[node.body] is _NONE else ALL
    if isinstance(node, n.Call) and _has_poles(node, bounds):
        return ALL
    return _any([found[child] for child in n.children(node)])


def _has_poles(node: n.Call, bounds: dict[n.Node, Bounds]) -> bool:
    """Tell whether an operator may be infinite although its arguments are finite."""
    first = bounds[node.args[0]]
    match node.op:
        case "log":
            return not first[0] > 0
        case "div" | "floordiv" | "mod":
            lo, hi = bounds[node.args[1]]
            return lo <= 0 <= hi
        case "pow":
            exponent = node.args[1]
            whole = isinstance(exponent, n.Const) and exponent.value >= 0
            return not (whole or first[0] > 0)
    return False


def _any(conditions: list[n.Node]) -> n.Node:
    result: n.Node = _NONE
    for condition in conditions:
        result = _or(result, condition)
    return result


def _or(a: n.Node, b: n.Node) -> n.Node:
    if a is _NONE or b is ALL:
        return b
    return a if b is _NONE or a is ALL else either(a, b) or ALL


def _when(condition: n.Node, hidden: n.Node) -> n.Node:
    if hidden is _NONE:
        return _NONE
    return condition if hidden is ALL else both(condition, hidden) or ALL


# ── Who certainly sees a key ─────────────────────────────────────────────────────────────────
def surely_seen(weights: n.Node) -> n.Node:
    """Return at which pairs weights certainly see the key, if all inputs are finite.

    Args:
        weights: A term, or terms combined.

    Returns:
        A condition.
    """

    def of_term(term: n.Term) -> n.Node:
        admitted = term.where or ALL
        if isinstance(term, n.Weigh | n.Ratio):
            return admitted
        return both(admitted, negated(may_be_hidden(term.score))) or ALL

    return _fold(weights, of_term, partial(call, "and"), partial(call, "or"))


def has_sink(weights: n.Node) -> bool:
    """Tell whether a row that sees no key has the mass of a sink instead.

    Args:
        weights: A term, or terms combined.

    Returns:
        Whether a sink that is certainly above -inf takes part.
    """

    def of_term(term: n.Term) -> bool:
        sink = term.sink if isinstance(term, n.Softmax) else None
        return sink is not None and may_be_hidden(sink) is _NONE

    return _fold(weights, of_term, lambda a, b: a and b, lambda a, b: a or b)


def _fold(
    weights: n.Node,
    of_term: Callable[[n.Term], T],
    product: Callable[[T, T], T],
    total: Callable[[T, T], T],
) -> T:
    """Combine what terms say: a product sees what both see, a sum what one of them sees."""
    found: dict[n.Node, T] = {}
    for node in n.walk(weights):
        if isinstance(node, n.Term):
            found[node] = of_term(node)
        elif type_of(node).weights:
            # A map's body reads the weights by a hole; a factor or divisor hides nothing.
            parts = [found[child] for child in n.children(node) if child in found]
            join = product if isinstance(node, n.Call) and node.op == "mul" else total
            found[node] = reduce(join, parts)
    return found[weights]


def without_topk(weights: n.Node) -> n.Node:
    """Return terms with what `rg.topk` chooses from in place of its choice.

    A row sees one of the chosen keys if and only if it sees one to choose from. That is so for a
    term alone and for sums, not for products, and where the choice is all the `where` there is.

    Args:
        weights: A term, or terms combined.

    Returns:
        Weights whose rows are empty only if those of the given ones are.
    """
    for node in n.walk(weights):
        if isinstance(node, n.Call) and node.op == "mul":
            if all(type_of(arg).weights for arg in node.args):
                return weights
    return n.rewrite(weights, _choosing_from)


def _choosing_from(term: n.Node) -> n.Node | None:
    if not isinstance(term, n.Term) or not isinstance(term.where, n.TopK):
        return None
    chosen = term.where
    if not (isinstance(chosen.k, n.Const) and chosen.k.value >= 1):
        return None
    if isinstance(term, n.Softmax | n.Entmax) and may_be_hidden(term.score) is not _NONE:
        return None
    return replace(term, where=both(chosen.where, negated(may_be_hidden(chosen.score))))
