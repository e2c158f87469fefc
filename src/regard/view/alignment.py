"""The cross-attention of a translation as an alignment: which source tokens each target token read.

Leaves to others: where the weights come from, cleaning the labels (`tokens`).
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from regard.errors import InputError
from regard.view import style
from regard.view.fonts import fit_fonts, text_width, wrap_words
from regard.view.sheet import Sheet, colour_bar, draw_map, save
from regard.view.tokens import clean_tokens

# Inches.
_EDGE, _GAP, _TITLE = 0.12, 0.06, 0.2
_PAGE, _NARROWEST = 9.0, 2.4
_LARGEST_CELL, _SMALLEST_CELL = 0.26, 0.1
_HEAD_CELL, _BETWEEN, _HEAD_TITLE = 0.13, 0.12, 0.16
_BAR = 0.55
# Labels of the source lean by this angle, in degrees.
_LEAN = 60.0
_PER_ROW = 4


def draw_alignment(
    weights: Any,
    source_tokens: Sequence[str],
    target_tokens: Sequence[str],
    *,
    path: str | os.PathLike | None = None,
    title: str | None = None,
    per_head: bool = False,
) -> Figure:
    """Draw which source tokens each target token read.

    Args:
        weights: (target, source), or (heads, target, source), of which the mean is drawn; a tensor
            or array.
        source_tokens: The tokenizer's tokens of the source; their markers are cleaned.
        target_tokens: Those of the target.
        path: Where to write the picture; the ending says the format: png, svg, pdf.
        title: A line above it.
        per_head: Whether to draw a small map for each head instead of the mean.

    Returns:
        The figure.

    Raises:
        InputError: If weights and tokens do not fit each other, or a weight is no finite number.
        FileError: If the picture cannot be written.
    """
    maps = _checked(weights, len(source_tokens), len(target_tokens))
    if not per_head:
        maps = maps.mean(0, keepdims=True)
    sides = (clean_tokens(source_tokens), clean_tokens(target_tokens))
    figure = _Alignment(maps, *sides, title or "").draw()
    save(figure, path)
    return figure


def _checked(weights: Any, sources: int, targets: int) -> np.ndarray:
    tensor = torch.as_tensor(weights).detach().to("cpu", torch.float64)
    maps = tensor.numpy()
    if maps.ndim not in (2, 3) or maps.size == 0 or maps.shape[-2:] != (targets, sources):
        raise InputError(
            f"weights have shape {tuple(maps.shape)}; {targets} target and {sources} source tokens "
            f"need ({targets}, {sources}) or (heads, {targets}, {sources})"
        )
    if not np.isfinite(maps).all():
        raise InputError("weights hold NaN or infinity; an alignment needs finite numbers")
    return maps.reshape(-1, targets, sources)


class _Alignment:
    """Places one map per entry of `maps`, with labels on the outer ones."""

    def __init__(self, maps: np.ndarray, source: list[str], target: list[str], title: str) -> None:
        self.maps = maps
        _, self.families = fit_fonts("".join([*source, *target]))
        self.source = [fit_fonts(label)[0] for label in source]
        self.target = [fit_fonts(label)[0] for label in target]
        self.columns = min(len(maps), _PER_ROW)
        self.rows = -(-len(maps) // self.columns)
        largest = _LARGEST_CELL if len(maps) == 1 else _HEAD_CELL
        fitting = _PAGE / (max(len(source), len(target)) * self.columns)
        self.cell = min(largest, max(fitting, _SMALLEST_CELL))
        self.size = min(style.HEADING, self.cell * 72 * 0.72)
        self.map_width, self.map_height = len(source) * self.cell, len(target) * self.cell
        self.left = _EDGE + self._longest(self.target) + _GAP
        overhang = self._longest(self.source[-1:]) * np.cos(np.radians(_LEAN)) - self.cell / 2
        maps_end = self.left + self.columns * (self.map_width + _BETWEEN) - _BETWEEN
        self.page = max(maps_end + max(_BAR, overhang) + _EDGE, _NARROWEST)
        self.title = wrap_words(title, style.NAME - 1.5, self.page - 2 * _EDGE)

    def _longest(self, labels: list[str]) -> float:
        return max(text_width(label, self.size) for label in labels)

    def draw(self) -> Figure:
        """Return the figure."""
        below = _HEAD_TITLE if len(self.maps) > 1 else 0.0
        titles = _TITLE * len(self.title) + _GAP * bool(self.title)
        top = _EDGE + titles + self._longest(self.source) * np.sin(np.radians(_LEAN)) + 0.12
        step_x, step_y = self.map_width + _BETWEEN, self.map_height + below + _BETWEEN
        bar = min(max(self.map_height, 0.9), 1.6)
        sheet = Sheet(self.page, top + max(self.rows * step_y - _BETWEEN, bar) + _EDGE)
        for number, line in enumerate(self.title):
            sheet.text(_EDGE, _EDGE + 0.13 + _TITLE * number, line, style.NAME - 1.5, weight="bold")
        low, high = min(float(self.maps.min()), 0.0), max(float(self.maps.max()), 0.0)
        cmap, norm = style.colours(low, high, float(np.abs(self.maps).mean()))
        for head, values in enumerate(self.maps):
            row, column = divmod(head, self.columns)
            x, y = self.left + column * step_x, top + row * step_y
            axes = sheet.axes(x, y, self.map_width, self.map_height)
            name = f"head {head}" if below else "mean of heads"
            draw_map(axes, values, np.zeros(values.shape, bool), cmap, norm, name)
            self._label(axes, sources=row == 0, targets=column == 0)
            if below:
                sheet.text(x, y + self.map_height + 0.12, name, style.SMALL, color=style.QUIET)
        scale = sheet.axes(self.left + self.columns * step_x - _BETWEEN + 0.08, top, 0.09, bar)
        colour_bar(scale, cmap, norm, low, high or 1.0)
        return sheet.figure

    def _label(self, axes: Axes, sources: bool, targets: bool) -> None:
        font = {
            "fontsize": self.size,
            "color": style.INK,
            "family": self.families,
            "parse_math": False,
        }
        if sources:
            axes.xaxis.tick_top()
            axes.set_xticks(
                range(len(self.source)), self.source, rotation=_LEAN, ha="left", va="bottom",
                rotation_mode="anchor", **font,
            )  # fmt: skip
        if targets:
            axes.set_yticks(range(len(self.target)), self.target, **font)
        axes.tick_params(length=0, pad=2)
