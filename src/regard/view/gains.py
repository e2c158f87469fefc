"""Gains of contenders on a baseline as one picture: intervals, and a dot for each seed.

Leaves to others: what is shown of them (`customise`).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regard.view import style
from regard.view.fonts import fit_fonts
from regard.view.sheet import Sheet, save

# Inches: the edge, above the first row, a row, below the last one, the widths of three columns.
_EDGE, _TOP, _ROW, _BELOW = 0.15, 0.34, 0.44, 0.5
_NAMES, _AXES, _SAID = 1.75, 3.4, 1.35
_LONGEST = 26


@dataclass(frozen=True)
class Row:
    """One interval.

    Attributes:
        name: Of the contender.
        value: Its gain.
        low: The lower end of the interval.
        high: The upper end.
        seeds: The gain with each seed.
        said: The outcome in words.
        cost: A quiet line below the name, such as its time; may be empty.
    """

    name: str
    value: float
    low: float
    high: float
    seeds: Sequence[float]
    said: str
    cost: str = ""


def draw_gains(
    rows: Sequence[Row],
    metric: str,
    baseline: str,
    margin: float,
    *,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw what contenders gain, a row for each; right of 0 is better.

    Args:
        rows: At least one.
        metric: What is gained in.
        baseline: On what.
        margin: The loss that counts as none, drawn as a band left of 0.
        path: Where to write the picture; the ending says the format: png, svg, pdf.

    Returns:
        The figure.

    Raises:
        FileError: If the picture cannot be written.
    """
    height = len(rows) * _ROW
    sheet = Sheet(2 * _EDGE + _NAMES + _AXES + _SAID, _EDGE + _TOP + height + _BELOW)
    sheet.text(_EDGE, _EDGE + 0.14, f"gain on {baseline}", style.HEADING, weight="bold")
    axes = sheet.axes(_EDGE + _NAMES, _EDGE + _TOP, _AXES, height)
    ends = [end for row in rows for end in (row.low, row.high, *row.seeds, 0.0, -margin)]
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    axes.set_xlim(min(ends) - room, max(ends) + room)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.axvspan(-margin, 0, color=style.HIDDEN_FACE, linewidth=0)
    axes.axvline(0, color=style.INK, linewidth=0.8)
    for place, row in enumerate(rows):
        _draw_row(axes, row, place)
        y = _EDGE + _TOP + (place + 0.5) * _ROW
        name = row.name if len(row.name) <= _LONGEST else f"{row.name[: _LONGEST - 1]}…"
        sheet.text(_EDGE, y + (0 if row.cost else 0.04), name, style.TEXT, weight="bold")
        if row.cost:
            sheet.text(_EDGE, y + 0.13, row.cost, style.SMALL, color=style.QUIET)
        sheet.text(_EDGE + _NAMES + _AXES + 0.12, y + 0.04, row.said, style.TEXT)
    _finish(axes, metric, margin)
    save(sheet.figure, path)
    return sheet.figure


def _draw_row(axes: Axes, row: Row, place: int) -> None:
    clear = row.low > 0 or row.high < 0
    colour = style.SEEN if clear else style.QUIET
    axes.plot([row.low, row.high], [place, place], color=colour, linewidth=2.2)
    axes.plot(row.value, place, "D", color=colour, markersize=5)
    seeds = [place + 0.27] * len(row.seeds)
    axes.plot(list(row.seeds), seeds, "o", color=style.LINE, markersize=2.6, linewidth=0)


def _finish(axes: Axes, metric: str, margin: float) -> None:
    label, family = fit_fonts(f"{metric} gained; dots are seeds" + (
        f"; the band is the margin, {margin:.3g}" if margin else ""
    ))  # fmt: skip
    axes.set_xlabel(label, fontsize=style.SMALL, color=style.QUIET, family=family)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(labelsize=style.SMALL, colors=style.QUIET)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set(linewidth=0.5, color=style.LINE)
