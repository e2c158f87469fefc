"""What a program may compute: scalar functions, channel reductions and row operations.

Leaves to others: the operators Python spells with symbols (`trace`) and the last line (`weights`).
"""

import math
from typing import Any

from regard.ir import nodes as n
from regard.lang.trace import Expr, build, call, fail, lift


def _unary(name: str, meaning: str):
    def function(x: Any) -> Expr:
        return call(name, x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"""Return {meaning} of a number or traced value.

    Args:
        x: A traced value or number.

    Returns:
        The traced result, at every point of x's axes.
    """
    return function


exp = _unary("exp", "the exponential")
log = _unary("log", "the natural logarithm")
sqrt = _unary("sqrt", "the square root")
tanh = _unary("tanh", "the hyperbolic tangent")
sigmoid = _unary("sigmoid", "1 / (1 + exp(-x))")
relu = _unary("relu", "max(x, 0), with derivative 0 at 0,")
erf = _unary("erf", "the error function")
softplus = _unary("softplus", "log(1 + exp(x))")
cos = _unary("cos", "the cosine")
sin = _unary("sin", "the sine")
sign = _unary("sign", "-1, 0 or 1")
floor = _unary("floor", "the largest integer not above x, as an integer,")


def where(condition: Any, yes: Any, no: Any) -> Expr:
    """Choose between two values at every pair.

    Args:
        condition: A traced condition.
        yes: The value where it holds.
        no: The value where it does not.

    Returns:
        The traced choice; gradients flow into the chosen side alone.
    """
    return call("where", condition, yes, no)


def clip(x: Any, low: Any, high: Any) -> Expr:
    """Limit a value to low … high.

    Args:
        x: A traced value or number.
        low: The lower bound.
        high: The upper bound.

    Returns:
        min(max(x, low), high).
    """
    return min(max(x, low), high)


def sum(row: Any) -> Expr:
    """Add up a channel expression, e.g. `rg.sum(a * rg.tanh(pair.q + pair.k))`.

    Args:
        row: A traced value that varies over channels.

    Returns:
        The traced sum over channels.
    """
    return Expr(build(n.Reduce, lift(row), "c"))


def dot(u: Any, w: Any) -> Expr:
    """Return the dot product of two rows of channels: `rg.sum(u * w)`.

    Args:
        u: A traced row.
        w: A traced row of the same width.

    Returns:
        The traced dot product.
    """
    return sum(call("mul", u, w))


def rotate(u: Any, angle: Any, pairs: str = "halves") -> Expr:
    """Turn pairs of channels of a row by an angle, as for rotary positions.

    Args:
        u: A traced row of even width.
        angle: An expression over half the channels, e.g. `pair.i * theta` with `rg.channel` in
            theta.
        pairs: "halves" pairs channel c with c + width/2, "interleaved" pairs 2c with 2c + 1.

    Returns:
        The traced row.

    Source: Su et al. 2021, arXiv 2104.09864.
    """
    return Expr(build(n.Rotate, lift(u), lift(angle), pairs))


def rotary(position: Any = None, base: Any = 10000.0, width: Any = None) -> Expr:
    """Return the angle of rotary positions: position · base^(-2c / width).

    Published scalings change the angle of one step: with `step = rg.rotary()`, the angle
    `pair.i * step / 4` turns four times as slowly as `rg.rotary(pair.i)`.

    Args:
        position: `pair.i` for queries, `pair.j` for keys, or a feature; it may vary over channels.
            Left out, the angle is that of one step.
        base: The base of the geometric series of wavelengths, a number or a traced value.
        width: That of the row that is turned, if it is not `pair.width`: of a slice, say.

    Returns:
        The traced angle for `rotate`.
    """
    size = build(n.Index, "width") if width is None else lift(width)
    stretch = log(base) if isinstance(base, Expr) else math.log(base)
    step = exp(Expr(build(n.Channel)) * (-2.0 * stretch) / Expr(size))
    return step if position is None else position * step


def project(u: Any, matrix: Any, width: int | None = None) -> Expr:
    """Multiply a row by a matrix, once per row.

    Args:
        u: A traced row.
        matrix: `rg.parameter(name, per=("channel", "channel"))`, optionally per "head" first.
        width: The width of the result; that of u unless said.

    Returns:
        The traced row u @ matrix.
    """
    if not isinstance(matrix, Expr) or not isinstance(matrix.node, n.Array):
        fail('rg.project takes a matrix: rg.parameter(name, per=("channel", "channel"))')
    return Expr(build(n.Project, lift(u), matrix.node, width))


def max_over_keys(row: Any) -> Expr:
    """Return each channel's largest value over the keys of a head, with stopped gradient.

    Args:
        row: A traced row of the key's side, e.g. `pair.v`.

    Returns:
        The traced row, the same for every pair of a head.
    """
    return Expr(build(n.KeyMax, lift(row)))


def running_sum(x: Any, where: Any = None, reverse: bool = False, exclusive: bool = False) -> Expr:
    """Add up a number over a query's keys, up to and including this one, in order of key rows.

    Key rows are in the order of the key tensor, whatever their positions are.

    Args:
        x: A traced number per pair or per key.
        where: Which keys of a query count; others, and keys that do not exist, add nothing,
            whatever they hold. None counts all.
        reverse: Whether to add up from this key to the last one instead.
        exclusive: Whether to leave this key out.

    Returns:
        The traced sum, a number per pair; gradients flow into every number that was added.

    Source: stick breaking, Tan et al. 2024, arXiv 2410.17980; contextual positions, Golovneva et
    al. 2024, arXiv 2405.18719; forget gates, Lin et al. 2025, arXiv 2503.02130.
    """
    condition = None if where is None else lift(where)
    return Expr(build(n.Running, lift(x), condition, bool(reverse), bool(exclusive)))


def min(*values: Any) -> Expr:
    """Return the smallest of several values; ties share the gradient equally.

    Args:
        *values: Two or more traced values or numbers.

    Returns:
        The traced minimum.
    """
    return _fold("min", values)


def max(*values: Any) -> Expr:
    """Return the largest of several values; ties share the gradient equally.

    Args:
        *values: Two or more traced values or numbers.

    Returns:
        The traced maximum.
    """
    return _fold("max", values)


def _fold(op: str, values: tuple) -> Expr:
    if len(values) < 2:
        fail(f"rg.{op} takes two or more values")
    result = values[0]
    for value in values[1:]:
        result = call(op, result, value)
    return result
