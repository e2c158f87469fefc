"""Between which numbers an expression lies, by what the program alone says.

Before: 20 · tanh(s / 20), s anything.
After: (-20, 20), so that exponentials of it need no running maximum.
Bounds are those of exact arithmetic on numbers: rounding may step over one by as much as it errs,
and NaN, from NaN inputs or from infinite ones, is ignored. Leaves to others: what follows.
"""

import math
from collections.abc import Callable, Mapping

from regard.ir import nodes as n
from regard.ir.operators import OPERATORS
from regard.ir.types import type_of

Bounds = tuple[float, float]
UNKNOWN: Bounds = (-math.inf, math.inf)
_POSITIVE: Bounds = (0.0, math.inf)
_SHARE: Bounds = (0.0, 1.0)
# Positions alone may be negative.
_SIZES: dict[str, Bounds] = {
    "i": UNKNOWN,
    "j": UNKNOWN,
    **dict.fromkeys(("heads", "width"), (1.0, math.inf)),
}


def bound_of(node: n.Node, known: Mapping[n.Node, Bounds] | None = None) -> Bounds:
    """Return bounds of an expression.

    Args:
        node: Any expression; one of rows is bounded channel by channel.
        known: Bounds of some of its parts, where more is known than the parts say.

    Returns:
        The least and the largest value it can have; -inf and inf where nothing is known.
    """
    return bounds_within(node, known)[node]


def bounds_within(
    node: n.Node, known: Mapping[n.Node, Bounds] | None = None
) -> dict[n.Node, Bounds]:
    """Return bounds of an expression and of everything it is made of.

    Args:
        node: Any expression.
        known: As for `bound_of`.

    Returns:
        Bounds by node.
    """
    known = known or {}
    found: dict[n.Node, Bounds] = {}
    for part in n.walk(node):
        made = _bounds(part, [found[child] for child in n.children(part)])
        found[part] = known.get(part, made)
    return found


def _bounds(node: n.Node, parts: list[Bounds]) -> Bounds:
    match node:
        case n.Const():
            return float(node.value), float(node.value)
        case n.Call():
            return _call(node, parts)
        case n.Index():
            return _SIZES.get(node.name, _POSITIVE)
        case n.Visible() | n.Channel() | n.Count():
            return _POSITIVE
        case n.Softmax() | n.Entmax():
            return _SHARE
        case n.Slice() | n.Widen() | n.KeyMax():
            return parts[0]
        case n.Reduce() | n.Running():
            # Any number of channels or keys is added up, so only the sign is kept.
            lo, hi = parts[0]
            return (0.0 if lo >= 0 else -math.inf), (0.0 if hi <= 0 else math.inf)
    return _SHARE if type_of(node).kind == "bool" else UNKNOWN


def _call(node: n.Call, parts: list[Bounds]) -> Bounds:
    if OPERATORS[node.op].gives == "bool":
        return _SHARE
    if node.op in _RISING:
        ((lo, hi),) = parts
        return _RISING[node.op](lo), _RISING[node.op](hi)
    if node.op == "mul" and node.args[0] is node.args[1]:
        return _power(parts[0], (2.0, 2.0))
    if node.op == "mod":
        return _remainder(parts[1], type_of(node).kind == "int")
    return _RULES[node.op](*parts)


def _overflowing(function: Callable[[float], float]) -> Callable[[float], float]:
    def bounded(x: float) -> float:
        try:
            return function(x)
        except OverflowError:
            return math.inf

    return bounded


def _log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf


def _sigmoid(x: float) -> float:
    return 0.5 + 0.5 * math.tanh(x / 2)


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _floor(x: float) -> float:
    return float(math.floor(x)) if math.isfinite(x) else x


def _times(x: float, y: float) -> float:
    """Return a product; 0 times what is as large as one likes is 0."""
    return 0.0 if x == 0 or y == 0 else x * y


def _over(x: float, y: float) -> float:
    """Return a quotient; by what is as large as one likes it is 0."""
    # Not times an inverse: 49 · (1/49) is less than 1.
    return 0.0 if x == 0 or math.isinf(y) else x / y


def _known(lo: float, hi: float) -> Bounds:
    """Return bounds; an end that is inf - inf is unknown."""
    return (-math.inf if math.isnan(lo) else lo), (math.inf if math.isnan(hi) else hi)


def _add(a: Bounds, b: Bounds) -> Bounds:
    return _known(a[0] + b[0], a[1] + b[1])


def _neg(a: Bounds) -> Bounds:
    return -a[1], -a[0]


def _mul(a: Bounds, b: Bounds) -> Bounds:
    found = [_times(x, y) for x in a for y in b]
    return min(found), max(found)


def _div(a: Bounds, b: Bounds) -> Bounds:
    if b[0] <= 0 <= b[1]:
        return UNKNOWN
    found = [_over(x, y) for x in a for y in b]
    return min(found), max(found)


def _floordiv(a: Bounds, b: Bounds) -> Bounds:
    lo, hi = _div(a, b)
    return _floor(lo), _floor(hi)


def _remainder(b: Bounds, whole: bool) -> Bounds:
    """Return the bounds of a remainder, which has the sign of the divisor."""
    if b[0] <= 0 <= b[1]:
        return UNKNOWN
    # Rounding may give the divisor itself, except among whole numbers.
    step = 1.0 if whole else 0.0
    return (0.0, b[1] - step) if b[0] > 0 else (b[0] + step, 0.0)


def _power(a: Bounds, b: Bounds) -> Bounds:
    """Return the bounds of a power with a fixed exponent."""
    exponent = b[0]
    if b[0] != b[1] or not math.isfinite(exponent):
        return _POSITIVE if a[0] >= 0 else UNKNOWN
    even, whole = exponent % 2 == 0, exponent == math.floor(exponent)
    lo, hi = _abs(a) if even else a
    if lo < 0 and not (whole and exponent > 0):
        return UNKNOWN
    ends = _raised(lo, exponent), _raised(hi, exponent)
    return min(ends), max(ends)


def _raised(x: float, exponent: float) -> float:
    if x == 0 and exponent < 0:
        return math.inf
    try:
        return math.pow(x, exponent)
    except OverflowError:
        return -math.inf if x < 0 and exponent % 2 == 1 else math.inf


def _abs(a: Bounds) -> Bounds:
    return max(a[0], -a[1], 0.0), max(-a[0], a[1])


def _hull(_: Bounds, a: Bounds, b: Bounds) -> Bounds:
    return min(a[0], b[0]), max(a[1], b[1])


def _wave(_: Bounds) -> Bounds:
    return -1.0, 1.0


_RISING: dict[str, Callable[[float], float]] = {
    "exp": _overflowing(math.exp),
    "log": _log,
    "sqrt": lambda x: math.sqrt(max(x, 0.0)),
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "erf": math.erf,
    "softplus": _softplus,
    "relu": lambda x: max(x, 0.0),
    "floor": _floor,
    "sign": lambda x: float((x > 0) - (x < 0)),
}
_RULES: dict[str, Callable[..., Bounds]] = {
    "add": _add,
    "sub": lambda a, b: _add(a, _neg(b)),
    "mul": _mul,
    "div": _div,
    "floordiv": _floordiv,
    "pow": _power,
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "neg": _neg,
    "abs": _abs,
    "where": _hull,
    "cos": _wave,
    "sin": _wave,
}
