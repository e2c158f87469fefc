"""Programs beside each other: for the same tokens, what each looks at, head by head.

Leaves to others: the numbers (`parts`), one program by itself (`picture`).
"""

import os
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from regard.errors import InputError
from regard.ir.program import AttentionProgram
from regard.view import style
from regard.view.imagine import curve
from regard.view.parts import Part, find_parts
from regard.view.sheet import Sheet, colour_bar, draw_map, number_axes, save

# Inches: the page's edge, room for names and for the query axis, one map, between maps, the scale.
_EDGE, _NAMES, _MAP, _BETWEEN, _SCALE = 0.15, 1.4, 1.2, 0.1, 0.6
_TOP, _BELOW, _AXIS = 0.3, 0.14, 0.3
_TOKENS, _WIDTH = 128, 64


def draw_comparison(
    programs: Mapping[str, AttentionProgram],
    *,
    heads: int = 4,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Draw the weights of some programs, a row for each, a column for each head.

    All read the same 128 tokens, which lie on a curve: near ones are alike, the last one resembles
    the first. What else a program reads is imagined as `draw` imagines it.

    Args:
        programs: The programs, by what stands beside them.
        heads: H.
        path: Where to write the picture; the ending says the format: png, svg, pdf.

    Returns:
        The figure.

    Raises:
        InputError: If there is no program, or heads is not positive.
        FileError: If the picture cannot be written.
    """
    if not programs or heads < 1:
        raise InputError(f"a comparison draws at least one program and head, not {heads} heads")
    parts = {name: _weights(program, heads) for name, program in programs.items()}
    columns = _EDGE + _NAMES + heads * (_MAP + _BETWEEN) + _SCALE
    sheet = Sheet(columns, _EDGE + _TOP + len(parts) * (_MAP + _BELOW) + _AXIS)
    for head in range(heads):
        x = _EDGE + _NAMES + head * (_MAP + _BETWEEN)
        sheet.text(x, _EDGE + 0.2, f"head {head}", style.SMALL, color=style.QUIET)
    for row, (name, part) in enumerate(parts.items()):
        _draw_row(sheet, name, part, row, lowest=row == len(parts) - 1)
    save(sheet.figure, path)
    return sheet.figure


def _draw_row(sheet: Sheet, name: str, part: Part, row: int, *, lowest: bool) -> None:
    y = _EDGE + _TOP + row * (_MAP + _BELOW)
    for number, line in enumerate(name.split("\n")):
        weight, colour = ("normal", style.QUIET) if number else ("bold", style.INK)
        sheet.text(_EDGE, y + 0.14 * (number + 1), line, style.TEXT, weight=weight, color=colour)
    seen = part.seen
    cmap, norm = style.colours(
        float(seen.min()), float(np.abs(seen).max()), float(np.abs(seen).mean())
    )
    heads = sheet.width - _EDGE - _NAMES - _SCALE
    for head in range(round(heads / (_MAP + _BETWEEN))):
        values = min(head, len(part.values) - 1)
        axes = sheet.axes(_EDGE + _NAMES + head * (_MAP + _BETWEEN), y, _MAP, _MAP)
        draw_map(axes, part.values[values], part.hidden[values], cmap, norm, f"{name}, head {head}")
        number_axes(axes, queries=head == 0, keys=lowest, named=head == 0 and lowest)
    bar = sheet.axes(sheet.width - _SCALE + 0.02, y, 0.08, _MAP)
    colour_bar(bar, cmap, norm, min(float(seen.min()), 0.0), float(seen.max()))


def _weights(program: AttentionProgram, heads: int) -> Part:
    reads = {leaf.name for leaf in program.inputs}
    rows = curve(_TOKENS, _WIDTH).expand(1, heads, -1, -1)
    given = {name: rows for name in ("q", "k") if name in reads}
    (part,) = find_parts(program, _TOKENS, _TOKENS, heads, _WIDTH, given).of("weights")
    return part
