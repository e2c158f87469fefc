"""What a classifier took for what: a confusion matrix as a picture.

Rows are the right labels, columns the predicted ones; shades are shares of a row, so that rare
labels show as well as frequent ones. Small matrices carry their counts.
Leaves to others: counting (`metrics`).
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from regard.errors import InputError
from regard.view import style
from regard.view.fonts import fit_fonts, text_width, wrap_words
from regard.view.sheet import Sheet, colour_bar, draw_map, save

# Inches.
_EDGE, _GAP, _TITLE, _NAMES = 0.12, 0.06, 0.2, 0.2
_PAGE, _NARROWEST, _BAR = 6.5, 2.4, 0.5
_LARGEST_CELL, _SMALLEST_CELL = 0.42, 0.05
_LEAN = 60.0
# Above these, cells are too small for counts, or rows for labels.
_LEAST_COUNTED, _LEAST_LABELLED = 0.24, 0.09
_LONGEST_LABEL = 24
# A share of a quarter of the shade, so that rare confusions are seen.
_FAINT = 0.1


def draw_confusion(
    counts: Any,
    labels: Sequence[str],
    *,
    path: str | os.PathLike | None = None,
    title: str | None = None,
) -> Figure:
    """Draw how often each label was taken for each.

    Args:
        counts: (K, K) whole numbers: row's label was taken for column's.
        labels: K names.
        path: Where to write the picture; the ending says the format: png, svg, pdf.
        title: A line above it.

    Returns:
        The figure.

    Raises:
        InputError: If counts and labels do not fit each other, or a count is no whole number.
        FileError: If the picture cannot be written.
    """
    figure = _Confusion(_checked(counts, len(labels)), [str(one) for one in labels]).draw(title)
    save(figure, path)
    return figure


def _checked(counts: Any, labels: int) -> np.ndarray:
    try:
        found = np.asarray(counts, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError("counts of a confusion matrix are rows of whole numbers") from None
    if not labels or found.shape != (labels, labels):
        raise InputError(
            f"counts have shape {found.shape}; {labels} labels need ({labels}, {labels})"
        )
    if not np.isfinite(found).all() or (found < 0).any() or (found != np.floor(found)).any():
        raise InputError("counts of a confusion matrix are whole numbers from 0")
    return found.astype(np.int64)


def _shorten(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1] + "…"


class _Confusion:
    """Places one map with its labels, counts and scale."""

    def __init__(self, counts: np.ndarray, labels: list[str]) -> None:
        self.counts = counts
        short = [_shorten(label) for label in labels]
        _, self.families = fit_fonts("".join(short))
        self.labels = [fit_fonts(label)[0] for label in short]
        self.cell = min(_LARGEST_CELL, max(_PAGE / len(labels), _SMALLEST_CELL))
        self.size = min(style.TEXT, self.cell * 72 * 0.72)
        self.labelled = self.cell >= _LEAST_LABELLED
        self.longest = max(text_width(one, self.size) for one in self.labels) * self.labelled
        self.side = len(labels) * self.cell

    def draw(self, title: str | None) -> Figure:
        """Return the figure."""
        left = _EDGE + _NAMES + self.longest + _GAP
        last = text_width(self.labels[-1], self.size) * np.cos(np.radians(_LEAN)) * self.labelled
        page = max(left + self.side + max(_BAR, last) + _EDGE, _NARROWEST)
        lines = wrap_words(title or "", style.NAME - 1.5, page - 2 * _EDGE)
        top = _EDGE + _TITLE * len(lines) + _NAMES + self.longest * np.sin(np.radians(_LEAN)) + _GAP
        bar = min(max(self.side, 0.9), 1.6)
        sheet = Sheet(page, top + max(self.side, bar) + _EDGE)
        for number, line in enumerate(lines):
            sheet.text(_EDGE, _EDGE + 0.13 + _TITLE * number, line, style.NAME - 1.5, weight="bold")
        quiet = {"color": style.QUIET}
        sheet.text(left, _EDGE + _TITLE * len(lines) + 0.1, "predicted", style.SMALL, **quiet)
        upright = {"rotation": 90.0, "va": "top", "ha": "left"}
        sheet.text(_EDGE, top, "right", style.SMALL, **quiet, **upright)
        shares = self.counts / np.maximum(self.counts.sum(1, keepdims=True), 1)
        cmap, norm = style.colours(0.0, 1.0, _FAINT)
        axes = sheet.axes(left, top, self.side, self.side)
        draw_map(axes, shares, np.zeros(shares.shape, bool), cmap, norm, "confusion")
        self._label(axes)
        self._count(axes, np.asarray(norm(shares)))
        scale = sheet.axes(left + self.side + 0.08, top, 0.09, bar)
        colour_bar(scale, cmap, norm, 0.0, 1.0)
        return sheet.figure

    def _label(self, axes: Any) -> None:
        if not self.labelled:
            return
        font = {
            "fontsize": self.size, "color": style.INK, "family": self.families, "parse_math": False,
        }  # fmt: skip
        places = range(len(self.labels))
        axes.xaxis.tick_top()
        axes.set_xticks(
            places, self.labels, rotation=_LEAN, ha="left", va="bottom", rotation_mode="anchor",
            **font,
        )  # fmt: skip
        axes.set_yticks(places, self.labels, **font)
        axes.tick_params(length=0, pad=2)

    def _count(self, axes: Any, shades: np.ndarray) -> None:
        if self.cell < _LEAST_COUNTED:
            return
        for (row, column), count in np.ndenumerate(self.counts):
            if count:
                text = str(count)
                # Digits are about 0.6 of their size wide.
                size = min(self.size, self.cell * 72 * 0.9 / (0.62 * len(text)))
                ink = "white" if shades[row, column] > 0.5 else style.INK
                axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)
