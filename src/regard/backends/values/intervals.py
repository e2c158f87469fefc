"""Interval arithmetic on tensors: what an expression can be at any pair of a block.

Every value has one element per block. A number is known by its least and largest value in float64;
NaN there says that it may be anything, NaN itself included, and spreads by itself. Whole numbers
are exact; the others are widened by more than single precision can err, so that no rounding of the
one who evaluates a pair contradicts its block. Leaves to others: what leaves are, and what
a block is (`blocks`).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from regard.ir.operators import OPERATORS

# Where whole numbers stop being exact: float64 holds 2^53, and sums of a hundred stay below.
LARGEST_WHOLE = 2.0**46
# Eight units in the last place of float32, its largest number, and its smallest above 0.
_SLACK, _LARGEST, _SMALLEST = 2.0**-20, 3e38, 2e-38
# From here on float32 does not hold every whole number.
_SINGLE_WHOLE, _SINGLE_STEP = 2.0**24, 2.0**-24


class Range(NamedTuple):
    """A number between two.

    Attributes:
        lo: Its least value, float64, or NaN.
        hi: Its largest value, or NaN.
        whole: Whether it is computed in whole numbers.
    """

    lo: Tensor
    hi: Tensor
    whole: bool


class Truth(NamedTuple):
    """A condition.

    Attributes:
        must: Whether it holds at every pair.
        may: Whether it may hold at some pair.
    """

    must: Tensor
    may: Tensor


Interval = Range | Truth


def number(value: Interval) -> Range:
    """Return a value for arithmetic: truth values count 0 and 1."""
    if isinstance(value, Range):
        return value
    return Range(value.must.double(), value.may.double(), True)


def truth(value: Interval) -> Truth:
    """Return a value as a condition: what is not 0 holds."""
    if isinstance(value, Truth):
        return value
    return Truth((value.lo > 0) | (value.hi < 0), ~((value.lo == 0) & (value.hi == 0)))


def within(lo: Tensor, hi: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    """Return both ends, or NaN where one is NaN or not below a limit."""
    known = torch.maximum(-lo, hi) < limit
    return torch.where(known, lo, torch.nan), torch.where(known, hi, torch.nan)


def whole_range(lo: Tensor, hi: Tensor) -> Range:
    """Return a range of whole numbers, unknown where they are too large to be exact."""
    return Range(*within(lo.double(), hi.double(), LARGEST_WHOLE), True)


def whole_points(value: Tensor) -> Range:
    """Return whole numbers that are known, except where they are too large to be exact."""
    exact = value.double()
    least, most = torch.aminmax(exact) if exact.numel() else (exact.sum(), exact.sum())
    if not (-LARGEST_WHOLE < least and most < LARGEST_WHOLE):
        exact, _ = within(exact, exact, LARGEST_WHOLE)
    return Range(exact, exact, True)


def apply(op: str, args: list[Interval]) -> Interval:
    """Apply a scalar operator.

    Args:
        op: Its name in `OPERATORS`.
        args: Its arguments.

    Returns:
        An interval that holds every value it has in the block.
    """
    operator = OPERATORS[op]
    if operator.takes == "bool":
        return _LOGIC[op](*map(truth, args))
    if op == "where":
        return _where(truth(args[0]), args[1], args[2])
    numbers = [number(arg) for arg in args]
    if operator.gives == "float":
        numbers = [real(arg) for arg in numbers]
    else:
        numbers = _alike(numbers)
    if op in _RISING:
        (x,) = numbers
        return rounded(_RISING[op](x.lo), _RISING[op](x.hi))
    return _RULES[op](*numbers)


def real(x: Range) -> Range:
    """Return a whole number as the floating-point number it is converted to."""
    if not x.whole:
        return x
    lo, hi = (
        torch.where(end.abs() > _SINGLE_WHOLE, end + sign * _SINGLE_STEP * end.abs(), end)
        for end, sign in ((x.lo, -1), (x.hi, 1))
    )
    return Range(lo, hi, False)


def rounded(lo: Tensor, hi: Tensor) -> Range:
    """Return what a floating-point result between two exact ends can be; unknown if infinite."""
    lo, hi = within(lo, hi, _LARGEST)
    return Range(lo - (_SLACK * lo.abs() + _SMALLEST), hi + (_SLACK * hi.abs() + _SMALLEST), False)


def _alike(numbers: list[Range]) -> list[Range]:
    if len({x.whole for x in numbers}) == 1:
        return numbers
    return [real(x) for x in numbers]


def _result(lo: Tensor, hi: Tensor, whole: bool) -> Range:
    return whole_range(lo, hi) if whole else rounded(lo, hi)


# ── Conditions ───────────────────────────────────────────────────────────────────────────────
def _and(a: Truth, b: Truth) -> Truth:
    return Truth(a.must & b.must, a.may & b.may)


def _or(a: Truth, b: Truth) -> Truth:
    return Truth(a.must | b.must, a.may | b.may)


def _not(a: Truth) -> Truth:
    return Truth(~a.may, ~a.must)


# A comparison with NaN is false, so "it may be" is always the negation of "it cannot be".
def _lt(a: Range, b: Range) -> Truth:
    return Truth(a.hi < b.lo, ~(a.lo >= b.hi))


def _le(a: Range, b: Range) -> Truth:
    return Truth(a.hi <= b.lo, ~(a.lo > b.hi))


def _eq(a: Range, b: Range) -> Truth:
    return Truth((a.lo == b.hi) & (a.hi == b.lo), ~((a.hi < b.lo) | (b.hi < a.lo)))


def _where(condition: Truth, a: Interval, b: Interval) -> Interval:
    if isinstance(a, Truth) and isinstance(b, Truth):
        other = _not(condition)
        either = _or(_and(condition, a), _and(other, b))
        return Truth(either.must | (a.must & b.must), either.may)
    x, y = _alike([number(a), number(b)])
    lo, hi = torch.minimum(x.lo, y.lo), torch.maximum(x.hi, y.hi)
    lo, hi = (
        torch.where(condition.must, own, torch.where(condition.may, both, other))
        for own, both, other in ((x.lo, lo, y.lo), (x.hi, hi, y.hi))
    )
    return Range(lo, hi, x.whole)


# ── Numbers ──────────────────────────────────────────────────────────────────────────────────
def _add(a: Range, b: Range) -> Range:
    lo, hi = a.lo + b.lo, a.hi + b.hi
    return Range(lo, hi, True) if a.whole else rounded(lo, hi)


def _neg(a: Range) -> Range:
    return Range(-a.hi, -a.lo, a.whole)


def _sub(a: Range, b: Range) -> Range:
    lo, hi = a.lo - b.hi, a.hi - b.lo
    return Range(lo, hi, True) if a.whole else rounded(lo, hi)


def _corners(a: Range, b: Range) -> tuple[Tensor, Tensor]:
    """Return the ends of a product, which lie at corners."""
    first, second, third, fourth = a.lo * b.lo, a.lo * b.hi, a.hi * b.lo, a.hi * b.hi
    lo = torch.minimum(torch.minimum(first, second), torch.minimum(third, fourth))
    hi = torch.maximum(torch.maximum(first, second), torch.maximum(third, fourth))
    return lo, hi


def _mul(a: Range, b: Range) -> Range:
    return _result(*_corners(a, b), a.whole)


def _quotients(a: Range, b: Range) -> tuple[Tensor, Tensor]:
    """Return the ends of a quotient, NaN where the divisor may be 0."""
    nonzero = (b.lo > 0) | (b.hi < 0)
    found = [x / y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    lo = torch.minimum(torch.minimum(found[0], found[1]), torch.minimum(found[2], found[3]))
    hi = torch.maximum(torch.maximum(found[0], found[1]), torch.maximum(found[2], found[3]))
    return torch.where(nonzero, lo, torch.nan), torch.where(nonzero, hi, torch.nan)


def _div(a: Range, b: Range) -> Range:
    return rounded(*_quotients(a, b))


def _floordiv(a: Range, b: Range) -> Range:
    # Quotients of whole numbers below 2^46 round to a whole number only if they are one.
    if a.whole:
        lo, hi = _quotients(a, b)
        return Range(lo.floor(), hi.floor(), True)
    x = _div(a, b)
    return Range(x.lo.floor(), x.hi.floor(), False)


def _mod(a: Range, b: Range) -> Range:
    """Return the remainder: exact while the block stays within one period of a fixed divisor."""
    if not a.whole:
        # Rounding may give the divisor itself; an infinite number has no remainder.
        lo, hi = b.lo.clamp(max=0.0), b.hi.clamp(min=0.0)
        poison = 0 * (a.lo + a.hi) + torch.where((b.lo > 0) | (b.hi < 0), 0.0, torch.nan)
        return rounded(lo + poison, hi + poison)
    period = (a.lo / b.lo).floor()
    same = (period == (a.hi / b.lo).floor()) & (b.lo == b.hi)
    wrapped = (b.lo + 1).clamp(max=0), (b.hi - 1).clamp(min=0)
    # A remainder by 0 is the number itself.
    nonzero = (b.lo > 0) | (b.hi < 0)
    lo, hi = (
        torch.where(same, end - period * b.lo, torch.where(nonzero, most, torch.nan))
        for end, most in zip((a.lo, a.hi), wrapped, strict=True)
    )
    return Range(lo, hi, True)


def _pow(a: Range, b: Range) -> Range:
    """Return a power: of positive numbers, or with a fixed whole exponent."""
    fixed = (b.lo == b.hi) & (b.lo == b.lo.floor())
    even = fixed & (b.lo.remainder(2) == 0)
    size = _abs(a)
    lo, hi = torch.where(even, size.lo, a.lo), torch.where(even, size.hi, a.hi)
    found = [x.pow(y) for x in (lo, hi) for y in (b.lo, b.hi)]
    least = torch.minimum(torch.minimum(found[0], found[1]), torch.minimum(found[2], found[3]))
    most = torch.maximum(torch.maximum(found[0], found[1]), torch.maximum(found[2], found[3]))
    # Below 0 only odd exponents rise; at 0 negative ones have no value.
    known = (lo > 0) | (fixed & (b.lo >= 0) & (even | (b.lo >= 1)))
    ends = torch.where(known, least, torch.nan), torch.where(known, most, torch.nan)
    return _result(*ends, a.whole)


def _min(a: Range, b: Range) -> Range:
    return Range(torch.minimum(a.lo, b.lo), torch.minimum(a.hi, b.hi), a.whole)


def _max(a: Range, b: Range) -> Range:
    return Range(torch.maximum(a.lo, b.lo), torch.maximum(a.hi, b.hi), a.whole)


def _abs(a: Range) -> Range:
    return Range(torch.maximum(a.lo, -a.hi).clamp(min=0), torch.maximum(-a.lo, a.hi), a.whole)


def _relu(a: Range) -> Range:
    return Range(a.lo.clamp(min=0), a.hi.clamp(min=0), a.whole)


def _sign(a: Range) -> Range:
    lo, hi = (torch.where(end.isnan(), end, end.sign()) for end in (a.lo, a.hi))
    return Range(lo, hi, a.whole)


def _floor(a: Range) -> Range:
    return a if a.whole else whole_range(a.lo.floor(), a.hi.floor())


def _wave(a: Range) -> Range:
    """Return a cosine or sine, which an infinite number does not have."""
    poison = 0 * (a.lo - a.hi)
    return rounded(poison - 1, poison + 1)


_LOGIC: dict[str, Callable[..., Truth]] = {"and": _and, "or": _or, "not": _not}
_RISING: dict[str, Callable[[Tensor], Tensor]] = {
    **{name: getattr(torch, name) for name in ("exp", "log", "sqrt", "tanh", "sigmoid", "erf")},
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
}
_RULES: dict[str, Callable[..., Interval]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "floordiv": _floordiv,
    "mod": _mod,
    "pow": _pow,
    "min": _min,
    "max": _max,
    "neg": _neg,
    "abs": _abs,
    "sign": _sign,
    "floor": _floor,
    "relu": _relu,
    "cos": _wave,
    "sin": _wave,
    "lt": _lt,
    "le": _le,
    "gt": lambda a, b: _lt(b, a),
    "ge": lambda a, b: _le(b, a),
    "eq": _eq,
    "ne": lambda a, b: _not(_eq(a, b)),
}
