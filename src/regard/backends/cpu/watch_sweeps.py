"""Derive the sweeps of what is observed: sums beside the output's where they fit, else their own.

Before: the mass of each class of keys and the mean distance, of softmax(q·k).
After: in the output's sweep, values with a column for each class behind them, and a row sum of
p:a · |i - j| that r:a is multiplied with at the end.
Leaves to others: which sums (`passes/statistics`), running them (`watch`).
"""

import math
from collections.abc import Callable

from regard.backends.cpu.keysweep import KeySweep
from regard.backends.cpu.ranksweep import RankSweep, make_weight_sweep
from regard.backends.cpu.rowsweep import Component, RowSum, RowSweep
from regard.backends.cpu.seen import split_seen
from regard.ir import nodes as n
from regard.ir.observed import parse
from regard.passes.build import ONE, ZERO, add, call, mul, select
from regard.passes.linear_weights import Part
from regard.passes.lower import Lowered
from regard.passes.part_rows import part_values
from regard.passes.split_pairs import Input, Split, row_kind
from regard.passes.statistics import Statistic

# The values of a call with the columns of classes behind them, and these columns alone.
APPENDED, COLUMNS = n.Hole("appended:values", "bhjc"), n.Hole("columns:all", "bhjc")
# `FEW` in template/largest.h.
_MOST_LISTED = 32
# A factor of 1 of each key.
ONES = n.Hole("ones:keys", "bhj")
# Weights as a sum of parts, times a number of the pair; None if they are no such sum.
Parts = Callable[[n.Node], list[Part] | None]


def classes(lowered: Lowered) -> list[Statistic]:
    """Return the statistics that are columns of keys, in order."""
    return [one for one in lowered.statistics if "c" in one.axes]


def appends_columns(lowered: Lowered) -> bool:
    """Tell whether columns of keys are summed behind the values, with the same weights."""
    values = part_values(lowered.values)
    return bool(classes(lowered)) and weighs_alone(lowered) and row_kind(values.rows) == "key_row"


def weighs_alone(lowered: Lowered) -> bool:
    """Tell whether values are weighed with what is observed of weights, and nothing else.

    Args:
        lowered: The program.

    Returns:
        Whether neither dropout nor a factor of values comes between.
    """
    plain = lowered.clean_weights is lowered.weights
    return plain and part_values(lowered.values).scale is ONE


def observes_received(lowered: Lowered) -> bool:
    """Tell whether what each key receives is observed.

    Args:
        lowered: The program.

    Returns:
        Whether it is.
    """
    return any(one.axes == "bhj" for one in lowered.statistics)


def summed_rows(lowered: Lowered, rows: n.Node, split: Split) -> Input:
    """Return the input whose rows are summed over keys, with columns behind them if they fit.

    Args:
        lowered: The program.
        rows: A row of each key.
        split: The sweep's split.

    Returns:
        The input.
    """
    return split.summed(APPENDED if appends_columns(lowered) else rows)


def add_fused_sums(
    sweep: RowSweep, lowered: Lowered, parts_of: Callable[[n.Node], list[Part] | None]
) -> bool:
    """Add the observed row sums to the sweep that finds row values and output at once.

    Args:
        sweep: The sweep.
        lowered: The program.
        parts_of: Writes a pair expression of weights as a sum of parts.

    Returns:
        Whether all that are linear in the weights were added; the others are left for later.
    """
    places = {term.name: k for k, term in enumerate(sweep.terms)}
    split = sweep.split
    for one in _of_rows(lowered):
        parts = parts_of(one.body)
        if parts is None and one.linear:
            return False
        total: n.Node = ZERO
        for number, part in enumerate(parts or ()):
            if len(part.terms) > 1:
                return False
            place = places[part.terms[0]] if part.terms else None
            name = n.Hole(f"part{number}:{one.name}", "bhi")
            sweep.sums.append(RowSum(name.name, split.pair(part.pair), place))
            total = add(total, mul(split.pair(part.row), name))
        if parts is not None:
            sweep.finals.append((one.hole.name, total))
    return True


