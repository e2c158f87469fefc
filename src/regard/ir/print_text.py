"""Programs and expressions as plain text, the way a researcher would write them on one line each.

Leaves to others: precedence (`writer`), which parts get a name (`formula`), LaTeX (`print_latex`).
"""

from collections.abc import Sequence
from typing import ClassVar

from regard.ir import nodes as n
from regard.ir.printing.layout import lay_out, lay_out_expression
from regard.ir.printing.notation import (
    ATOM,
    DIVIDE,
    MULTIPLY,
    NEGATIVE,
    POWER,
    SIGNED,
    Notation,
    Piece,
)
from regard.ir.printing.weights import written_lines

_FENCES = {"group": "()", "abs": "||", "norm": "‖‖", "floor": "⌊⌋"}
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class TextNotation(Notation):
    """Formulas in Unicode text."""

    signs: ClassVar = {
        "add": " + ", "sub": " − ", "neg": "−", "mod": " mod ", "dot": "·",
        "rows": " ⊙ ", "lt": " < ", "le": " ≤ ", "gt": " > ", "ge": " ≥ ", "eq": " == ",
        "ne": " ≠ ", "and": " ∧ ", "or": " ∨ ", "not": "¬", "is": " = ", "transposed": "ᵀ",
    }  # fmt: skip
    infinity = "∞"
    ellipsis = "…"

    def scientific(self, digits: str, exponent: int) -> Piece:
        return Piece(f"{digits}e{exponent}".replace("-", "−"))

    def word(self, word: str) -> str:
        return word

    def subscript(self, text: str, axes: str) -> str:
        return f"{text}_{axes}" if axes else text

    def brackets(self, text: str, items: Sequence[str]) -> str:
        return f"{text}[{', '.join(items)}]"

    def fence(self, kind: str, text: str) -> str:
        left, right = _FENCES[kind]
        return left + text + right

    def product(self, left: str, right: str) -> str:
        return f"{left} × {right}" if right[0].isdigit() or right[0] == "(" else f"{left} {right}"

    def fraction(self, over: Piece, under: Piece) -> Piece:
        signed = over.level == SIGNED
        written = over.text if signed else self.group(over, MULTIPLY)
        return Piece(f"{written} / {self.group(under, POWER)}", NEGATIVE if signed else DIVIDE)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        if exponent.text.isdecimal():
            return Piece(self.group(base, ATOM) + exponent.text.translate(_RAISED), POWER)
        return Piece(f"{self.group(base, ATOM)}^{self.group(exponent, ATOM)}", POWER)

    def root(self, inside: Piece) -> Piece:
        return Piece("√" + (inside.text if inside.text.isalnum() else f"({inside.text})"))

    def total(self, axes: str) -> str:
        return f"Σ_{axes} "

    def choice(self, yes: str, condition: str, no: str) -> str:
        return f"{yes} if {condition} else {no}"

    def apply(self, function: str, over: str, args: Sequence[str], given: str | None) -> str:
        inside = ", ".join(args) + (f" | {given}" if given else "")
        return f"{self.subscript(function, over)}({inside})"


_NOTATION = TextNotation()


def text(node: n.Node) -> str:
    """Write any expression on one line.

    Args:
        node: An expression, a program's or derived from one.

    Returns:
        The expression; large shared parts are named and follow after "where".
    """
    *lines, (_, result) = written_lines(lay_out_expression(node), _NOTATION)
    where = ", ".join(f"{label} = {value}" for label, value in lines)
    return f"{result} where {where}" if where else result


def formula_text(name: str, root: n.Output) -> str:
    """Write a program as mathematics, one named part a line.

    Args:
        name: The program's name, the first line.
        root: The program.

    Returns:
        Lines without a final newline.
    """
    lines = written_lines(lay_out(root), _NOTATION)
    width = max(len(label) for label, _ in lines)
    return "\n".join([name, *(f"  {label:<{width}} = {value}" for label, value in lines)])
