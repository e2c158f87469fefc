"""The adjoint sweeps of a lowered program: which expressions give every leaf's gradient.

Backward runs, for each query row: `finish` (the summed row's adjoint), `inverses` (what each
normaliser receives, one more sweep unless the weights are a single term), `rows` (what the row
sums, sinks and observed values receive), then `pairs` (what the leaves receive at each pair).
A threshold t is where a row sum s is 1, so that what t receives goes on to s: gl:a, its negative
quotient by the slope of s in t.
New holes: grad (the output's adjoint), do (the summed row's), gr:a (r's), gt:a (t's), st:a (that
slope), gl:a, g:lse:a and g:mass (an observed value's), gs:a and gx:a (a row sum's), gw (the dense
weights').
Leaves to others: the derivatives (`differentiate`) and running the sweeps (the backends).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from regard.ir import nodes as n
from regard.passes.build import ONE, both, call, mul, neg
from regard.passes.differentiate import Adjoint, Gradient, differentiate
from regard.passes.lower import Lowered, LoweredTerm
from regard.passes.statistics import Statistic

GRAD = n.Hole("grad", "bhic")
SUMMED_GRAD = n.Hole("do", "bhic")
WEIGHTS_GRAD = n.Hole("gw", "bhij")
ALIVE = n.Hole("alive", "bhi", "bool")


@dataclass(frozen=True)
class Adjoints:
    """The gradient of a program, sweep by sweep.

    Attributes:
        finish: Leaves and the summed row, from `grad`; None if the program has no finish.
        inverses: The hole gr:a of each normalised term, or gt:a and st:a of a thresholded one, as
            pair expressions already reduced over j.
        rows: Leaves and row sums, from gr:a and the observed values' adjoints.
        pairs: Leaves, at each pair.
    """

    finish: Gradient | None
    inverses: dict[str, n.Node]
    rows: Gradient
    pairs: Gradient


def derive_adjoints(
    lowered: Lowered,
    wanted: Iterable[n.Node],
    dense_weights: bool = False,
    received: n.Node | None = None,
    watched: tuple[Statistic, ...] = (),
) -> Adjoints:
    """Differentiate a lowered program.

    Args:
        lowered: The program as sweeps.
        wanted: The leaves whose gradient is asked for.
        dense_weights: Whether the dense weights are observed and receive an adjoint.
        received: What a pair's weight receives, where that is written by other means than `values`.
        watched: The statistics that receive something.

    Returns:
        The adjoint sweeps.
    """
    leaves = set(wanted)
    finish = None
    if lowered.finish is not None:
        finish = differentiate({lowered.finish: Adjoint(GRAD, ALIVE)}, leaves | {n.SUMMED})
    weights = _weights_adjoints(lowered, dense_weights, received, watched)
    return Adjoints(
        finish=finish,
        inverses=_normaliser_adjoints(lowered, weights),
        rows=_row_adjoints(lowered, leaves),
        pairs=_pair_adjoints(lowered, weights, leaves, received),
    )


def _normaliser_adjoints(lowered: Lowered, weights: dict[n.Node, Adjoint]) -> dict[str, n.Node]:
    normalisers: dict[n.Node, LoweredTerm] = {}
    for term in lowered.terms:
        if term.total is not None or term.gain is not None:
            normalisers[term.hole("r" if term.gain is None else "t")] = term
    swept = differentiate(weights, normalisers).dense
    found = {}
    for hole, value in swept.items():
        assert isinstance(hole, n.Hole)
        found[f"g{hole.name}"] = value
        term = normalisers[hole]
        if term.gain is not None:
            one = {term.num: Adjoint(ONE, term.hole("seen"))}
            found[f"st:{term.name}"] = differentiate(one, [hole]).dense[hole]
    return found


def _weights_adjoints(
    lowered: Lowered,
    dense_weights: bool,
    received: n.Node | None,
    watched: tuple[Statistic, ...],
) -> dict[n.Node, Adjoint]:
    received = received or n.Reduce(mul(SUMMED_GRAD, lowered.values), "c")
    weights = {lowered.weights: Adjoint(received, lowered.seen)}
    given = [(one.weight, Adjoint(one.received, one.seen)) for one in watched]
    if dense_weights:
        given.append((lowered.clean_weights, Adjoint(WEIGHTS_GRAD, lowered.seen)))
    for weight, adjoint in given:
        before = weights.get(weight)
        weights[weight] = adjoint if before is None else before.plus(adjoint)
    return weights


def _row_adjoints(lowered: Lowered, leaves: set[n.Node]) -> Gradient:
    roots: dict[n.Node, Adjoint] = {}
    for term in lowered.terms:
        if term.total is not None:
            # r is 1 / total, so total receives -r · r · gr; rows without a sum have r = 0.
            r, spent = term.hole("r"), n.Hole(f"gd:{term.name}", "bhi")
            roots[term.total] = Adjoint(mul(neg(spent), r), call("ne", r, 0))
        if term.gain is not None:
            roots[term.hole("s")] = Adjoint(n.Hole(f"gl:{term.name}", "bhi"))
    for name, row in lowered.rows.items():
        if not name.startswith("max:"):
            hole, r = n.Hole(f"g:{name}", "bhi"), n.Hole("r:" + name.partition(":")[2], "bhi")
            # A row that sees nothing has an lse of -inf, whose derivative is not 0 but inf.
            given = Adjoint(hole, both(call("ne", hole, 0), call("ne", r, 0)))
            roots[row] = roots[row].plus(given) if row in roots else given
    sums = {n.Hole(name, "bhi") for term in lowered.terms for name in term.sums}
    # An observed value may read r itself, whose own adjoint then grows: r is expanded first.
    inverse = {term.hole("r"): term.inverse for term in lowered.terms if term.inverse is not None}
    expanded = {_replace(root, inverse): adjoint for root, adjoint in roots.items()}
    return differentiate(expanded, leaves | sums)


def _replace(root: n.Node, new: dict) -> n.Node:
    return n.rewrite(root, lambda node: new.get(node))


def _pair_adjoints(
    lowered: Lowered,
    weights: dict[n.Node, Adjoint],
    leaves: set[n.Node],
    received: n.Node | None,
) -> Gradient:
    roots = dict(weights)
    for term in lowered.terms:
        for name, body in term.sums.items():
            given = Adjoint(n.Hole("g" + name, "bhi"), term.hole("seen"))
            roots[body] = roots[body].plus(given) if body in roots else given
    root, spread = lowered.values, mul(lowered.weights, SUMMED_GRAD)
    if received is not None:
        root, spread = received, lowered.weights
    given = Adjoint(spread, lowered.seen)
    roots[root] = roots[root].plus(given) if root in roots else given
    return differentiate(roots, leaves)