def add_spread_sums(sweep: RowSweep, lowered: Lowered) -> None:
    """Add the observed row sums to the sweep that weighs values, when all row values are known.

    Args:
        sweep: The sweep.
        lowered: The program.
    """
    for one in _of_rows(lowered):
        sweep.sums.append(RowSum(one.hole.name, sweep.split.pair(one.body)))


def listed_count(lowered: Lowered) -> int:
    """Return how many of the largest scores of each row the output's sweep lists.

    Args:
        lowered: The program.

    Returns:
        As many as the largest weights that are observed; 0 where no score ranks them as the
        weights do, or where they are too many to be kept in order.
    """
    most = max(_top_sizes(lowered), default=0)
    if ranked_score(lowered) is None or len(lowered.terms[0].exponents) != 1:
        return 0
    return most if most <= _MOST_LISTED else 0


def make_later_sweep(lowered: Lowered, found: set[str], split: Split) -> RowSweep | None:
    """Return the sweep of what no earlier one sums.

    Args:
        lowered: The program.
        found: The names of the row values that earlier sweeps find.
        split: An empty split, in which row values and observed sums are known.

    Returns:
        The sweep, or None if nothing is left.
    """
    missing = [one for one in lowered.statistics if one.axes == "bhi"]
    missing = [one for one in missing if one.hole.name not in found]
    columns = bool(classes(lowered)) and not appends_columns(lowered)
    if not missing and not columns:
        return None
    sweep = RowSweep(split, {term.name: split_seen(term, split) for term in lowered.terms})
    for one in missing:
        sweep.sums.append(RowSum(one.hole.name, split.pair(one.body)))
    if columns:
        weights = split.pair(select(lowered.seen, lowered.clean_weights))
        sweep.components.append(Component(weights, ONE))
        sweep.values = split.summed(COLUMNS)
    return sweep


def make_received_sweep(lowered: Lowered, split: Split) -> KeySweep | None:
    """Return the sweep that finds what each key received: what a factor of 1 of it would.

    Args:
        lowered: The program.
        split: An empty split, in which row values are known.

    Returns:
        The sweep, or None if it is not observed.
    """
    if not observes_received(lowered):
        return None
    weights = split.pair(select(lowered.seen, lowered.clean_weights))
    seen = {term.name: split_seen(term, split) for term in lowered.terms}
    ones = split.row(ONES, "key")
    return KeySweep(split, seen, numbers={ones: weights}, wanted={ones})


def make_top_sweep(lowered: Lowered, split: Split) -> RankSweep | None:
    """Return the sweep that finds the largest weights of each query row.

    Args:
        lowered: The program.
        split: An empty split, in which row values are known.

    Returns:
        The sweep, or None if they are not observed.
    """
    sizes = _top_sizes(lowered)
    if not sizes:
        return None
    seen = {term.name: split_seen(term, split) for term in lowered.terms}
    ranked = ranked_score(lowered) or lowered.clean_weights
    weight = call("where", lowered.seen, ranked, -math.inf)
    return make_weight_sweep(split.pair(weight), seen, max(sizes), split)


def ranked_score(lowered: Lowered) -> n.Node | None:
    """Return the score that ranks pairs as the weights do, where these are one softmax.

    Args:
        lowered: The program.

    Returns:
        The score; None if weights are more than a softmax.
    """
    if len(lowered.terms) != 1 or lowered.terms[0].inverse is None:
        return None
    term = lowered.terms[0]
    alone = mul(select(term.hole("seen"), term.num), term.hole("r"))
    match term.num:
        case n.Call(op="exp", args=(exponent,)) if alone is lowered.clean_weights:
            return exponent
    return None


def _top_sizes(lowered: Lowered) -> list[int]:
    """Return how many of the largest weights each name asks for."""
    return [parse(one.name).size for one in lowered.statistics if "k" in one.axes]


def _of_rows(lowered: Lowered) -> list[Statistic]:
    """Return the row sums that read no others."""
    return [one for one in lowered.statistics if one.axes == "bhi" and not one.reads_others]
