"""Ratios of exponentials, rewritten so that no exponential overflows.

A numerator and denominator that grow t-fold when all their exponentials and constants do can both
be computed times exp(-m), whatever m is. Leaves to others: choosing m and evaluating.

Before: relu(exp(x) - 1) / Σ abs(exp(x) - 1)
After:  relu(exp(x - shift) - 1 · unit) / Σ abs(exp(x - shift) - 1 · unit), unit = exp(-shift)
"""

import math
from dataclasses import dataclass

from regard.ir import nodes as n

SHIFT = n.Hole("shift", "bhi")
UNIT = n.Hole("unit", "bhi")
EXPONENT_OF_A_CONSTANT = n.Const(0.0)
# Each of these, applied to t times its arguments, gives t times its result for any t > 0.
_HOMOGENEOUS = {"add", "sub", "neg", "abs", "relu", "min", "max"}


@dataclass(frozen=True, eq=False)
class Shifted:
    """A numerator and denominator times exp(-SHIFT).

    Attributes:
        num: The numerator, which reads the Holes SHIFT and UNIT.
        den: The denominator, likewise.
        exponents: What SHIFT should be the row's largest value of: the arguments of the
            exponentials, and 0 for constants, each -inf where a `where` does not choose it.
    """

    num: n.Node
    den: n.Node
    exponents: tuple[n.Node, ...]


def shift_exponents(num: n.Node, den: n.Node) -> Shifted | None:
    """Rewrite a ratio whose parts are positively homogeneous in exponentials and constants.

    Args:
        num: The numerator.
        den: The denominator.

    Returns:
        The rewritten parts, or None if they are not homogeneous or hold no exponential.
    """
    if _exp_free(num) and _exp_free(den):
        return None
    exponents: dict[n.Node, None] = {}
    new = [_Rewriter(exponents).rewrite(part) for part in (num, den)]
    if new[0] is None or new[1] is None:
        return None
    return Shifted(new[0], new[1], tuple(exponents))


class _Rewriter:
    """Multiplies an expression by UNIT and notes the exponents it met, in `exponents`."""

    def __init__(self, exponents: dict[n.Node, None], chosen: tuple[n.Node, ...] = ()):
        self._exponents = exponents
        self._chosen = chosen

    def rewrite(self, node: n.Node) -> n.Node | None:
        """Return the node times UNIT, or None if it is not homogeneous."""
        if isinstance(node, n.Const) and node.value == 0:
            return node
        if _exp_free(node):
            self._note(EXPONENT_OF_A_CONSTANT)
            return n.Call("mul", (node, UNIT))
        if not isinstance(node, n.Call):
            return None
        if node.op == "exp":
            self._note(node.args[0])
            return n.Call("exp", (n.Call("sub", (node.args[0], SHIFT)),))
        if node.op in _HOMOGENEOUS:
            return _call(node.op, [self.rewrite(arg) for arg in node.args])
        return self._where(node) if node.op == "where" else self._product(node)

    def _note(self, exponent: n.Node) -> None:
        for condition in self._chosen:
            exponent = n.Call("where", (condition, exponent, n.Const(-math.inf)))
        self._exponents[exponent] = None

    def _where(self, node: n.Call) -> n.Node | None:
        # An exponent that is not chosen may be huge, and a shift by it would leave nothing.
        condition, *branches = node.args
        conditions = (condition, n.Call("not", (condition,)))
        rewritten = [
            _Rewriter(self._exponents, (*self._chosen, chosen)).rewrite(branch)
            for chosen, branch in zip(conditions, branches, strict=True)
        ]
        return _call("where", [condition, *rewritten])

    def _product(self, node: n.Call) -> n.Node | None:
        """Rewrite the one factor of a product, or the numerator of a quotient, that has exp."""
        if node.op == "mul" and _exp_free(node.args[0]):
            return _call("mul", [node.args[0], self.rewrite(node.args[1])])
        if node.op in ("mul", "div") and _exp_free(node.args[1]):
            return _call(node.op, [self.rewrite(node.args[0]), node.args[1]])
        return None


def _call(op: str, args: list[n.Node | None]) -> n.Node | None:
    whole = tuple(arg for arg in args if arg is not None)
    return n.Call(op, whole) if len(whole) == len(args) else None


def _exp_free(node: n.Node) -> bool:
    return not any(isinstance(part, n.Call) and part.op == "exp" for part in n.walk(node))
