"""Torch's functions and methods, by name, on traced values.

A name stands for torch.name, tensor.name and torch.nn.functional.name alike; "self.name" is a
method whose arguments come in another order. Leaves to others: how numbers are computed
(`elementwise`, `bits`), activations (`activations`), dtypes, sizes and rows (`shapes`).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regard.flex.bits import BITWISE
from regard.flex.captured import CURRENT, number_of
from regard.flex.elementwise import (
    as_dtype,
    both,
    compared,
    differ,
    either,
    fused,
    joined,
    number,
    opposite,
    truncated,
    where,
)
from regard.flex.index import whole_row
from regard.flex.rows import elementwise
from regard.flex.traced import FUNCTIONS, Traced
from regard.ir.types import type_of


def operand(value: Any) -> Any:
    """Return an argument as a traced value, a row or a plain number; captured tensors are read."""
    if not isinstance(value, Tensor):
        return value
    if value.ndim:
        return whole_row(value)
    written = CURRENT.get().written.get(id(value))
    return written if written is not None else Traced(number_of(value), value.dtype)


def offered(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Offer a function under torch's names, for numbers and rows and captured tensors."""

    def offer(function: Callable[..., Any]) -> Callable[..., Any]:
        by_value = elementwise(function)

        def applied(*args: Any, **kwargs: Any) -> Any:
            kept = {name: value for name, value in kwargs.items() if name not in _WITHOUT_MEANING}
            first = [kept.pop(name) for name in _FIRST if name in kept]
            second = [kept.pop(name) for name in _SECOND if name in kept]
            named = {name: operand(value) for name, value in kept.items()}
            return by_value(*map(operand, (*first, *args, *second)), **named)

        for name in names:
            FUNCTIONS[name] = applied
        return function

    return offer


# Where a result is put and how it lies in memory does not change what is computed.
_FIRST, _SECOND = ("input", "self"), ("other", "exponent")
_WITHOUT_MEANING = ("inplace", "memory_format", "copy", "non_blocking", "layout", "pin_memory")


def _by_operator(op: str, *names: str) -> None:
    offered(*names)(lambda *args: fused(op, *args))


for _op, _names in {
    "floordiv": "floor_divide", "mod": "remainder", "neg": "neg negative",
    "abs": "abs absolute", "sign": "sign sgn", "exp": "exp", "log": "log", "sqrt": "sqrt",
    "tanh": "tanh", "sigmoid": "sigmoid expit", "relu": "relu", "erf": "erf", "cos": "cos",
    "sin": "sin",
}.items():  # fmt: skip
    _by_operator(_op, *_names.split())
for _op, _names in {
    "lt": "lt less", "le": "le less_equal", "gt": "gt greater", "ge": "ge greater_equal",
    "eq": "eq", "ne": "ne not_equal",
}.items():  # fmt: skip
    offered(*_names.split())(lambda x, y, op=_op: compared(op, x, y))
for _name, _logic in {"logical_and": both, "logical_or": either, "logical_xor": differ}.items():
    offered(_name)(
        lambda x, y, logic=_logic: logic(as_dtype(x, torch.bool), as_dtype(y, torch.bool))
    )
offered("logical_not")(lambda x: opposite(as_dtype(x, torch.bool)))


def _bitwise(name: str, logic: Callable[..., Traced] | None) -> None:
    def apply(*args: Any) -> Traced:
        conditions = [joined(arg) == torch.bool for arg in args]
        return logic(*args) if logic is not None and all(conditions) else BITWISE[name](*args)

    offered(name)(apply)


def _of_conditions(op: str, logic: Callable[..., Traced], *names: str) -> None:
    def apply(x: Any, y: Any) -> Traced:
        # Of truth values alone torch makes truth values.
        return logic(x, y) if joined(x, y) == torch.bool else fused(op, x, y)

    offered(*names)(apply)


_of_conditions("mul", both, "mul", "multiply")
_of_conditions("min", both, "minimum", "fmin")
_of_conditions("max", either, "maximum", "fmax")
for _name, _choice in {
    "bitwise_and": both, "bitwise_or": either, "bitwise_xor": differ, "bitwise_not": opposite,
    "bitwise_left_shift": None, "bitwise_right_shift": None,
}.items():  # fmt: skip
    _bitwise(_name, _choice)


@offered("add")
def _add(x: Any, y: Any, alpha: Any = 1) -> Traced:
    if joined(x, y) == torch.bool:
        return either(x, y)
    return fused("add", x, y if alpha == 1 else fused("mul", y, alpha))


@offered("sub", "subtract")
def _sub(x: Any, y: Any, alpha: Any = 1) -> Traced:
    return fused("sub", x, y if alpha == 1 else fused("mul", y, alpha))


@offered("rsub")
def _rsub(x: Any, y: Any) -> Traced:
    return fused("sub", y, x)


