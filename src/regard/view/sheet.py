"""A sheet of paper measured in inches from its top left corner, and the marks every picture shares.

Uses `Figure` directly: no pyplot, no global state, safe in threads and servers.
Leaves to others: what stands where (`picture`, `alignment`).
"""

import os

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from regard.errors import FileError
from regard.view import style
from regard.view.fonts import fit_fonts

_HATCH_STEP = 0.045
# Up to this many rows, cells are told apart by thin white lines.
_CELLS_WITH_LINES = 16


class Sheet:
    """A figure of a fixed size, on which everything is placed in inches.

    Args:
        width: In inches.
        height: In inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.figure = Figure(figsize=(width, height), dpi=style.DPI, facecolor="white")
        FigureCanvasAgg(self.figure)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Return axes whose top left corner is at (x, y)."""
        box = (x / self.width, 1 - (y + height) / self.height)
        return self.figure.add_axes((*box, width / self.width, height / self.height))

    def text(self, x: float, y: float, text: str, size: float = style.TEXT, **more) -> None:
        """Write text with its baseline at (x, y); a dollar sign is one, unless `math` is true."""
        math = more.pop("math", False)
        options = {"color": style.INK, "va": "baseline", "ha": "left", "parse_math": math, **more}
        if math:
            options["math_fontfamily"] = style.MATH_FONT
        elif "family" not in options:
            text, options["family"] = fit_fonts(text)
        self.figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, **options)

    def swatch(self, x: float, y: float, label: str, hidden: bool) -> None:
        """Draw an explained square with its top left corner at (x, y)."""
        side = 0.11
        axes = self.axes(x, y, side, side)
        bare(axes, style.LINE)
        if hidden:
            hatch(axes, side, side)
        else:
            axes.set_facecolor(style.SEEN)
        self.text(x + side + 0.05, y + side - 0.02, label, style.SMALL, color=style.QUIET)


def save(figure: Figure, path: str | os.PathLike | None) -> None:
    """Write a figure to a file, if there is one.

    Args:
        figure: The figure.
        path: Where; the ending says the format: png, svg, pdf. None writes nothing.

    Raises:
        FileError: If it cannot be written.
    """
    if path is None:
        return
    try:
        figure.savefig(path, dpi=style.DPI)
    except (OSError, ValueError) as problem:
        raise FileError(f"{path}: {problem}") from None


def bare(axes: Axes, edge: str) -> None:
    """Remove ticks and leave a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(linewidth=0.5, color=edge)


def hatch(axes: Axes, width: float, height: float) -> None:
    """Fill axes of a size in inches with the pattern of hidden pairs."""
    axes.set_facecolor(style.HIDDEN_FACE)
    starts = np.arange(-height, width, _HATCH_STEP)
    lines = [((s / width, 0.0), ((s + height) / width, 1.0)) for s in starts]
    pattern = LineCollection(
        lines, colors=style.HIDDEN_LINE, linewidths=0.45, transform=axes.transAxes, zorder=0.5
    )
    pattern.set_clip_path(axes.patch)
    axes.add_collection(pattern, autolim=False)


def draw_map(
    axes: Axes,
    values: np.ndarray,
    hidden: np.ndarray,
    cmap: Colormap,
    norm: Normalize,
    label: str = "",
) -> None:
    """Draw numbers of pairs, queries downwards and keys to the right, hidden pairs hatched.

    Args:
        axes: Where.
        values: (N, M).
        hidden: bool (N, M).
        cmap: The colours.
        norm: Their scale.
        label: What the map is called by programs that read the figure.
    """
    rows, columns = values.shape
    if hidden.any():
        hatch(axes, axes.bbox.width / style.DPI, axes.bbox.height / style.DPI)
    shown = np.ma.masked_array(values, hidden)
    # Cells larger than a pixel keep sharp edges; smaller ones are averaged.
    sharp = axes.bbox.width >= columns and axes.bbox.height >= rows
    axes.imshow(
        shown, cmap=cmap, norm=norm, aspect="auto", zorder=1,
        interpolation="nearest" if sharp else "antialiased",
        extent=(-0.5, columns - 0.5, rows - 0.5, -0.5),
    )  # fmt: skip
    axes.set_label(label)
    bare(axes, style.LINE)
    if max(rows, columns) <= _CELLS_WITH_LINES:
        edges = [np.arange(size - 1) + 0.5 for size in (rows, columns)]
        axes.hlines(edges[0], -0.5, columns - 0.5, color="white", linewidth=0.6, zorder=2)
        axes.vlines(edges[1], -0.5, rows - 0.5, color="white", linewidth=0.6, zorder=2)


def number_axes(axes: Axes, queries: bool = True, keys: bool = True, named: bool = True) -> None:
    """Label the axes with positions: query i downwards, key j to the right.

    Args:
        axes: A map's.
        queries: Whether the queries are numbered.
        keys: Whether the keys are.
        named: Whether the axes say which is which.
    """
    for wanted, axis, name in ((queries, axes.yaxis, "query $i$"), (keys, axes.xaxis, "key $j$")):
        if wanted:
            axis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 4, 8, 10]))
        if wanted and named:
            axis.set_label_text(
                name, fontsize=style.TEXT, color=style.INK, math_fontfamily=style.MATH_FONT
            )
            axis.labelpad = 2
    axes.tick_params(
        labelsize=style.SMALL,
        labelcolor=style.QUIET,
        color=style.LINE,
        width=0.5,
        length=2,
        pad=1.5,
    )


def colour_bar(axes: Axes, cmap: Colormap, norm: Normalize, low: float, high: float) -> None:
    """Draw the scale of a map upwards, from low to high.

    Args:
        axes: Where.
        cmap: The colours.
        norm: Their scale.
        low: The smallest value drawn; the scale may reach further.
        high: The largest.
    """
    bar = axes.figure.colorbar(ScalarMappable(norm, cmap), cax=axes)
    axes.set_ylim(low, high)
    bar.outline.set(linewidth=0.5, edgecolor=style.LINE)  # type: ignore[operator]
    bar.locator = FixedLocator(style.round_ticks(norm, low, high))
    bar.formatter = FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−"))
    bar.update_ticks()
    axes.minorticks_off()
    axes.tick_params(
        labelsize=style.SMALL,
        labelcolor=style.QUIET,
        color=style.LINE,
        width=0.5,
        length=2,
        pad=1.5,
    )
