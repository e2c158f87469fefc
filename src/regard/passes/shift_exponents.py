"""Make a ratio of exponentials safe: both sides times exp(-m), m the largest exponent of the row.

Before: num = relu(exp(s) - 1).   After: relu(exp(s - m) - 1 · exp(-m)), exponents (s, 0).
Possible when the expression is positively homogeneous of degree one in its exponential terms and
constants. Leaves to others: computing m, and the scale of `add` and `at_least` (`lower`).
"""

import math
from dataclasses import dataclass

from regard.ir import nodes as n
from regard.passes.build import ZERO, call, is_zero, mul

_HOMOGENEOUS = {"add", "sub", "neg", "abs", "relu", "min", "max"}


@dataclass(frozen=True)
class Shifted:
    """An expression times exp(-m).

    Attributes:
        body: The shifted expression.
        exponents: What m must not be below, `ZERO` for constants; -inf where a `where` does not
            choose it, because an exponent that is not chosen may be huge.
    """

    body: n.Node
    exponents: tuple[n.Node, ...] = ()


def shift_exponents(expression: n.Node, m: n.Node) -> Shifted | None:
    """Return the expression times exp(-m), or None if it is not homogeneous.

    Args:
        expression: A numerator or denominator.
        m: The hole that stands for the row's shift.

    Returns:
        The shifted expression; one without exponentials is its own, unshifted, form only if the
        other side has none either, which the caller decides from `exponents`.
    """
    free = _exp_free(expression)
    return _shift(expression, m, free)


def has_exponentials(expression: n.Node) -> bool:
    """Tell whether an exponential stands anywhere in the expression."""
    return any(isinstance(node, n.Call) and node.op == "exp" for node in n.walk(expression))


def _exp_free(root: n.Node) -> set[n.Node]:
    free: set[n.Node] = set()
    for node in n.walk(root):
        if not (isinstance(node, n.Call) and node.op == "exp") and all(
            c in free for c in n.children(node)
        ):
            free.add(node)
    return free


def _shift(node: n.Node, m: n.Node, free: set[n.Node]) -> Shifted | None:
    if is_zero(node):
        return Shifted(node)
    if node in free:
        return Shifted(mul(node, call("exp", call("neg", m))), (ZERO,))
    if not isinstance(node, n.Call):
        return None
    if node.op == "exp":
        return Shifted(call("exp", call("sub", node.args[0], m)), (node.args[0],))
    if node.op in _HOMOGENEOUS:
        return _combine(node.op, [_shift(arg, m, free) for arg in node.args])
    return _shift_choice(node, m, free) if node.op == "where" else _shift_product(node, m, free)


def _combine(op: str, parts: list[Shifted | None], *before: n.Node) -> Shifted | None:
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        return None
    exponents = tuple(dict.fromkeys(x for part in whole for x in part.exponents))
    return Shifted(call(op, *before, *(part.body for part in whole)), exponents)


def _shift_choice(node: n.Call, m: n.Node, free: set[n.Node]) -> Shifted | None:
    condition, *branches = node.args
    parts = []
    for chosen, branch in zip((condition, call("not", condition)), branches, strict=True):
        part = _shift(branch, m, free)
        if part is not None:
            hidden = [call("where", chosen, x, n.Const(-math.inf)) for x in part.exponents]
            part = Shifted(part.body, tuple(hidden))
        parts.append(part)
    return _combine("where", parts, condition)


def _shift_product(node: n.Call, m: n.Node, free: set[n.Node]) -> Shifted | None:
    if node.op not in ("mul", "div"):
        return None
    a, b = node.args
    factor, other = (b, a) if b in free else (a, b)
    if factor not in free or (node.op == "div" and factor is not b):
        return None
    part = _shift(other, m, free)
    return None if part is None else Shifted(call(node.op, part.body, factor), part.exponents)
