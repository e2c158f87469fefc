"""Derive the sweeps over the keys of each query row from a lowered program.

Before: a lowered program: softmax(q·k).
After: one sweep: its term with exponent dot:0, the row sum of p:a, the values weighed with p:a, and
at the end r:a, by which the weighed sum is multiplied.
Leaves to others: writing a sweep (`rowsweep`), the adjoint sweep (`adjoint_sweep`).
"""

from collections.abc import Mapping

from regard.backends.cpu.fold import fold_constants
from regard.backends.cpu.rowsweep import Component, Histogram, RowSum, RowSweep, ShiftedTerm
from regard.backends.cpu.seen import Seen, split_seen
from regard.backends.cpu.watch_sweeps import (
    add_fused_sums,
    add_spread_sums,
    listed_count,
    observes_received,
    summed_rows,
    weighs_alone,
)
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.passes.build import ONE, ZERO, add, mul, select, substitute
from regard.passes.linear_weights import Part, linear_parts
from regard.passes.lower import Lowered, LoweredTerm
from regard.passes.part_rows import part_values
from regard.passes.split_pairs import Split


def make_count_sweep(lowered: Lowered, split: Split) -> RowSweep | None:
    """Return the sweep that counts visible keys.

    Args:
        lowered: The program.
        split: An empty split.

    Returns:
        The sweep, or None if no term reads their number.
    """
    counted = [term for term in lowered.terms if term.counted]
    sweep = RowSweep(split, {})
    for term in counted:
        sweep.seen[term.name] = Seen(None if term.where is None else split.pair(term.where))
        sweep.sums.append(RowSum(f"n:{term.name}", select(term.hole("seen"), ONE)))
    return sweep if counted else None


def make_fused_sweep(lowered: Lowered, split: Split, wanted: bool) -> RowSweep | None:
    """Return the one sweep that finds row values and the summed row.

    Args:
        lowered: The program.
        split: An empty split, in which numbers of visible keys are known.
        wanted: Whether a gradient is wanted, for which components' sums may be kept.

    Returns:
        The sweep, or None if a row sum must be known before values can be weighed.

    Raises:
        UnsupportedError: If a kernel cannot do it at all.
    """
    sweep = make_sums_sweep(lowered, split)
    places = {term.name: k for k, term in enumerate(sweep.terms)}
    atoms: dict[n.Node, str] = {}
    weights: dict[n.Node, n.Node] = {}
    for term in lowered.terms:
        if term.name in places:
            atom = select(term.hole("seen"), term.num)
            if term.score is not None:
                weights[atom] = _weight(term)
            atoms[weights.get(atom, atom)] = term.name
    values = part_values(lowered.values)

    def parts_of(scale: n.Node) -> list[Part] | None:
        return linear_parts(substitute(_scaled(lowered, scale), weights), atoms)

    parts = parts_of(values.scale)
    if parts is None:
        return None
    for part in parts:
        terms = tuple(places[name] for name in part.terms)
        pair, row = split.pair(part.pair), split.pair(part.row)
        sweep.components.append(Component(pair, row, terms, tuple((part.powers or {}).items())))
    sweep.values = summed_rows(lowered, values.rows, split)
    if not add_fused_sums(
        sweep, lowered, lambda node: linear_parts(substitute(node, weights), atoms)
    ):
        return None
    for scale, chosen in values.chosen:
        scaled = parts_of(scale)
        if scaled is None or len(scaled) > 1:
            return None
        terms = tuple(places[name] for name in scaled[0].terms)
        sweep.histograms.append(_histogram(chosen, scaled[0], terms, split))
    sweep.listed = listed_count(lowered)
    sweep.receives = observes_received(lowered) and weighs_alone(lowered)
    sweep.apart = wanted and not sweep.histograms and _tell_normalisers(lowered, parts)
    return sweep


def _tell_normalisers(lowered: Lowered, parts: list[Part]) -> bool:
    """Tell whether it takes parts' sums, and no more, to know what every normaliser receives."""
    if lowered.single or any(part.powers is None for part in parts):
        return False
    found = {name for part in parts for name in part.powers or ()}
    normalised = {term.name for term in lowered.terms if term.total is not None}
    thresholds = any(term.gain is not None for term in lowered.terms)
    return bool(normalised) and found == normalised and not thresholds


