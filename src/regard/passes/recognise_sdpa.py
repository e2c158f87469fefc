"""Tell whether a program is what torch's scaled_dot_product_attention computes.

Before: softmax(dot(q, k) / sqrt(width) - slope · |i - j|, j <= i) summed over v.
After: scale 1/√D, bias -slope · |i - j|, causal.
Leaves to others: whether sizes and gradients fit torch's kernels (`backends/sdpa`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from regard.ir import nodes as n
from regard.passes.build import ONE, add, call, is_zero, mul, neg

_QUERY, _KEY, _VALUE = n.Vector("query", "q"), n.Vector("key", "k"), n.Vector("key", "v")
_CAUSAL = {call("le", n.Index("j"), n.Index("i")), call("ge", n.Index("i"), n.Index("j"))}
_PRODUCTS = {n.Reduce(call("mul", a, b), "c") for a, b in ((_QUERY, _KEY), (_KEY, _QUERY))}


@dataclass(frozen=True)
class DotProductSoftmax:
    """A program as scaled dot-product attention.

    Attributes:
        scale: What dot(q, k) is multiplied by: an expression of numbers and run-time scalars.
        bias: What is added to the score, or None.
        where: What is admitted, or None.
        causal: Whether `where` is exactly j <= i.
    """

    scale: n.Node
    bias: n.Node | None
    where: n.Node | None
    causal: bool


def recognise_sdpa(root: n.Output, width: int) -> DotProductSoftmax | str:
    """Recognise scaled dot-product attention.

    Args:
        root: The program.
        width: D.

    Returns:
        Its parts, or the reason why it is something else.
    """
    term = root.weights
    if not isinstance(term, n.Softmax):
        return "its weights are not one softmax"
    if term.sink is not None:
        return "torch's kernels have no sink"
    if root.values is not _VALUE or root.finish is not None:
        return "torch's kernels sum v itself and finish nothing"
    scale: n.Node = n.Const(0.0)
    bias: n.Node = n.Const(0.0)
    for sign, part in _summands(term.score, 1.0):
        factor = _dot_factor(part)
        if factor is not None:
            scale = add(scale, factor if sign > 0 else neg(factor))
        elif "q" in _names(part) or "k" in _names(part):
            return "its score is not a multiple of dot(q, k) plus a bias"
        else:
            bias = add(bias, part if sign > 0 else neg(part))
    if any(isinstance(node, n.Running) for node in n.walk(term)):
        return "a running sum over keys needs ordered keys, which torch's kernels do not keep"
    if is_zero(scale):
        return "its score is not a multiple of dot(q, k)"
    if any(isinstance(node, n.Visible | n.TopK | n.Keep) for node in n.walk(term)):
        return "it counts, selects or draws keys per row"
    found = None if isinstance(bias, n.Const) and bias.value == 0 else bias
    return DotProductSoftmax(scale, found, term.where, term.where in _CAUSAL)


def _names(part: n.Node) -> set[str]:
    return {node.name for node in n.walk(part) if isinstance(node, n.Vector)}


def _summands(node: n.Node, sign: float) -> list[tuple[float, n.Node]]:
    if isinstance(node, n.Call) and node.op in ("add", "sub"):
        right = sign if node.op == "add" else -sign
        return _summands(node.args[0], sign) + _summands(node.args[1], right)
    if isinstance(node, n.Call) and node.op == "neg":
        return _summands(node.args[0], -sign)
    return [(sign, node)]


def _dot_factor(node: n.Node) -> n.Node | None:
    """Return what dot(q, k) is multiplied by in this summand, or None if it is something else."""
    if node in _PRODUCTS:
        return ONE
    if isinstance(node, n.Call) and node.op == "mul":
        for product, other in (node.args, node.args[::-1]):
            factor = _dot_factor(product)
            if factor is not None and _is_number(other):
                return mul(factor, other)
    if isinstance(node, n.Call) and node.op == "div" and _is_number(node.args[1]):
        factor = _dot_factor(node.args[0])
        return None if factor is None else call("div", factor, node.args[1])
    return None


_ARITHMETIC = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "sqrt": lambda a: math.sqrt(a),
}


def _is_number(node: n.Node) -> bool:
    """Tell whether an expression is made of numbers, the width and run-time scalars alone."""
    return all(
        isinstance(part, n.Const | n.Scalar)
        or part is n.Index("width")
        or (isinstance(part, n.Call) and part.op in _ARITHMETIC)
        for part in n.walk(node)
    )


def number_of(node: n.Node, width: int, scalars: Mapping[str, float]) -> float:
    """Return the value of an expression of numbers, the width and run-time scalars.

    Args:
        node: The expression, e.g. a recognised scale.
        width: D.
        scalars: Run-time scalars by name.

    Returns:
        Its value; NaN where it has none.
    """
    if isinstance(node, n.Const):
        return float(node.value)
    if isinstance(node, n.Scalar):
        return scalars[node.name]
    if isinstance(node, n.Call):
        try:
            return float(
                _ARITHMETIC[node.op](*(number_of(arg, width, scalars) for arg in node.args))
            )
        except (ArithmeticError, ValueError, TypeError):
            return math.nan
    return float(width)
