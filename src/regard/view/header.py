"""The head of a program's picture: its name, what it is for, and its formula.

Leaves to others: setting the formula (`formula`), the maps (`picture`).
"""

from typing import Any

from regard.ir.program import AttentionProgram
from regard.view import style
from regard.view.fonts import text_width, wrap_words
from regard.view.formula import set_formula
from regard.view.sheet import Sheet

# Inches.
_NAME, _LINE, _AFTER_DOC, _AFTER, _BESIDE = 0.24, 0.155, 0.05, 0.14, 0.15
_LONGEST_DOC = 3
# A formula shrunk further than this stands better on lines of its own.
_READABLE = 9.0


class Header:
    """A program's name, the first paragraph of its documentation, and its formula.

    Args:
        program: The program.
        room: The width it may take, in inches.
    """

    def __init__(self, program: AttentionProgram, room: float) -> None:
        self.name = program.name
        self.formula = set_formula(program, room)
        # Backticks mark code where there is a typewriter face; here they would only be read.
        paragraph = " ".join(program.doc.replace("`", "").strip().split("\n\n")[0].split())
        self.doc = wrap_words(paragraph, style.TEXT, room)
        if len(self.doc) > _LONGEST_DOC:
            self.doc = [*self.doc[: _LONGEST_DOC - 1], self.doc[_LONGEST_DOC - 1] + " …"]
        name_width = text_width(self.name, style.NAME, bold=True)
        texts = [text_width(line, style.TEXT) for line in self.doc]
        wide = max([name_width, self.formula.width, *texts])
        self.width = wide + _BESIDE
        self.fits = self.width <= room and self.formula.is_math and self.formula.size >= _READABLE
        self.height = _NAME + self._doc_height() + self.formula.height + _AFTER

    def _doc_height(self) -> float:
        return _LINE * len(self.doc) + _AFTER_DOC * bool(self.doc)

    def draw(self, sheet: Sheet, x: float, y: float) -> None:
        """Draw the header with its top left corner at (x, y).

        Args:
            sheet: Where.
            x: Inches from the left.
            y: Inches from the top.
        """
        sheet.text(x, y + 0.15, self.name, style.NAME, weight="bold")
        y += _NAME
        for line in self.doc:
            sheet.text(x, y + 0.1, line, style.TEXT, color=style.QUIET)
            y += _LINE
        y += _AFTER_DOC * bool(self.doc)
        formula = self.formula
        for line in formula.lines:
            y += line.above
            options: dict[str, Any] = (
                {"math": True} if formula.is_math else {"family": "DejaVu Sans Mono"}
            )
            if line.name:
                sheet.text(
                    x + formula.lead - 0.05, y, line.name, formula.size, ha="right", **options
                )
            sheet.text(x + formula.lead, y, line.text, formula.size, **options)
            y += line.below
