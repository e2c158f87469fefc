"""Leave out the running maximum of exponentials that can neither overflow nor vanish.

Before: softmax(20 · tanh(q·k / 20)): num = exp(20 · tanh(q·k / 20) - m), m the largest exponent.
After: num = exp(20 · tanh(q·k / 20)), no exponents, and no score that could hide a pair.
Leaves to others: the bounds themselves (`bound_scores`), and running anything (the backends).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from regard.ir import nodes as n
from regard.passes.bound_scores import bound_of
from regard.passes.build import ONE, ZERO, add, mul, neg
from regard.passes.lower import Lowered, LoweredTerm

# exp(40) is 2e17 and exp(-40) is 4e-18: a float32 holds such numbers times 1e20 and sums of them.
_LARGEST = 40.0


def unshift_bounded(lowered: Lowered, observe: Sequence[str] = ()) -> Lowered:
    """Return a lowered program in which bounded exponents are not shifted.

    Terms are left alone if their maximum or entropy is observed (an entropy of shifted scores is
    the more exact one), if numbers are added to their row sum on its true scale, and if the weights
    are products of terms, because the exponents of a product add up.

    Args:
        lowered: The program.
        observe: The names of the observed row values, as for `lower`.

    Returns:
        The program, with m replaced by 0 in those terms.
    """
    if _multiplies(lowered.weights):
        return lowered
    free = [term for term in lowered.terms if _may_be_free(term, observe)]
    zero: dict[n.Node, n.Node] = {term.hole("m"): ZERO for term in free}
    return replace(
        lowered,
        terms=tuple(_unshifted(term, zero) if term in free else term for term in lowered.terms),
        weights=_without(lowered.weights, zero),
        clean_weights=_without(lowered.clean_weights, zero),
        rows={name: _without(row, zero) for name, row in lowered.rows.items()},
        statistics=tuple(
            one.changed(lambda node: _without(node, zero)) for one in lowered.statistics
        ),
    )


def _may_be_free(term: LoweredTerm, observe: Sequence[str]) -> bool:
    """Tell whether a term's exponents are bounded and nothing needs their maximum."""
    if not term.exponents or f"max:{term.name}" in observe or f"entropy:{term.name}" in observe:
        return False
    if term.score is None and term.total is not n.Call("max", (term.hole("s"), ZERO)):
        return False
    exponents = term.exponents if term.sink is None else (*term.exponents, term.sink)
    return all(abs(end) <= _LARGEST for exponent in exponents for end in bound_of(exponent))


def _unshifted(term: LoweredTerm, zero: Mapping[n.Node, n.Node]) -> LoweredTerm:
    return replace(
        term,
        score=None,
        exponents=(),
        floor_zero=False,
        sink=None,
        num=_without(term.num, zero),
        sums={name: _without(body, zero) for name, body in term.sums.items()},
        total=None if term.total is None else _without(term.total, zero),
    )


def _without(root: n.Node, zero: Mapping[n.Node, n.Node]) -> n.Node:
    """Return an expression with some of its holes 0, and the arithmetic of those done."""
    done = dict(zero)
    for node in n.walk(root):
        if node not in done:
            rebuilt = n.rebuild(node, done)
            done[node] = rebuilt if rebuilt is node else _simpler(rebuilt)
    return done[root]


def _simpler(node: n.Node) -> n.Node:
    match node:
        case n.Call(op="sub", args=(kept, last)) if last is ZERO:
            return kept
        case n.Call(op="neg", args=(inside,)):
            return neg(inside)
        case n.Call(op="exp", args=(inside,)) if inside is ZERO:
            return ONE
        case n.Call(op="add", args=(a, b)):
            return add(a, b)
        case n.Call(op="mul", args=(a, b)):
            return mul(a, b)
        case _:
            return node


def _multiplies(weights: n.Node) -> bool:
    """Tell whether weights are multiplied by weights."""
    weighty: set[n.Node] = set()
    for node in n.walk(weights):
        parts = [child for child in n.children(node) if child in weighty]
        if isinstance(node, n.Call) and node.op in ("mul", "div", "pow") and len(parts) > 1:
            return True
        if parts or (isinstance(node, n.Hole) and node.name.startswith("seen:")):
            weighty.add(node)
    return False
