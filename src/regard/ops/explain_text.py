"""An explanation as text, and its block plan as a picture of characters.

Leaves to others: what is explained (`explain`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn.functional import pad

from regard.backends.base import BlockPlan
from regard.backends.values.blocks import EMPTY, FULL, MIXED

if TYPE_CHECKING:
    from regard.ops.explain import Explanation

# What a place of the picture shows: all of its blocks are empty, full, or else.
_EMPTY, _FULL, _MIXED = "·", "█", "▒"
_MOST_ROWS, _MOST_COLUMNS = 24, 48
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True)
class PlanSummary:
    """Which blocks of pairs are visited.

    Attributes:
        rows: Query rows of a block.
        keys: Key rows of a block.
        empty: How many blocks are skipped.
        full: How many are computed without asking the mask.
        mixed: How many are computed with it.
        visited: The share of blocks that are not skipped.
        differs: What the plan differs along: "batch rows", "heads".
        picture: A row of characters for each few blocks of queries of the first batch row and head.
    """

    rows: int
    keys: int
    empty: int
    full: int
    mixed: int
    visited: float
    differs: tuple[str, ...]
    picture: tuple[str, ...]


def summarise_plan(plan: BlockPlan) -> PlanSummary:
    """Count a plan's blocks and draw it.

    Args:
        plan: The plan.

    Returns:
        The summary.
    """
    codes = plan.codes
    empty, full, mixed = (int((codes == code).sum()) for code in (EMPTY, FULL, MIXED))
    axes = zip(("batch rows", "heads"), codes.shape, strict=False)
    return PlanSummary(
        rows=plan.rows,
        keys=plan.keys,
        empty=empty,
        full=full,
        mixed=mixed,
        visited=(full + mixed) / max(1, codes.numel()),
        differs=tuple(name for name, size in axes if size > 1),
        picture=_picture(codes[0, 0]) if codes.numel() else (),
    )


def _picture(codes: Tensor) -> tuple[str, ...]:
    """Return a plan's picture, several blocks to a character where there are many."""
    rows, columns = codes.shape
    down, across = -(-rows // _MOST_ROWS), -(-columns // _MOST_COLUMNS)
    # What lies beyond the last block is like it.
    codes = codes[None].float()
    codes = pad(codes, (0, -columns % across, 0, -rows % down), mode="replicate")[0]
    places = codes.unfold(0, down, down).unfold(1, across, across).flatten(2)
    least, most = places.amin(2), places.amax(2)
    shown = {EMPTY: _EMPTY, FULL: _FULL, MIXED: _MIXED}
    return tuple(
        "".join(shown[int(a)] if a == b else _MIXED for a, b in zip(low, high, strict=True))
        for low, high in zip(least, most, strict=True)
    )


def explanation_text(told: "Explanation") -> str:
    """Return an explanation as text.

    Args:
        told: The explanation.

    Returns:
        Lines.
    """
    measured = told.routed_ms.get(told.backend)
    by = "" if measured is None else f", measured: {measured:.3g} ms for calls like this"
    lines = [told.formula, f"runs on: {told.backend}{by}"]
    lines += [f"  not {name}: {why}" for name, why in told.otherwise.items()]
    lines.append("sizes: " + ", ".join(f"{letter} {size}" for letter, size in told.sizes.items()))
    if told.imagined:
        lines.append(f"not given, so zeros here: {', '.join(told.imagined)}")
    if told.gathered is not None:
        lines.append(f"keys: {told.gathered:,} are gathered; the others no query sees")
    lines += [f"sweep {place}: {what}" for place, what in enumerate(told.sweeps, 1)]
    threaded = told.backend == "cpu"
    if told.tile is not None:
        heads = "all heads at once" if told.tile_heads > 1 else "one head at a time"
        lines.append(f"tiles: {told.tile[0]} queries x {told.tile[1]} keys, {heads}")
    at_once, dense = told.pair_numbers
    lines.append(
        f"numbers per pair-level value: {at_once:,} at once{' in each thread' * threaded}, "
        f"{dense:,} if it were dense"
    )
    for name, shifted in told.shifted.items():
        how = (
            "shifted by the row's largest exponent"
            if shifted
            else "not shifted: no row maximum is taken"
        )
        lines.append(f"term {name}: {how}")
    lines += [] if told.plan is None else _plan_lines(told.plan)
    return "\n".join([*lines, *_cost_lines(told)])


def _plan_lines(plan: PlanSummary) -> list[str]:
    blocks = plan.empty + plan.full + plan.mixed
    first = f"; drawn: the first of {' and '.join(plan.differs)}" if plan.differs else ""
    return [
        f"blocks: {blocks:,} of {plan.rows} queries x {plan.keys} keys: {plan.empty:,} empty, "
        f"{plan.full:,} full, {plan.mixed:,} mixed; {plan.visited:.1%} are visited{first}",
        *(f"  {row}" for row in plan.picture),
    ]


def _cost_lines(told: "Explanation") -> list[str]:
    lines = []
    if told.work is not None:
        counted = (
            (told.work["products"], "multiply-adds"),
            (told.work["functions"], "exponentials"),
            (told.work["operations"], "other operations"),
            (told.work["bytes"], "bytes moved"),
        )
        lines.append("work: " + ", ".join(f"{_short(count)} {what}" for count, what in counted))
    predicted = told.predicted_ms.get(told.backend)
    if predicted is not None:
        lines.append(f"predicted: {predicted:.3g} ms, at {told.prices[told.backend]}")
        others = [(name, ms) for name, ms in told.predicted_ms.items() if name != told.backend]
        lines += [f"  {name}: {ms:.3g} ms" for name, ms in others]
    elif told.work is None:
        lines.append(f"predicted: nothing; what backend '{told.backend}' computes is not counted")
    else:
        lines.append("predicted: nothing before rg.measure_machine() has measured this machine")
    if told.measured_ms is not None:
        beside = f", {told.measured_ms / predicted:.2f} of the prediction" if predicted else ""
        lines.append(f"measured: {told.measured_ms:.3g} ms{beside}")
    return lines


def _short(count: float) -> str:
    """Return a number in three digits."""
    for size, unit in _UNITS:
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"
