"""A search for settings as one picture: its trials in order, and by the value of each setting.

Leaves to others: what was tried (`train`).
"""

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from regard.view import style
from regard.view.sheet import save

_SIDE, _COLUMNS = 2.4, 3
# Finished trials: number, value, settings.
Point = tuple[int, float, Mapping[str, Any]]


def draw_search(
    points: Sequence[Point],
    metric: str,
    best: int,
    logarithmic: Collection[str] = (),
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw the trials of a search.

    Args:
        points: For each trial that finished its number, its value and its settings.
        metric: What the value is.
        best: The number of the best trial, which is marked.
        logarithmic: Settings whose axis is logarithmic.
        path: Where to write the picture; None writes nothing.

    Returns:
        The figure.
    """
    keys = list(points[0][2])
    panels = 1 + len(keys)
    columns = min(panels, _COLUMNS)
    rows = -(-panels // columns)
    figure = Figure(figsize=(columns * _SIDE * 1.25, rows * _SIDE), layout="constrained")
    for place in range(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        values = [one[0] if place == 0 else one[2][keys[place - 1]] for one in points]
        name = "trial" if place == 0 else keys[place - 1]
        _scatter(axes, values, points, best)
        axes.set_xlabel(name, fontsize=style.TEXT, color=style.INK)
        if name in logarithmic:
            axes.set_xscale("log")
        if place % columns == 0:
            axes.set_ylabel(metric, fontsize=style.TEXT, color=style.INK)
    save(figure, path)
    return figure


def _scatter(axes: Axes, values: list[Any], points: Sequence[Point], best: int) -> None:
    """Draw one dot a trial; what is no number stands side by side, as text."""
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
        names = sorted({_text(one) for one in values})
        places = [names.index(_text(one)) for one in values]
        axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
        axes.set_xlim(-0.5, len(names) - 0.5)
    else:
        places = values
        if all(isinstance(one, int) for one in values):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for x, (number, y, _) in zip(places, points, strict=True):
        mark = {"marker": "D", "s": 42} if number == best else {"marker": "o", "s": 16}
        axes.scatter(x, y, color=style.INK if number == best else style.SEEN, **mark)
    axes.tick_params(labelsize=style.SMALL, colors=style.QUIET)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(linewidth=0.5, color=style.LINE)


def _text(value: Any) -> str:
    """Return a value as a short label: of a path, its end."""
    if isinstance(value, dict):
        return " ".join(str(one).rpartition("/")[2] for one in value.values())
    return "plain" if value is None else str(value).rpartition("/")[2]
