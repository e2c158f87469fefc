"""Derive the adjoint sweep of a lowered program: what each input receives at a pair.

Before: a lowered program: softmax(q·k).
After: the same split into inputs, dots and channel sums, and the derivative of each.
Leaves to others: writing it (`keysweep`), carrying it on to the leaves (`backward`).
"""

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

# Inputs of which a pair reads the one element that it chooses.
TABLES = ("table", "query_table", "key_table")


def make_key_sweep(
    lowered: Lowered, split: Split, leaves: tuple[n.Node, ...], rows: Gradient
) -> KeySweep | None:
    """Return the adjoint sweep.

    Args:
        lowered: The program.
        split: An empty split, in which row values and what normalisers receive are known; not the
            latter if the weights are a single term, whose adjoint follows from the summed row.
        leaves: Those whose gradient is asked for.
        rows: What row sums receive.

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
    wanted = {item for item in split.inputs.values() if _receives(item, leaves)}
    if not wanted:
        return None
    gradient = derive_adjoints(pairs, _targets(split, wanted), received=received).pairs
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
    for array, parts in gradient.indexed.items():
        for indices, value in parts:
            place = n.Gather(array, indices)
            sweep.tables.append((split.inputs[array], place, at_pair(value)))
    for rows_of, parts in gradient.picked.items():
        item = next(one for one in wanted if one.hole is rows_of)
        sweep.tables += [(item, n.Pick(rows_of, index), at_pair(value)) for index, value in parts]
    if values in wanted:
        sweep.value, sweep.weights = by_value, at_pair(gradient.dense[by_value.hole])
    if lowered.single and _reads(sweep, delta_of(lowered.terms[0].name)):
        sweep.delta = by_value.left, split.row(n.SUMMED, "query_row")
    return sweep


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
