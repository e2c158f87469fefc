"""A program's formula as lines that matplotlib can set, measured before anything is drawn.

Leaves to others: the LaTeX itself (`ir/print_latex`), where the lines go (`picture`).
"""

import math
import textwrap
from dataclasses import dataclass
from functools import lru_cache

from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser

from regard.ir import nodes as n
from regard.ir.print_latex import latex_lines
from regard.ir.print_text import formula_text
from regard.ir.program import AttentionProgram
from regard.view import style

_POINTS_PER_INCH = 72
_PLAIN_VALUES = n.Vector("key", "v")
_GAP = 0.055


@dataclass(frozen=True)
class Line:
    """One line of a formula; sizes in inches.

    Attributes:
        name: What is defined, right-aligned before the sign; "" in a line of plain text.
        text: The rest, with its sign.
        width: Of the rest.
        lead: Of the name.
        above: From the baseline up, with room to the line before.
        below: From the baseline down.
    """

    name: str
    text: str
    width: float
    lead: float
    above: float
    below: float


@dataclass(frozen=True)
class Formula:
    """A formula ready to be drawn.

    Attributes:
        lines: From top to bottom.
        size: Of the letters, in points.
        is_math: Whether the lines are mathtext; else they are set in a typewriter face.
    """

    lines: tuple[Line, ...]
    size: float
    is_math: bool

    @property
    def lead(self) -> float:
        """Inches from the left edge to where all signs stand."""
        return max((line.lead for line in self.lines), default=0.0)

    @property
    def width(self) -> float:
        """Inches from the left edge to the end of the longest line."""
        return self.lead + max((line.width for line in self.lines), default=0.0)

    @property
    def height(self) -> float:
        """Inches from the top of the first line to the bottom of the last."""
        return sum(line.above + line.below for line in self.lines)


@lru_cache(maxsize=1024)
def measure(text: str, size: float) -> tuple[float, float, float]:
    """Return the width, the height above the baseline and the depth below it, in inches.

    Args:
        text: Mathtext with its dollar signs.
        size: Of the letters, in points.

    Returns:
        The three sizes.

    Raises:
        ValueError: If it is no mathtext.
    """
    font = FontProperties(size=size, math_fontfamily=style.MATH_FONT)
    width, height, depth, *_ = MathTextParser("path").parse(text, _POINTS_PER_INCH, font)
    return width / _POINTS_PER_INCH, (height - depth) / _POINTS_PER_INCH, depth / _POINTS_PER_INCH


def set_formula(program: AttentionProgram, room: float) -> Formula:
    """Return a program's formula, at the largest size that fits.

    Args:
        program: The program; the line that sums v by the weights, the same for most, is left out.
        room: The width it may take, in inches.

    Returns:
        The formula; as plain text, wrapped, if it does not fit as mathematics.
    """
    lines = [line.split(" = ", 1) for line in latex_lines(program.root)]
    if program.root.values is _PLAIN_VALUES and program.root.finish is None:
        lines.pop()
    try:
        formula = _as_math(lines, style.FORMULA)
        if formula.width > room:
            # Width is proportional to size, all but rounding to points.
            size = math.floor(2 * style.FORMULA * room / (formula.width + 0.05)) / 2
            formula = _as_math(lines, size) if size >= style.SMALLEST_FORMULA else formula
    except ValueError:
        return _as_text(program, room)
    if formula.width <= room:
        return formula
    return _as_text(program, room)


def _as_math(lines: list[list[str]], size: float) -> Formula:
    found = []
    for name, rest in lines:
        name, text = f"${name}$", f"$= {rest}$"
        lead, above_name, below_name = measure(name, size)
        width, above, below = measure(text, size)
        heights = max(above, above_name) + _GAP, max(below, below_name) + _GAP
        found.append(Line(name, text, width, lead + 0.05, *heights))
    return Formula(tuple(found), size, True)


def _as_text(program: AttentionProgram, room: float) -> Formula:
    size = style.TEXT
    # Letters of the typewriter face are 0.602 times as wide as they are high.
    letter = 0.602 * size / _POINTS_PER_INCH
    whole = formula_text(program.name, program.root).split("\n")[1:]
    lines = [
        part
        for line in whole
        for part in textwrap.wrap(
            line.strip(), max(int(room / letter), 20), subsequent_indent="    "
        )
    ]
    height = size / _POINTS_PER_INCH
    made = [Line("", text, len(text) * letter, 0.0, height * 1.05, height * 0.4) for text in lines]
    return Formula(tuple(made), size, False)
