"""What a notation for formulas must say: names, signs, and how operands are grouped.

A notation is a small class of spellings; `writer.Writer` walks the expression and is the same for
all of them. Leaves to others: the spellings (`print_text`, `print_latex`).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

# How tightly an expression holds together, from the loosest.
# SIGNED is the negative of a product or of something tighter, so (−a) b may be written −a b.
CHOICE, OR, AND, COMPARE, ADD, NEGATIVE, SIGNED, SUM, DIVIDE, MULTIPLY, DOT, POWER, ATOM = range(13)
# More digits than these are cut off, with an ellipsis; the file keeps them all.
DIGITS = 9
SHOWN_DIGITS = 6


class Piece(NamedTuple):
    """A written expression.

    Attributes:
        text: Its characters.
        level: How tightly it holds together: `CHOICE` … `ATOM`.
    """

    text: str
    level: int = ATOM


class Notation(ABC):
    """The spellings of one notation.

    What the methods take is written already, by the notation's own rules.

    Attributes:
        signs: What stands between or before operands, by operator; "dot" joins two rows, "rows"
            multiplies them channel by channel.
        infinity: The spelling of ∞.
        ellipsis: What stands for the further digits of a number.
    """

    signs: ClassVar[dict[str, str]]
    infinity: str
    ellipsis: str

    def group(self, piece: Piece, level: int) -> str:
        """Return the text, in parentheses if it holds together less tightly than `level`."""
        return piece.text if piece.level >= level else self.fence("group", piece.text)

    def number(self, value: bool | int | float) -> Piece:
        """Write a number, as 2 if it is 2.0."""
        if isinstance(value, bool):
            return Piece(self.word(str(value).lower()))
        if value < 0 or str(value) == "-0.0":
            size = self.number(-value)
            return Piece(self.signs["neg"] + size.text, SIGNED)
        if value == float("inf"):
            return Piece(self.infinity)
        if isinstance(value, float) and value.is_integer() and value < 1e16:
            return Piece(str(int(value)))
        digits, _, exponent = repr(value).partition("e")
        if len(digits) > DIGITS + 1:
            digits = f"{float(digits):.{SHOWN_DIGITS}g}{self.ellipsis}"
        return self.scientific(digits, int(exponent)) if exponent else Piece(digits)

    @abstractmethod
    def scientific(self, digits: str, exponent: int) -> Piece:
        """Write digits · 10^exponent."""

    @abstractmethod
    def word(self, word: str) -> str:
        """Write the name of an input, a part or a function."""

    @abstractmethod
    def subscript(self, text: str, axes: str) -> str:
        """Attach axes such as "ij" to a written name; none leave it as it is."""

    @abstractmethod
    def brackets(self, text: str, items: Sequence[str]) -> str:
        """Index a written array or slice a written row."""

    @abstractmethod
    def fence(self, kind: str, text: str) -> str:
        """Enclose: "group" in parentheses, "abs", "norm" or "floor" in their bars."""

    @abstractmethod
    def product(self, left: str, right: str) -> str:
        """Multiply two written factors."""

    @abstractmethod
    def fraction(self, over: Piece, under: Piece) -> Piece:
        """Divide."""

    @abstractmethod
    def power(self, base: Piece, exponent: Piece) -> Piece:
        """Raise to a power."""

    @abstractmethod
    def root(self, inside: Piece) -> Piece:
        """Take the square root."""

    @abstractmethod
    def total(self, axes: str) -> str:
        """Write the sign of a sum over axes, ready for what it adds."""

    @abstractmethod
    def choice(self, yes: str, condition: str, no: str) -> str:
        """Write "yes if condition else no"."""

    @abstractmethod
    def apply(self, function: str, over: str, args: Sequence[str], given: str | None) -> str:
        """Apply a named function over axes, restricted to where `given` holds."""