@offered("div", "divide", "true_divide")
def _div(x: Any, y: Any, rounding_mode: str | None = None) -> Traced:
    if rounding_mode == "floor":
        return fused("floordiv", x, y)
    found = fused("div", x, y)
    if rounding_mode is None:
        return found
    whole = not number(x).is_floating and not number(y).is_floating
    return as_dtype(truncated(found), torch.int64 if whole else found.dtype)


@offered("fmod")
def _fmod(x: Any, y: Any) -> Traced:
    part = fused("mod", fused("abs", x), fused("abs", y))
    return fused("mul", fused("sign", x), part)


@offered("pow", "float_power")
def _pow(x: Any, y: Any) -> Traced:
    kinds = [type_of(number(value).node).kind for value in (x, y)]
    written = isinstance(y, int) and y >= 0
    if not set(kinds) & {"float", "any"} and not written:
        x = as_dtype(x, torch.get_default_dtype())
    return fused("pow", x, y)


@offered("where")
def _where(chosen: Any, yes: Any, no: Any) -> Traced:
    return where(chosen, yes, no)


@offered("self.where")
def _self_where(yes: Any, chosen: Any, no: Any) -> Traced:
    return where(chosen, yes, no)


@offered("masked_fill")
def _masked_fill(x: Any, mask: Any, value: Any) -> Traced:
    return where(mask, value, x)


@offered("clamp", "clip")
def _clamp(x: Any, min: Any = None, max: Any = None) -> Traced:
    found = number(x)
    for op, other, end in (("max", "lt", min), ("min", "gt", max)):
        if end is None:
            continue
        bound = number(end)
        if not found.is_floating and not bound.is_floating:
            found = fused(op, found, end)
        else:
            # At an end, torch passes the whole gradient on; a minimum would share it.
            found = where(compared(other, found, end), end, found)
    return found


offered("clamp_min")(lambda x, min: _clamp(x, min=min))
offered("clamp_max")(lambda x, max: _clamp(x, max=max))
offered("square")(lambda x: fused("mul", x, x))
offered("rsqrt")(lambda x: fused("div", 1.0, fused("sqrt", x)))
offered("reciprocal")(lambda x: fused("div", 1.0, x))
offered("exp2")(lambda x: fused("pow", 2.0, x))
offered("expm1")(lambda x: fused("sub", fused("exp", x), 1.0))
offered("log2")(lambda x: fused("mul", fused("log", x), 1 / math.log(2)))
offered("log10")(lambda x: fused("mul", fused("log", x), 1 / math.log(10)))
offered("log1p")(lambda x: fused("log", fused("add", x, 1.0)))
offered("tan")(lambda x: fused("div", fused("sin", x), fused("cos", x)))
offered("sinh")(
    lambda x: fused("mul", 0.5, fused("sub", fused("exp", x), fused("exp", fused("neg", x))))
)
offered("cosh")(
    lambda x: fused("mul", 0.5, fused("add", fused("exp", x), fused("exp", fused("neg", x))))
)
offered("erfc")(lambda x: fused("sub", 1.0, fused("erf", x)))
offered("lerp")(lambda x, y, weight: fused("add", x, fused("mul", weight, fused("sub", y, x))))
offered("addcmul")(
    lambda x, y, z, value=1: fused("add", x, fused("mul", value, fused("mul", y, z)))
)
offered("addcdiv")(
    lambda x, y, z, value=1: fused("add", x, fused("mul", value, fused("div", y, z)))
)


def _rounded(x: Any, found: Callable[[Traced], Traced]) -> Traced:
    given = number(x)
    return found(given) if given.is_floating else given


def _ceil(x: Traced) -> Traced:
    return fused("neg", fused("floor", fused("neg", x)))


offered("floor")(lambda x: _rounded(x, lambda given: fused("floor", given)))
offered("ceil")(lambda x: _rounded(x, _ceil))
offered("trunc", "fix")(
    lambda x: _rounded(x, lambda given: Traced(truncated(given).node, given.dtype))
)
offered("frac")(lambda x: fused("sub", x, truncated(x)))


@offered("round")
def _round(x: Any) -> Traced:
    given = number(x)
    if not given.is_floating:
        return given
    near = fused("floor", fused("add", given, 0.5))
    # Halves go to the even neighbour, as torch has it.
    half = compared("eq", fused("sub", near, given), 0.5)
    odd = compared("eq", fused("mod", near, 2), 1)
    return fused("sub", near, where(both(half, odd), 1, 0))


@offered("isneginf")
def _isneginf(x: Any) -> Traced:
    return compared("eq", x, -math.inf)


@offered("isposinf")
def _isposinf(x: Any) -> Traced:
    return compared("eq", x, math.inf)


@offered("isinf")
def _isinf(x: Any) -> Traced:
    return compared("eq", fused("abs", x), math.inf)


@offered("isnan")
def _isnan(x: Any) -> Traced:
    return compared("ne", x, x)


@offered("isfinite")
def _isfinite(x: Any) -> Traced:
    return compared("lt", fused("abs", x), math.inf)
