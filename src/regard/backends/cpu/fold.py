"""Do operators of numbers alone once, when a program is compiled.

Before: dot(q, k) / sqrt(64).
After: dot(q, k) / 8.
"""

import math

import torch

from regard.ir import nodes as n
from regard.ir.operators import OPERATORS

# Whole numbers are left to the kernel where torch and C++ round, wrap or fail differently.
_INEXACT = ("floordiv", "mod", "pow")


def fold_constants(root: n.Node) -> n.Node:
    """Return an expression in which operators of numbers alone are done.

    Args:
        root: The expression.

    Returns:
        The rewritten root.
    """
    return n.rewrite(root, _folded)


def _folded(node: n.Node) -> n.Node | None:
    """Return the number an operator of numbers gives, or None for any other node."""
    if not isinstance(node, n.Call) or node.op in ("where", "softplus"):
        return None
    numbers = [arg.value for arg in node.args if isinstance(arg, n.Const)]
    operator = OPERATORS[node.op]
    kinds = {type(number) for number in numbers}
    if len(numbers) < len(node.args) or bool in kinds or operator.gives not in ("float", "join"):
        return None
    real = operator.gives == "float" or float in kinds
    if not real and node.op in _INEXACT:
        return None
    args = [
        torch.tensor(number, dtype=torch.float64 if real else torch.int64) for number in numbers
    ]
    value = getattr(torch, operator.torch)(*args).item()
    return n.Const(value) if not real or math.isfinite(value) else None
