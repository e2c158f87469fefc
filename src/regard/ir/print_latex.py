"""Programs and expressions as LaTeX that amsmath, MathJax and matplotlib's mathtext all read.

Each line is written with what mathtext knows, so a figure can show it too. Leaves to others:
precedence and names (`printing`), plain text (`print_text`).
"""

from collections.abc import Sequence
from typing import ClassVar

from regard.ir import nodes as n
from regard.ir.printing.layout import lay_out, lay_out_expression
from regard.ir.printing.notation import ATOM, DOT, MULTIPLY, POWER, Notation, Piece
from regard.ir.printing.weights import written_lines

_FENCES = {
    "group": (r"\left(", r"\right)"),
    "abs": (r"\left|", r"\right|"),
    "norm": (r"\left\|", r"\right\|"),
    "floor": (r"\left\lfloor ", r"\right\rfloor"),
}
# Functions LaTeX sets upright by a command of their own.
_COMMANDS = frozenset({"exp", "log", "tanh", "cos", "sin", "min", "max"})
_GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψω",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
        "upsilon phi chi psi omega".split(),
        strict=True,
    )
)


class LatexNotation(Notation):
    """Formulas in LaTeX."""

    signs: ClassVar = {
        "add": " + ", "sub": " - ", "neg": "-", "mod": r" \;\mathrm{mod}\; ", "dot": r" \cdot ",
        "rows": r" \odot ", "lt": " < ", "le": r" \leq ", "gt": " > ", "ge": r" \geq ",
        "eq": r" \equiv ", "ne": r" \neq ", "and": r" \wedge ", "or": r" \vee ", "not": r"\neg ",
        "is": " = ", "transposed": "^{T}",
    }  # fmt: skip
    infinity = r"\infty"
    ellipsis = r"\ldots"

    def scientific(self, digits: str, exponent: int) -> Piece:
        power = f"10^{{{exponent}}}"
        return (
            Piece(power, POWER) if digits == "1" else Piece(rf"{digits} \times {power}", MULTIPLY)
        )

    def word(self, word: str) -> str:
        bare = word.rstrip("′")
        primes = "'" * (len(word) - len(bare))
        bare = _GREEK.get(bare, bare)
        if bare in _GREEK.values():
            return rf"\{bare}{primes}"
        if len(bare) > 1:
            escaped = bare.replace("_", r"\_")
            return rf"\mathrm{{{escaped}}}{primes}"
        return bare.replace("_", r"\_") + primes

    def subscript(self, text: str, axes: str) -> str:
        return f"{text}_{{{axes}}}" if axes else text

    def brackets(self, text: str, items: Sequence[str]) -> str:
        return rf"{text}\left[{', '.join(items)}\right]"

    def fence(self, kind: str, text: str) -> str:
        left, right = _FENCES[kind]
        return left + text + right

    def product(self, left: str, right: str) -> str:
        return rf"{left} \times {right}" if right[0].isdigit() else rf"{left} \, {right}"

    def fraction(self, over: Piece, under: Piece) -> Piece:
        return Piece(rf"\frac{{{over.text}}}{{{under.text}}}", DOT)

    def power(self, base: Piece, exponent: Piece) -> Piece:
        return Piece(f"{self.group(base, ATOM)}^{{{exponent.text}}}", POWER)

    def root(self, inside: Piece) -> Piece:
        return Piece(rf"\sqrt{{{inside.text}}}")

    def total(self, axes: str) -> str:
        return rf"\sum_{{{axes}}} "

    def choice(self, yes: str, condition: str, no: str) -> str:
        return rf"{yes} \;\text{{if}}\; {condition} \;\text{{else}}\; {no}"

    def apply(self, function: str, over: str, args: Sequence[str], given: str | None) -> str:
        inside = r",\; ".join(args) + (rf" \mid {given}" if given else "")
        if function in _COMMANDS:
            name = rf"\{function}"
        else:
            escaped = function.replace("_", r"\_")
            name = rf"\operatorname{{{escaped}}}" if function else ""
        return self.subscript(name, over) + self.fence("group", inside)


_NOTATION = LatexNotation()


def latex(node: n.Node) -> str:
    """Write any expression on one line of LaTeX, without dollar signs.

    Args:
        node: An expression, a program's or derived from one.

    Returns:
        The expression; large shared parts are named and follow after "where".
    """
    *lines, (_, result) = written_lines(lay_out_expression(node), _NOTATION)
    where = r",\; ".join(f"{label} = {value}" for label, value in lines)
    return rf"{result} \quad\text{{where}}\; {where}" if where else result


def latex_lines(root: n.Output) -> list[str]:
    """Write a program as one LaTeX equation for each of its named parts.

    Args:
        root: The program.

    Returns:
        Equations such as "w_{ij} = …", without dollar signs.
    """
    return [f"{name} = {value}" for name, value in written_lines(lay_out(root), _NOTATION)]


def formula_latex(name: str, root: n.Output) -> str:
    """Write a program as an aligned block of equations.

    Args:
        name: The program's name, set above the equations.
        root: The program.

    Returns:
        An `aligned` environment without dollar signs.
    """
    title = r"\mathbf{" + name.replace("_", r"\_") + "}"
    lines = [f"{label} &= {value}" for label, value in written_lines(lay_out(root), _NOTATION)]
    return "\n".join([r"\begin{aligned}", " \\\\\n".join([f"{title} &", *lines]), r"\end{aligned}"])
