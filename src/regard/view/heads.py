"""Heads of attention: their statistics over training, and the weights of each for one text.

Leaves to others: where the numbers come from.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from regard.errors import InputError
from regard.view import style
from regard.view.sheet import Sheet, bare, draw_map, save

# Inches.
_EDGE, _TITLE, _NAME, _LEFT, _BELOW = 0.14, 0.3, 0.2, 0.42, 0.3
_WIDTH, _HEIGHT, _APART = 1.35, 0.95, 0.16
_PER_ROW = 6
_MAP, _MAP_APART, _MAP_LEFT = 0.62, 0.06, 0.52
# More heads than these are not told apart by their numbers.
_NUMBERED = 4

# By (role, layer): for each head its values, a list as long as the steps.
Curves = Mapping[tuple[str, int], Sequence[Sequence[float]]]


def draw_head_curves(
    steps: Sequence[int],
    curves: Curves,
    noun: str = "entropy (nats)",
    *,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw a statistic of every head over training, a panel for each layer.

    Args:
        steps: When it was measured.
        curves: By role and layer, for each head its values at these steps.
        noun: What was measured.
        path: Where to write the picture; the ending says the format: png, svg, pdf.

    Returns:
        The figure.

    Raises:
        InputError: If there is nothing to draw, or a head has not a value for each step.
        FileError: If the picture cannot be written.
    """
    if not steps or not curves:
        raise InputError("there are no heads to draw; give steps and curves")
    for (role, layer), heads in curves.items():
        if any(len(values) != len(steps) for values in heads):
            raise InputError(f"{role}, layer {layer}: a head needs {len(steps)} values, one a step")
    figure = _Curves(steps, curves, noun).draw()
    save(figure, path)
    return figure


class _Curves:
    """Places a row of panels for each role, broken where it grows too long."""

    def __init__(self, steps: Sequence[int], curves: Curves, noun: str) -> None:
        self.steps, self.curves, self.noun = steps, curves, noun
        self.rows: list[list[tuple[str, int]]] = []
        for role in dict.fromkeys(role for role, _ in curves):
            own = [key for key in curves if key[0] == role]
            self.rows += [own[at : at + _PER_ROW] for at in range(0, len(own), _PER_ROW)]
        every = [value for heads in curves.values() for values in heads for value in values]
        self.low, self.high = min(0.0, *every), max(every) * 1.05 or 1.0

    def draw(self) -> Figure:
        """Return the figure."""
        columns = max(map(len, self.rows))
        step_x, step_y = _WIDTH + _APART, _HEIGHT + _NAME + 0.12
        width = _EDGE + _LEFT + columns * step_x + _EDGE
        # The title may be wider than one panel.
        sheet = Sheet(max(width, 3.6), _EDGE + _TITLE + len(self.rows) * step_y + _BELOW)
        sheet.text(_EDGE, _EDGE + 0.13, f"{self.noun} of every head", style.HEADING, weight="bold")
        said = "training step; the darker a head, the higher its number"
        for row, keys in enumerate(self.rows):
            for column, key in enumerate(keys):
                x = _EDGE + _LEFT + column * step_x
                y = _EDGE + _TITLE + row * step_y + _NAME
                axes = sheet.axes(x, y, _WIDTH, _HEIGHT)
                sheet.text(x, y - 0.05, f"{key[0]}, layer {key[1]}", style.SMALL, color=style.QUIET)
                last = row == len(self.rows) - 1
                self._panel(axes, self.curves[key], left=column == 0, bottom=last)
        under = sheet.height - 0.08
        sheet.text(_EDGE + _LEFT, under, said, style.SMALL, color=style.QUIET)
        return sheet.figure

    def _panel(
        self, axes: Axes, heads: Sequence[Sequence[float]], left: bool, bottom: bool
    ) -> None:
        bare(axes, style.LINE)
        for head, values in enumerate(heads):
            # Dark enough to be seen on white, from the first head to the last.
            shade = style.WEIGHTS_MAP(0.4 + 0.6 * head / max(1, len(heads) - 1))
            mark = "o" if len(values) == 1 else None
            axes.plot(self.steps, values, color=shade, linewidth=1.1, marker=mark, markersize=2)
        axes.set_ylim(self.low, self.high)
        # Room for the numbers of the heads behind their curves.
        span = (self.steps[-1] - self.steps[0]) or 1
        axes.set_xlim(self.steps[0] - 0.02 * span, self.steps[-1] + 0.14 * span)
        if len(heads) <= _NUMBERED:
            self._number(axes, [values[-1] for values in heads], self.steps[-1] + 0.03 * span)
        if left:
            axes.yaxis.set_major_locator(MaxNLocator(4))
        if bottom:
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.tick_params(
            labelsize=style.SMALL, labelcolor=style.QUIET, color=style.LINE, width=0.5, length=2,
            pad=1.5,
        )  # fmt: skip

    def _number(self, axes: Axes, ends: Sequence[float], x: float) -> None:
        """Write each head's number behind its curve, none upon another."""
        apart = 0.105 * (self.high - self.low)
        order = sorted(range(len(ends)), key=lambda one: ends[one])
        places: list[float] = []
        for head in order:
            places.append(max([ends[head], *(place + apart for place in places[-1:])]))
        beyond = max(0.0, places[-1] + apart / 2 - self.high)
        for head, y in zip(order, places, strict=True):
            axes.text(x, y - beyond, str(head), fontsize=5.5, color=style.QUIET, va="center")


def draw_head_maps(
    maps: Sequence[np.ndarray], title: str = "", *, path: str | os.PathLike | None = None
) -> Figure:
    """Draw the weights of every head for one text: layers downwards, heads to the right.

    Args:
        maps: Of each layer (H, N, M).
        title: A line above them.
        path: Where to write the picture; the ending says the format: png, svg, pdf.

    Returns:
        The figure.

    Raises:
        InputError: If there is nothing to draw, or a weight is no finite number.
        FileError: If the picture cannot be written.
    """
    if not maps or not all(layer.size and np.isfinite(layer).all() for layer in maps):
        raise InputError("maps of heads are finite weights (H, N, M), one array a layer")
    heads, step = max(map(len, maps)), _MAP + _MAP_APART
    width = max(_EDGE + _MAP_LEFT + heads * step + _EDGE, 3.6)
    sheet = Sheet(width, _EDGE + _TITLE + _NAME + len(maps) * step + _EDGE)
    sheet.text(_EDGE, _EDGE + 0.13, title, style.HEADING, weight="bold")
    for layer, weights in enumerate(maps):
        y = _EDGE + _TITLE + _NAME + layer * step
        sheet.text(_EDGE, y + _MAP / 2, f"layer {layer}", style.SMALL, color=style.QUIET)
        for head, values in enumerate(weights):
            x = _EDGE + _MAP_LEFT + head * step
            if layer == 0:
                sheet.text(x, y - 0.05, f"head {head}", style.SMALL, color=style.QUIET)
            colours = style.colours(values.min(), values.max(), float(np.abs(values).mean()))
            axes = sheet.axes(x, y, _MAP, _MAP)
            draw_map(axes, values, np.zeros(values.shape, bool), *colours, f"head {layer}.{head}")
    save(sheet.figure, path)
    return sheet.figure


def pixels(figure: Figure) -> np.ndarray:
    """Return a figure as an image.

    Args:
        figure: Of this module.

    Returns:
        uint8 (height, width, 3).
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
