"""Scalar arithmetic on traced values, with torch's dtypes.

Leaves to others: torch's names for it (`functions`), whole numbers as bits (`bits`), rows (`rows`).
"""

from collections.abc import Callable

import torch

from regard.flex.ranges import range_of
from regard.flex.traced import Traced, constant
from regard.ir import nodes as n
from regard.ir.operators import OPERATORS
from regard.ir.types import type_of
from regard.lang.trace import build, fail

Number = Traced | bool | int | float
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def joined(*values: Number) -> torch.dtype:
    """Return the dtype torch gives a result of 0-d tensors and plain numbers."""
    traced = [value.dtype for value in values if isinstance(value, Traced)]
    found = traced[0] if traced else None
    for dtype in traced[1:]:
        found = torch.promote_types(found, dtype)  # type: ignore[arg-type]
    for value in values:
        if isinstance(value, Traced):
            continue
        if found is None:
            found = constant(value).dtype
        elif isinstance(value, float) and not found.is_floating_point:
            found = torch.get_default_dtype()
        elif isinstance(value, int) and not isinstance(value, bool) and found == torch.bool:
            found = torch.int64
    assert found is not None
    return found


def lifted(value: Number) -> Traced:
    """Return a traced value or plain number as a traced value."""
    return value if isinstance(value, Traced) else constant(value)


def number(value: Number) -> Traced:
    """Return a value for arithmetic: truth values count 0 and 1, as whole numbers."""
    value = lifted(value)
    if value.dtype != torch.bool:
        return value
    if isinstance(value.node, n.Const):
        return constant(int(value.node.value))
    one, zero = build(n.Const, 1), build(n.Const, 0)
    return Traced(build(n.Call, "where", (value.node, one, zero)), torch.int64)


def condition(value: Number, what: str) -> Traced:
    """Return a condition, or fail if it is a number."""
    value = lifted(value)
    if value.dtype != torch.bool:
        fail(f"{what} must be a condition such as q_idx >= kv_idx, not a number of {value.dtype}")
    return value


def fused(op: str, *args: Number) -> Traced:
    """Apply an operator of the language to numbers.

    Args:
        op: A name of `OPERATORS` that gives a number.
        *args: Traced values or plain numbers.

    Returns:
        The result.
    """
    values = [number(arg) for arg in args]
    dtype = joined(*(arg if not isinstance(arg, Traced) else number(arg) for arg in args))
    gives = OPERATORS[op].gives
    if gives == "float" and not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    if gives == "bool":
        dtype = torch.bool
    node = build(n.Call, op, tuple(value.node for value in values))
    if dtype in _INTEGERS and all(value.dtype in _INTEGERS for value in values):
        node = folded(node)
        if op in _GROWING:
            return _wrapped(Traced(node, dtype))
    return Traced(node, dtype)


# What may leave the range of its arguments' dtype.
_GROWING = ("add", "sub", "mul", "neg", "abs")
NARROW = (torch.int16, torch.int8, torch.uint8)


def _wrapped(value: Traced) -> Traced:
    """Return a narrow whole number as torch keeps it: beyond its dtype's range it starts again."""
    if value.dtype not in NARROW:
        return value
    kept = torch.iinfo(value.dtype)
    low, high = range_of(value.node)
    if low >= kept.min and high <= kept.max:
        return value
    span, least = build(n.Const, 1 << kept.bits), build(n.Const, kept.min)
    lifted_up = build(n.Call, "sub", (value.node, least))
    node = build(n.Call, "add", (build(n.Call, "mod", (lifted_up, span)), least))
    return Traced(node, value.dtype)


def folded(node: n.Node) -> n.Node:
    """Return a sum, difference or product of two written whole numbers as one."""
    match node:
        case n.Call(op, (n.Const(int(first)), n.Const(int(second)))) if op in _WRITTEN:
            return build(n.Const, _WRITTEN[op](first, second))
    return node


_WRITTEN: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
}


def where(chosen: Number, yes: Number, no: Number) -> Traced:
    """Choose between two values; both may be truth values."""
    test = condition(chosen, "the first argument of torch.where")
    dtype = joined(yes, no)
    first, second = lifted(yes), lifted(no)
    if dtype == torch.bool:
        return either(both(test, first), both(opposite(test), second))
    first, second = number(first), number(second)
    node = build(n.Call, "where", (test.node, first.node, second.node))
    return Traced(node, dtype)


def _logic(op: str, *args: Traced) -> Traced:
    return Traced(build(n.Call, op, tuple(arg.node for arg in args)), torch.bool)


def both(first: Number, second: Number) -> Traced:
    """Return whether both conditions hold."""
    return _absorbing("and", first, second, neutral=True)


def either(first: Number, second: Number) -> Traced:
    """Return whether one condition holds."""
    return _absorbing("or", first, second, neutral=False)


def _absorbing(op: str, first: Number, second: Number, neutral: bool) -> Traced:
    values = [condition(value, f"an argument of '{op}'") for value in (first, second)]
    # and_masks and or_masks begin with a written truth value, which would be read at every pair.
    for value, other in (values, values[::-1]):
        if isinstance(value.node, n.Const):
            return other if value.node.value is neutral else value
    return _logic(op, *values)


def opposite(value: Number) -> Traced:
    """Return whether a condition does not hold."""
    value = condition(value, "an argument of 'not'")
    if isinstance(value.node, n.Const):
        return constant(not value.node.value)
    return _logic("not", value)


def differ(first: Number, second: Number) -> Traced:
    """Return whether exactly one of two conditions holds."""
    return either(both(first, opposite(second)), both(opposite(first), second))


def compared(op: str, first: Number, second: Number) -> Traced:
    """Compare two numbers, or two truth values for being equal."""
    values = lifted(first), lifted(second)
    if op in ("eq", "ne") and all(value.dtype == torch.bool for value in values):
        unlike = differ(*values)
        return unlike if op == "ne" else opposite(unlike)
    return fused(op, first, second)


def as_dtype(value: Number, dtype: torch.dtype) -> Traced:
    """Return a value in another dtype; a narrower floating dtype rounds nothing here.

    Args:
        value: A traced value or number.
        dtype: The wanted dtype.

    Returns:
        The value as torch converts it: towards 0 for whole numbers, other than 0 for conditions.
    """
    value = lifted(value)
    if isinstance(value.node, n.Const) and not dtype.is_complex:
        written = constant(_of_kind(dtype)(value.node.value))
        return Traced(written.node, dtype)
    if dtype == torch.bool:
        return value if value.dtype == torch.bool else fused("ne", value, 0)
    if dtype.is_complex:
        fail("a program computes with real numbers; take the real part of the captured tensor")
    given = number(value)
    if dtype.is_floating_point and not given.is_floating:
        return Traced(build(n.Call, "mul", (given.node, build(n.Const, 1.0))), dtype)
    if not dtype.is_floating_point and given.is_floating:
        return Traced(truncated(given).node, dtype)
    return _wrapped(Traced(given.node, dtype))


def _of_kind(dtype: torch.dtype) -> type:
    return bool if dtype == torch.bool else float if dtype.is_floating_point else int


def truncated(value: Number) -> Traced:
    """Return the whole number towards 0."""
    given = number(value)
    if type_of(given.node).kind == "int":
        return Traced(given.node, torch.int64)
    down = fused("floor", value)
    up = fused("neg", fused("floor", fused("neg", value)))
    return Traced(where(compared("lt", value, 0), up, down).node, torch.int64)