def make_sums_sweep(lowered: Lowered, split: Split) -> RowSweep:
    """Return the sweep that finds row values alone.

    Args:
        lowered: The program.
        split: An empty split, in which numbers of visible keys are known.

    Returns:
        The sweep.

    Raises:
        UnsupportedError: If a kernel cannot do it.
    """
    sweep = RowSweep(split, {})
    for term in lowered.terms:
        sweep.seen[term.name] = split_seen(term, split)
        place = None
        if term.exponents:
            place = len(sweep.terms)
            sweep.terms.append(_shifted(term, split))
        kept = _kept(term)
        for name, body in term.sums.items():
            sweep.sums.append(RowSum(name, split.pair(substitute(body, kept)), place))
    if lowered.finish is not None:
        sweep.sums.append(RowSum("alive", split.pair(select(lowered.seen, ONE))))
    for term in lowered.terms:
        if term.exponents:
            sweep.finals.append((f"m:{term.name}", term.hole("m")))
        if term.inverse is not None:
            sweep.finals.append((f"r:{term.name}", split.pair(term.inverse)))
    return sweep


def make_spread_sweep(lowered: Lowered, split: Split) -> RowSweep:
    """Return the sweep that weighs values when all row values are known.

    Args:
        lowered: The program.
        split: An empty split, in which row values are known.

    Returns:
        The sweep.

    Raises:
        UnsupportedError: If a kernel cannot do it.
    """
    seen = {term.name: split_seen(term, split) for term in lowered.terms}
    parted = part_values(lowered.values)

    def weights(scale: n.Node) -> n.Node:
        return select(lowered.seen, mul(lowered.weights, scale))

    components = [Component(split.pair(weights(parted.scale)), ONE)]
    values = summed_rows(lowered, parted.rows, split)
    sweep = RowSweep(split, seen, components=components, values=values)
    add_spread_sums(sweep, lowered)
    for scale, chosen in parted.chosen:
        sweep.histograms.append(_histogram(chosen, Part(ONE, weights(scale)), (), split))
    return sweep


def make_inverse_sweep(lowered: Lowered, split: Split, bodies: Mapping[str, n.Node]) -> RowSweep:
    """Return the sweep that finds what each normaliser receives.

    Args:
        lowered: The program.
        split: An empty split, in which row values and the summed row's adjoint are known.
        bodies: What each normaliser receives, by hole name, as sums over keys.

    Returns:
        The sweep.

    Raises:
        UnsupportedError: If a kernel cannot do it.
    """
    sweep = RowSweep(split, {term.name: split_seen(term, split) for term in lowered.terms})
    for name, body in bodies.items():
        sweep.sums.append(RowSum(name, split.pair(fold_constants(_over_pairs(body)))))
    return sweep


def _scaled(lowered: Lowered, scale: n.Node) -> n.Node:
    """Return weights times a number of the pair, which may be NaN where it is hidden."""
    return lowered.weights if scale is ONE else select(lowered.seen, mul(lowered.weights, scale))


def _histogram(chosen: n.Gather, part: Part, terms: tuple[int, ...], split: Split) -> Histogram:
    index, pair, row = (split.pair(one) for one in (chosen.indices[0], part.pair, part.row))
    return Histogram(chosen.array, index, pair, row, terms)


def _weight(term: LoweredTerm) -> n.Hole:
    """Return the hole of a softmax's numerator, which is 0 where hidden."""
    return n.Hole(f"p:{term.name}", "bhij")


def _kept(term: LoweredTerm) -> dict[n.Node, n.Node]:
    """Return what the second pass over a row reads from the first: a softmax's score and weight."""
    if term.score is None or not term.exponents:
        return {}
    weight, score = _weight(term), n.Hole(f"kept:{term.name}", "bhij")
    atom = select(term.hole("seen"), term.num)
    return {atom: weight, term.num: weight, term.score: score}


def _shifted(term: LoweredTerm, split: Split) -> ShiftedTerm:
    exponents = tuple(split.pair(exponent) for exponent in term.exponents)
    sink = None if term.sink is None else split.pair(term.sink)
    return ShiftedTerm(term.name, exponents, sink, term.floor_zero, term.score is not None)


def _over_pairs(node: n.Node) -> n.Node:
    """Return what a row expression sums over keys: a kernel sums by itself."""
    match node:
        case n.Reduce() if _sums_keys(node) and "c" not in node.axes:
            return node.body
        case n.Call(op="add"):
            return add(_over_pairs(node.args[0]), _over_pairs(node.args[1]))
        case n.Call(op="mul") if not any(_sums_keys(part) for part in n.walk(node.args[1])):
            return mul(_over_pairs(node.args[0]), node.args[1])
        case n.Call(op="where") if node.args[2] is ZERO:
            return _over_pairs(node.args[1])
        case _:
            raise UnsupportedError("what a normaliser receives is no plain sum over keys")


def _sums_keys(node: n.Node) -> bool:
    return isinstance(node, n.Reduce) and "j" in node.axes
