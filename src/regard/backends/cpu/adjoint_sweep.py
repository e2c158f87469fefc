"""Derive the adjoint sweep of a lowered program: what each input receives at a pair.

Before: a lowered program: softmax(q·k).
After: the same split into inputs, dots and channel sums, and the derivative of each.
Leaves to others: writing it (`keysweep`), carrying it on to the leaves (`backward`).
"""

from collections.abc import Iterator
from dataclasses import replace

from regard.backends.cpu.fold import fold_constants
from regard.backends.cpu.keysweep import KeySweep, delta_of
from regard.backends.cpu.seen import Seen
from regard.ir import nodes as n
from regard.ir.types import type_of
from regard.passes.adjoint import SUMMED_GRAD, derive_adjoints
from regard.passes.build import ZERO, substitute
from regard.passes.differentiate import Gradient
from regard.passes.lower import Lowered
from regard.passes.part_rows import part_values
from regard.passes.split_pairs import Input, Split
from regard.passes.statistics import Statistic

# Inputs of which a pair reads the one element that it chooses.
TABLES = ("table", "query_table", "key_table")


def make_key_sweep(
    lowered: Lowered,
    split: Split,
    leaves: tuple[n.Node, ...],
    rows: Gradient,
    watched: tuple[Statistic, ...],
    delta_by_pairs: bool,
) -> KeySweep | None:
    """Return the adjoint sweep.

    Args:
        lowered: The program.
        split: An empty split, in which row values and what normalisers receive are known; not the
            latter if it is found here.
        leaves: Those whose gradient is asked for.
        rows: What row sums receive.
        watched: The observed sums that receive something.
        delta_by_pairs: Whether what the one normaliser receives is found here.

    Returns:
        The sweep, or None if none of the leaves is read at a pair.

    Raises:
        UnsupportedError: If a derivative needs something kernels do not have.
    """
    parted = part_values(lowered.values)
    values = split.summed(parted.rows)
    pairs = _split_lowered(lowered, split, values)
    received = split.pair(parted.dot(SUMMED_GRAD))
    by_value = split.dot(SUMMED_GRAD, parted.rows)
    weights = _split_watched(watched, split)
    wanted = {item for item in split.inputs.values() if _receives(item, leaves)}
    if not wanted:
        return None
    targets = _targets(split, wanted)
    gradient = derive_adjoints(pairs, targets, received=received, watched=weights).pairs
    by_row = _row_adjoints(lowered, rows)

    def at_pair(node: n.Node) -> n.Node:
        return split.pair(fold_constants(substitute(node, by_row)))

    seen = {term.name: Seen(term.where, term.score) for term in pairs.terms}
    sweep = KeySweep(split, seen, wanted=wanted)
    numbers = [one for one in wanted if "c" not in one.hole.axes and one.kind not in TABLES]
    wanted -= {item for item in numbers if item.hole not in gradient.dense}
    # In the order of the inputs, so that equal programs have equal text.
    for item in [one for one in split.inputs.values() if one in numbers and one in wanted]:
        sweep.numbers[item] = at_pair(gradient.dense[item.hole])
    scores = [one.hole for one in [*split.dots.values(), *split.sums.values()]]
    scores.remove(by_value.hole)
    for hole in [hole for hole in scores if hole in gradient.dense]:
        sweep.scores[hole] = at_pair(gradient.dense[hole])
    for item, place, value in _chosen(gradient, sweep):
        sweep.tables.append((item, place, at_pair(value)))
    if values in wanted:
        sweep.value, sweep.weights = by_value, at_pair(gradient.dense[by_value.hole])
    if delta_by_pairs and _reads(sweep, delta_of(lowered.terms[0].name)):
        sweep.delta = by_value.left, split.row(n.SUMMED, "query_row")
    return sweep


def _chosen(
    gradient: Gradient, sweep: KeySweep
) -> Iterator[tuple[Input, n.Gather | n.Pick, n.Node]]:
    """Yield what elements of tables, and of rows that pairs pick from, receive."""
    for array, parts in gradient.indexed.items():
        for indices, value in parts:
            yield sweep.split.inputs[array], n.Gather(array, indices), value
    for rows_of, parts in gradient.picked.items():
        item = next(one for one in sweep.wanted if one.hole is rows_of)
        for index, value in parts:
            yield item, n.Pick(rows_of, index), value


def _row_adjoints(lowered: Lowered, rows: Gradient) -> dict[n.Node, n.Node]:
    """Return what each row sum receives, by the hole that stands for it."""
    names = [name for term in lowered.terms for name in term.sums]
    return {n.Hole("g" + name, "bhi"): rows.dense.get(n.Hole(name, "bhi"), ZERO) for name in names}


def _reads(sweep: KeySweep, hole: n.Hole) -> bool:
    values = [*sweep.scores.values(), *sweep.numbers.values()]
    values += [value for _, _, value in sweep.tables]
    return any(hole in n.walk(value) for value in values)


def _split_lowered(lowered: Lowered, split: Split, values: Input) -> Lowered:
    """Return a lowered program whose pair expressions are split; rows are left as they are."""

    def pair(node: n.Node | None) -> n.Node | None:
        return None if node is None else split.pair(node)

    terms = [
        replace(
            term,
            where=pair(term.where),
            score=pair(term.score),
            num=split.pair(term.num),
            sums={name: split.pair(body) for name, body in term.sums.items()},
        )
        for term in lowered.terms
    ]
    return replace(
        lowered,
        terms=tuple(terms),
        weights=split.pair(lowered.weights),
        clean_weights=split.pair(lowered.clean_weights),
        seen=split.pair(lowered.seen),
        values=values.hole,
        finish=None,
        rows={},
    )


def _split_watched(watched: tuple[Statistic, ...], split: Split) -> tuple[Statistic, ...]:
    """Return observed sums whose weights are split."""
    return tuple(
        replace(one, weight=split.pair(one.weight), seen=split.pair(one.seen)) for one in watched
    )


def _receives(item: Input, leaves: tuple[n.Node, ...]) -> bool:
    """Tell whether an input is real and made of a wanted leaf."""
    if item.kind == "threshold" or type_of(item.node).kind in ("bool", "int"):
        return False
    within = set(n.walk(item.node))
    return any(leaf in within for leaf in leaves)


def _targets(split: Split, wanted: set[Input]) -> set[n.Node]:
    """Return the holes and tables whose derivative is asked for."""
    found: set[n.Node] = set()
    for item in wanted:
        if item.kind == "table":
            found.add(item.node)
        elif "c" not in item.hole.axes or item.kind in TABLES:
            found.add(item.hole)
    for dot in split.dots.values():
        if {dot.left, dot.right} & wanted:
            found.add(dot.hole)
    for one in split.sums.values():
        if set(one.inputs) & wanted:
            found.add(one.hole)
    return found
