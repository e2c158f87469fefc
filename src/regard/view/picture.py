"""A program as a picture: who sees whom, the bias, the weights, and the formula.

Before: a program of one pair. After: a figure with one map of pairs per part, or per part and
head. Leaves to others: the numbers (`parts`), the marks (`sheet`), the formula's lines (`formula`).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from regard.errors import InputError, no_program
from regard.ir.program import AttentionProgram
from regard.view import style
from regard.view.fonts import wrap_words
from regard.view.header import Header
from regard.view.imagine import choose_heads
from regard.view.parts import Part, Parts, find_parts
from regard.view.sheet import Sheet, colour_bar, draw_map, number_axes, save

# Inches.
_PAGE = 8.4
_EDGE = 0.12
# Room around a map: for the query axis, headings, the colours' explanation, the key axis.
_LEFT, _TOP, _RIGHT, _BOTTOM = 0.42, 0.36, 0.52, 0.36
# Alone in a row, beside grids, at most in a grid: four of the last fill the page.
_MAP, _SMALL_MAP, _GRID_MAP = 1.85, 1.3, 1.72
_HEAD_TITLE, _BETWEEN = 0.16, 0.08
_PER_ROW, _SINGLES = 8, 3
_LINE = 0.14

_BIAS = {"none": "Bias", "beside": "Bias", "alike": "Score of equal tokens"}
_BIAS_NOTE = {
    "none": "added to what q and k say",
    "beside": "added to what q and k say",
    "alike": "all q and k are 1",
}
_WEIGHTS_NOTE = {
    "none": "from position alone: q = k = 0",
    "beside": "q = k = 0, the rest as given",
    "alike": "every token alike: all q and k are 1",
    "random": "for one random q and k",
    "given": "for the q and k that are given",
}


@dataclass(frozen=True)
class Block:
    """A titled part: one map, or a small one per head.

    Attributes:
        part: The numbers.
        title: What they are.
        note: How they came about.
        cmap: The colours.
        norm: Their scale.
    """

    part: Part
    title: str
    note: str
    cmap: Colormap
    norm: Normalize

    @property
    def heads(self) -> int:
        return len(self.part.values)

    def map_size(self, room: float) -> tuple[float, float]:
        """Return the width and height of a map whose longer side is at most `room`."""
        queries, keys = self.part.values.shape[1:]
        # A map 20 times as long as high would be a line.
        ratio = min(max(queries / keys, 0.25), 4.0)
        return (room, room * ratio) if ratio <= 1 else (room / ratio, room)


def draw(
    program: AttentionProgram,
    queries: int = 32,
    keys: int | None = None,
    *,
    heads: int | None = None,
    width: int = 64,
    path: str | os.PathLike | None = None,
    inputs: Mapping[str, Any] | None = None,
    **named_inputs: Any,
) -> Figure:
    """Draw a program: who sees whom, its bias, its weights, its formula.

    What the program reads and is not given is imagined: parameters as their initialisers start
    them, features as 0, and q and k as zeros, so that position alone speaks; where that would show
    nothing, as equal tokens or at random. The picture says which.

    Args:
        program: The program.
        queries: N.
        keys: M; as many as queries unless given.
        heads: H; as many as are worth seeing unless given.
        width: D.
        path: Where to write the picture; the ending says the format: png, svg, pdf.
        inputs: Inputs of the program by name, such as trained parameters, q and k.
        **named_inputs: The same, for names that are no options of this function.

    Returns:
        The figure; `figure.savefig(path)` writes it.

    Raises:
        InputError: If it is no program, a size is not positive, or an input is unknown or does
            not fit.
        FileError: If the picture cannot be written.
    """
    if not isinstance(program, AttentionProgram):
        raise InputError(
            f"draw takes a program, which @rg.program makes; found {no_program(program)}"
        )
    given = {**(inputs or {}), **named_inputs}
    sizes = {
        "queries": queries,
        "keys": queries if keys is None else keys,
        "heads": choose_heads(program, given) if heads is None else heads,
        "width": width,
    }
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise InputError(f"{name}={size!r} of a picture must be a whole number above 0")
    figure = _Page(program, find_parts(program, **sizes, given=given)).draw()
    save(figure, path)
    return figure


class _Page:
    """Places the header, maps that all heads share in rows, one grid per part that differs.

    The header stands to the left of the shared maps if both fit, else above them.
    """

    def __init__(self, program: AttentionProgram, parts: Parts) -> None:
        blocks = [block_of(part, parts.contents) for part in parts.parts]
        self.grids = [block for block in blocks if block.heads > 1]
        singles = [block for block in blocks if block.heads == 1]
        self.rows = [singles[at : at + _SINGLES] for at in range(0, len(singles), _SINGLES)]
        self.room = _SMALL_MAP if self.grids else _MAP
        wide = max((self._row_size(row)[0] for row in self.rows), default=0.0)
        indent = _LEFT if self.grids else 0.0
        self.header = Header(program, _PAGE - 2 * _EDGE - indent - wide)
        self.beside = len(self.rows) == 1 and self.header.fits
        if self.beside:
            self.left = _EDGE + indent
            self.width = _PAGE if self.grids else self.header.width + wide + 2 * _EDGE
            self.start = self.width - _EDGE - wide
        else:
            self.left, self.start = _EDGE + _LEFT, _EDGE
            self.width = _PAGE if self.grids else max(wide + 2 * _EDGE, 0.65 * _PAGE)
            self.header = Header(program, self.width - _EDGE - self.left)
        note = f"Imagined: {'; '.join(parts.notes)}." if parts.notes else ""
        self.notes = wrap_words(note, style.SMALL, self.width - _EDGE - self.left)

    def _row_size(self, row: list[Block]) -> tuple[float, float]:
        sizes = [_cell(block, self.room) for block in row]
        return sum(width for width, _ in sizes), max(height for _, height in sizes)

    def draw(self) -> Figure:
        """Return the figure."""
        rows = [self._row_size(row)[1] for row in self.rows]
        tall = self.header.height
        tall = max(tall, sum(rows)) if self.beside else tall + sum(rows)
        grids = [_grid_height(block, self.width) for block in self.grids]
        sheet = Sheet(self.width, tall + sum(grids) + _LINE * len(self.notes) + 2 * _EDGE)
        self.header.draw(sheet, self.left, _EDGE)
        y = _EDGE if self.beside else _EDGE + self.header.height
        for row, height in zip(self.rows, rows, strict=True):
            x = self.start
            for block in row:
                _draw_single(sheet, block, self.room, x, y)
                x += _cell(block, self.room)[0]
            y += height
        y = _EDGE + tall
        for block, height in zip(self.grids, grids, strict=True):
            _draw_grid(sheet, block, y)
            y += height
        for number, note in enumerate(self.notes, 1):
            below = y + _LINE * number - 0.04
            sheet.text(self.left, below, note, style.SMALL, color=style.QUIET)
        return sheet.figure


def block_of(part: Part, contents: str) -> Block:
    """Return a part with its title and its colours.

    Args:
        part: The part.
        contents: What q and k hold; see `Parts`.

    Returns:
        The titled part.
    """
    values = part.seen if part.seen.size else np.zeros(1)
    if part.kind == "mask":
        share = values.size / part.values.size if part.seen.size else 0.0
        shown = f"{share:.0%}" if share >= 0.01 or share == 0 else f"{share:.2%}"
        title = f"Who sees whom{' in ' + part.term if part.term else ''}"
        scale = ListedColormap([style.SEEN]), Normalize(0, 1)
        return Block(part, title, f"{shown} of all pairs", *scale)
    sizes = np.abs(values)
    largest, mean = float(sizes.max()), float(sizes.mean())
    if part.kind == "bias":
        title = _BIAS[contents] + (f" of {part.term}" if part.term else "")
        scale = style.BIAS_MAP, style.signed_norm(largest, mean)
        return Block(part, title, _BIAS_NOTE[contents], *scale)
    scale = style.colours(float(values.min()), largest, mean)
    return Block(part, "Weights", _WEIGHTS_NOTE[contents], *scale)


def _cell(block: Block, room: float) -> tuple[float, float]:
    """Return the width and height of one map with everything around it."""
    width, height = block.map_size(room)
    return _LEFT + width + _RIGHT, _TOP + height + _BOTTOM


def _headings(sheet: Sheet, block: Block, x: float, y: float) -> None:
    sheet.text(x, y + 0.14, block.title, style.HEADING, weight="bold")
    sheet.text(x, y + 0.29, block.note, style.SMALL, color=style.QUIET)


def _draw_single(sheet: Sheet, block: Block, room: float, x: float, y: float) -> None:
    width, height = block.map_size(room)
    x += _LEFT
    _headings(sheet, block, x, y)
    y += _TOP
    axes = sheet.axes(x, y, width, height)
    part = block.part
    draw_map(axes, part.values[0], part.hidden[0], block.cmap, block.norm, part.kind)
    number_axes(axes)
    _explain_colours(sheet, block, x + width + 0.07, y, height)


def _explain_colours(sheet: Sheet, block: Block, x: float, y: float, height: float) -> None:
    """Draw the scale of a block, or what the two colours of a mask mean."""
    if block.part.kind == "mask":
        sheet.swatch(x, y, "seen", hidden=False)
        sheet.swatch(x, y + 0.18, "hidden", hidden=True)
        return
    low, high = block.norm.vmin, block.norm.vmax
    assert low is not None and high is not None
    values = block.part.seen
    if block.cmap is style.BIAS_MAP:
        low = min(float(values.min()), 0.0)
        high = max(float(values.max()), 0.0)
    colour_bar(sheet.axes(x, y, 0.09, height), block.cmap, block.norm, low, high)


def _grid(block: Block, page: float) -> tuple[int, int, float, float]:
    """Return the rows and columns of a block with several heads, and the size of its maps."""
    columns = min(block.heads, _PER_ROW)
    rows = -(-block.heads // columns)
    room = page - 2 * _EDGE - _LEFT - _RIGHT
    width, height = block.map_size(min(room / columns - _BETWEEN, _GRID_MAP))
    return rows, columns, width, height


def _grid_height(block: Block, page: float) -> float:
    rows, _, _, height = _grid(block, page)
    return _TOP + rows * (height + _HEAD_TITLE) + _BOTTOM


def _draw_grid(sheet: Sheet, block: Block, y: float) -> None:
    rows, columns, width, height = _grid(block, sheet.width)
    left, step = _EDGE + _LEFT, height + _HEAD_TITLE
    _headings(sheet, block, left, y)
    y += _TOP + _HEAD_TITLE
    part = block.part
    for head in range(block.heads):
        row, column = divmod(head, columns)
        x, top = left + column * (width + _BETWEEN), y + row * step
        axes = sheet.axes(x, top, width, height)
        name = f"{part.kind} of head {head}"
        draw_map(axes, part.values[head], part.hidden[head], block.cmap, block.norm, name)
        lowest = head + columns >= block.heads
        number_axes(axes, queries=column == 0, keys=lowest, named=column == 0)
        sheet.text(x, top - 0.04, f"head {head}", style.SMALL, color=style.QUIET)
    x = left + columns * (width + _BETWEEN)
    _explain_colours(sheet, block, x, y, rows * step - _HEAD_TITLE)
