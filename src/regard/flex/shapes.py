"""Dtypes, sizes, rows and indexing: torch's functions that give a pair's value another form.

Leaves to others: what rows are (`rows`), arithmetic (`functions`).
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regard.flex import rows
from regard.flex.advice import refuse_python
from regard.flex.elementwise import as_dtype, fused, lifted
from regard.flex.functions import offered, operand
from regard.flex.index import picked
from regard.flex.rows import Row, elementwise
from regard.flex.traced import FUNCTIONS, Operand, Traced, constant
from regard.lang.trace import fail

# ── Dtypes ───────────────────────────────────────────────────────────────────────────────────
for _name, _dtype in {
    "float": torch.float32, "double": torch.float64, "half": torch.float16,
    "bfloat16": torch.bfloat16, "int": torch.int32, "long": torch.int64, "short": torch.int16,
    "bool": torch.bool,
}.items():  # fmt: skip
    offered(_name)(lambda x, dtype=_dtype: as_dtype(x, dtype))


def _to(x: Any, *args: Any, **kwargs: Any) -> Any:
    wanted = [value for value in (*args, *kwargs.values())]
    dtypes = [
        value if isinstance(value, torch.dtype) else value.dtype
        for value in wanted
        if isinstance(value, torch.dtype | Tensor | Operand)
    ]
    return elementwise(lambda value: as_dtype(value, dtypes[0]))(x) if dtypes else x


for _name in ("to", "type", "type_as"):
    FUNCTIONS[_name] = _to
for _name in ("clone", "contiguous", "cpu", "cuda", "alias"):
    FUNCTIONS[_name] = lambda x, *args, **kwargs: operand(x)


def _squeeze(x: Any, *_: Any) -> Any:
    given = operand(x)
    return given.make(0) if isinstance(given, Row) and given.shape == (1,) else given


FUNCTIONS["squeeze"] = _squeeze


@offered("detach")
def _detach(x: Any) -> Traced:
    given = lifted(x)
    if given.is_floating:
        fail(
            "detach() of a pair's value: a program passes gradients to all that it reads\n"
            "detach the captured tensor outside of the function, or give it without requires_grad"
        )
    return given


def _full(x: Any, value: Any, dtype: torch.dtype | None = None) -> Traced:
    found = constant(value)
    return as_dtype(found, dtype or (x.dtype if isinstance(x, Operand) else found.dtype))


def _shaped(size: Any) -> None:
    if tuple(size) != ():
        fail(f"a tensor of shape {tuple(size)} made for a pair; a pair's value has shape ()")


def _new(value: Any) -> Callable[..., Traced]:
    def make(x: Any, *size: Any, dtype: torch.dtype | None = None, **rest: Any) -> Traced:
        given = rest.get("size", size[0] if len(size) == 1 else size)
        _shaped(given if isinstance(given, tuple | list | torch.Size) else (given,))
        return _full(x, value, dtype)

    return make


def _new_full(
    x: Any, size: Any, fill_value: Any, dtype: torch.dtype | None = None, **_: Any
) -> Traced:
    _shaped(size)
    return _full(x, fill_value, dtype)


FUNCTIONS["new_full"] = _new_full
FUNCTIONS["new_tensor"] = lambda x, data, dtype=None, **_: _full(None, data, dtype)
for _name, _value in {"zeros": 0, "ones": 1}.items():
    FUNCTIONS[f"new_{_name}"] = _new(_value)
    FUNCTIONS[f"{_name}_like"] = lambda x, value=_value, dtype=None, **_: _full(x, value, dtype)
FUNCTIONS["full_like"] = lambda x, fill_value, dtype=None, **_: _full(x, fill_value, dtype)


# ── Rows ─────────────────────────────────────────────────────────────────────────────────────
def _reduced(of_row: Callable[[Any], Traced]) -> Callable[..., Any]:
    def reduce(x: Any, dim: Any = None, keepdim: bool = False, **_: Any) -> Any:
        given = operand(x)
        if not isinstance(given, Row):
            return lifted(given)
        if dim not in (None, -1, 0, (-1,), (0,)):
            fail(f"dim={dim!r} of a row, which has one axis")
        found = of_row(given)
        return rows.widened(found) if keepdim else found

    return reduce


for _name, _of_row in {
    "sum": rows.total, "mean": rows.average, "any": rows.any_of, "all": rows.all_of,
    "amax": rows.largest, "amin": rows.smallest, "prod": rows.product,
}.items():  # fmt: skip
    FUNCTIONS[_name] = _reduced(_of_row)
for _name in ("dot", "matmul", "mm", "inner", "vdot", "linalg_vecdot", "vecdot"):
    FUNCTIONS[_name] = lambda x, y, **_: rows.dot(operand(x), operand(y))
for _name in ("stack", "hstack"):
    FUNCTIONS[_name] = lambda values, dim=0, **_: rows.stacked([operand(v) for v in values])


def _extreme(op: str, of_row: Callable[[Any], Traced]) -> Callable[..., Any]:
    def extreme(x: Any, other: Any = None, **kwargs: Any) -> Any:
        if isinstance(other, Operand | Tensor):
            return elementwise(lambda a, b: fused(op, a, b))(operand(x), operand(other))
        if other is not None or kwargs:
            fail(f"torch.{op} along a dim returns places too; write torch.a{op}(row, dim)")
        return of_row(operand(x))

    return extreme


FUNCTIONS["max"] = _extreme("max", rows.largest)
FUNCTIONS["min"] = _extreme("min", rows.smallest)
FUNCTIONS["unsqueeze"] = lambda x, dim: rows.widened(operand(x))


def _reshaped(x: Any, *size: Any) -> Any:
    given = operand(x)
    wanted = size[0] if len(size) == 1 and isinstance(size[0], tuple | list) else size
    if isinstance(given, Row):
        if tuple(wanted) in ((-1,), (given.width,)):
            return given
    elif tuple(wanted) == ():
        return given
    elif tuple(wanted) in ((1,), (-1,)):
        return rows.widened(given)
    fail(f"shape {tuple(wanted)}: a pair's value is a number or a row")


for _name in ("view", "reshape", "expand"):
    FUNCTIONS[_name] = _reshaped


# ── Captured tensors by functions rather than by [ ] ─────────────────────────────────────────
def _index_select(x: Any, dim: int, index: Any) -> Any:
    if isinstance(index, Row):
        index = index.make(0) if index.width == 1 else index
    before = (slice(None),) * (dim % x.ndim)
    return picked(x, (*before, index)) if isinstance(x, Tensor) else x[(*before, index)]


FUNCTIONS["index_select"] = FUNCTIONS["select"] = _index_select
FUNCTIONS["take"] = lambda x, index: picked(x.flatten(), index)
FUNCTIONS["__getitem__"] = lambda x, index: picked(x, index)


# ── What has no meaning for a pair ───────────────────────────────────────────────────────────
for _name in ("item", "tolist", "numpy"):
    FUNCTIONS[_name] = lambda *args: refuse_python("item")
FUNCTIONS["size"] = lambda x, dim=None: x.shape if dim is None else x.shape[dim]
FUNCTIONS["dim"] = FUNCTIONS["ndimension"] = lambda x: x.ndim
FUNCTIONS["numel"] = lambda x: math.prod(x.shape)
FUNCTIONS["is_floating_point"] = lambda x: x.dtype.is_floating_point
