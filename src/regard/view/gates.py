"""The course of gates as one picture: for each layer and group of heads the shares of candidates.

Leaves to others: where the shares come from.
"""

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regard.errors import InputError
from regard.view import style
from regard.view.sheet import Sheet, bare, save

# Inches.
_EDGE, _TITLE, _NAME, _LEFT, _APART, _LINE = 0.14, 0.3, 0.2, 0.95, 0.07, 0.17
_WIDTH, _HEIGHT, _WIDEST, _NARROWEST = 0.9, 0.5, 11.0, 4.0
_LETTER = 0.055


def draw_gates(
    course: Iterable[Mapping[str, str]], *, path: str | os.PathLike | None = None
) -> Figure:
    """Draw shares over training steps: a row for each layer, a panel for each gate.

    Args:
        course: Rows with `step`, `role`, `layer`, `heads`, `candidate` and `share`.
        path: Where to write the picture; the ending says the format: png, svg, pdf.

    Returns:
        The figure.

    Raises:
        InputError: If there is nothing to draw.
        FileError: If the picture cannot be written.
    """
    steps: list[int] = []
    layers: dict[tuple[str, str], dict[str, dict[str, dict[int, float]]]] = {}
    for row in course:
        step = int(row["step"])
        if not steps or steps[-1] != step:
            steps.append(step)
        gates = layers.setdefault((row["role"], row["layer"]), {})
        shares = gates.setdefault(row["heads"], {})
        shares.setdefault(row["candidate"], {})[step] = float(row["share"])
    if not steps:
        raise InputError("there are no gates to draw; the course has no row")
    figure = _draw(steps, layers)
    save(figure, path)
    return figure


def _draw(steps: Sequence[int], layers: Mapping) -> Figure:
    every = (name for gates in layers.values() for one in gates.values() for name in one)
    names = list(dict.fromkeys(every))
    shades = style.BIAS_MAP(np.linspace(0.0, 1.0, max(2, len(names))))
    colours = dict(zip(names, shades, strict=False))
    most = max(map(len, layers.values()))
    panel = min(_WIDTH, (_WIDEST - _LEFT) / most - _APART)
    width = max(_NARROWEST, _EDGE + _LEFT + most * (panel + _APART) + _EDGE)
    legend = _lines_of(names, width - 2 * _EDGE)
    top = _EDGE + _TITLE + len(legend) * _LINE + _NAME
    sheet = Sheet(width, top + len(layers) * (_HEIGHT + _APART) + _NAME + _EDGE)
    sheet.text(_EDGE, _EDGE + 0.13, "shares of each head's gate", style.HEADING, weight="bold")
    for number, line in enumerate(legend):
        for x, name in line:
            y = _EDGE + _TITLE + number * _LINE - 0.05
            bare(axes := sheet.axes(_EDGE + x, y, 0.11, 0.11), style.LINE)
            axes.set_facecolor(colours[name])
            sheet.text(_EDGE + x + 0.16, y + 0.09, name, style.SMALL, color=style.QUIET)
    for row, ((role, layer), gates) in enumerate(layers.items()):
        y = top + row * (_HEIGHT + _APART)
        sheet.text(_EDGE, y + _HEIGHT / 2, f"{role}, {layer}", style.SMALL, color=style.QUIET)
        for column, (heads, shares) in enumerate(gates.items()):
            x = _EDGE + _LEFT + column * (panel + _APART)
            if row == 0:
                sheet.text(x, y - 0.05, heads, style.SMALL, color=style.QUIET)
            _panel(sheet.axes(x, y, panel, _HEIGHT), steps, shares, colours)
    sheet.text(_EDGE, top - 0.05, "role, layer; heads:", style.SMALL, color=style.QUIET)
    said = f"training steps {steps[0]:,} to {steps[-1]:,}"
    sheet.text(_EDGE + _LEFT, sheet.height - 0.1, said, style.SMALL, color=style.QUIET)
    return sheet.figure


def _panel(
    axes: Axes, steps: Sequence[int], shares: Mapping[str, Mapping[int, float]], colours: Mapping
) -> None:
    """Stack the shares of one gate, the first candidate at the bottom."""
    bare(axes, style.LINE)
    heights = [[values.get(step, 0.0) for step in steps] for values in shares.values()]
    # One step alone is drawn as an area, too.
    wide = list(steps) if len(steps) > 1 else [steps[0], steps[0] + 1]
    heights = [one if len(one) > 1 else one * 2 for one in heights]
    axes.stackplot(wide, heights, colors=[colours[name] for name in shares], linewidth=0)
    axes.set_xlim(wide[0], wide[-1])
    axes.set_ylim(0.0, 1.0)


def _lines_of(names: Sequence[str], width: float) -> list[list[tuple[float, str]]]:
    """Return where names stand, broken into lines: (inches from the left, name)."""
    lines: list[list[tuple[float, str]]] = [[]]
    x = 0.0
    for name in names:
        needs = 0.3 + _LETTER * len(name)
        if lines[-1] and x + needs > width:
            lines.append([])
            x = 0.0
        lines[-1].append((x, name))
        x += needs
    return lines
