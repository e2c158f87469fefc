"""Causal sums by state, and their gradient, in C++: the functions of template/states.h on tensors.

Leaves to others: which sums, and what is done where there is no compiler (`backends/linear`).
"""

import ctypes
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from regard.backends.base import Declined
from regard.backends.cpu.compiler import Compiler, find_compiler
from regard.backends.cpu.library import load_library
from regard.errors import UnsupportedError

_REALS = {torch.float32: "float", torch.float64: "double"}
_SOURCE = '#include "states.h"\n'


@functools.cache
def _library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """Return the library, built on first use; None if it cannot be built."""
    compiler = find_compiler()
    if isinstance(compiler, str):
        return None
    lanes = (f"REGARD_REAL={_REALS[dtype]}", f"REGARD_BYTES={compiler.lanes_bytes}")
    try:
        found = load_library(_SOURCE, "states", lanes)
    except UnsupportedError:
        return None
    for run in (found.regard_forward, found.regard_backward):
        run.argtypes, run.restype = [ctypes.c_void_p], ctypes.c_int
    return found


def has_states(tensor: Tensor) -> bool:
    """Tell whether sums of such rows can be taken here; what is needed is built on first use.

    Args:
        tensor: Rows.

    Returns:
        Whether `sum_states` and `spread_states` work.
    """
    known = tensor.device.type == "cpu" and tensor.dtype in _REALS
    return known and _library(tensor.dtype) is not None


def _fitted(rows: Tensor) -> Tensor:
    """Return rows (B, H, …, C) as they are read: side by side, C a multiple of vectors."""
    compiler = find_compiler()
    assert isinstance(compiler, Compiler)
    rest = -rows.shape[-1] % (compiler.lanes_bytes // rows.element_size())
    if rest:
        return torch.nn.functional.pad(rows, (0, rest))
    return rows if rows[0, 0].is_contiguous() else rows.contiguous()


def _run(name: str, sizes: Sequence[int], tensors: Sequence[Tensor | None]) -> None:
    words, found = [*sizes, torch.get_num_threads()], None
    for tensor in tensors:
        found = found if tensor is None else tensor
        words += (
            (0, 0, 0) if tensor is None else (tensor.data_ptr(), tensor.stride(0), tensor.stride(1))
        )
    assert found is not None
    run = getattr(_library(found.dtype), name)
    if run((ctypes.c_int64 * len(words))(*words)):
        raise Declined("a state got no memory")


def sum_states(
    f: Tensor, g: Tensor, v: Tensor, sums: Tensor, totals: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor, Tensor | None]:
    """Sum f(i) · g(j) · v(j) over the keys j <= i and those of a state.

    Args:
        f: Query rows, (B, H, N, D).
        g: As many key rows, (B, H, N, D).
        v: What is summed, (B, H, N, E).
        sums: The state before them, (B, H, D, E).
        totals: The same with 1 for v, (B, H, 1, D); None unless asked for.

    Returns:
        The sums (B, H, N, E), those of 1 instead of v (B, H, N), and the state after the rows.

    Raises:
        Declined: If memory runs out.
    """
    (b, h, rows, width), across = f.shape, v.shape[-1]
    inputs = [_fitted(one) for one in (f, g, v)]
    wide, far = inputs[0].shape[-1], inputs[2].shape[-1]
    state = _state(sums, wide, far)
    total = None if totals is None else _fitted(totals)
    values = v.new_empty((b, h, rows, far))
    after = v.new_empty((b, h, wide, far))
    row_totals = total_after = None
    if total is not None:
        row_totals, total_after = v.new_empty((b, h, rows)), torch.empty_like(total)
    results = [values, row_totals, after, total_after]
    _run("regard_forward", (b, h, rows, wide, far), [*inputs, state, total, *results, *[None] * 5])
    last = None if total_after is None else total_after[..., :width]
    return values[..., :across], row_totals, after[..., :width, :across], last


def _state(sums: Tensor, wide: int, far: int) -> Tensor:
    """Return a state with as many rows and columns."""
    down, across = wide - sums.shape[2], far - sums.shape[3]
    if down or across:
        return torch.nn.functional.pad(sums, (0, across, 0, down))
    return _fitted(sums)


def spread_states(
    inputs: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None],
    received: tuple[Tensor, Tensor | None, Tensor, Tensor | None],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Return the gradient of `sum_states`.

    Args:
        inputs: Its inputs.
        received: What its results receive.

    Returns:
        What its inputs receive.

    Raises:
        Declined: If memory runs out.
    """
    f, g, v, sums, totals = inputs
    (b, h, rows, width), across = f.shape, v.shape[-1]
    f, g, v = (_fitted(one) for one in (f, g, v))
    wide, far = f.shape[-1], v.shape[-1]
    total = None if totals is None else _fitted(totals)
    values, row_totals, after, total_after = received
    row_totals = None if row_totals is None else row_totals.contiguous()
    total_after = None if total_after is None else _fitted(total_after)
    given = [_fitted(values), row_totals, _state(after, wide, far), total_after]
    to_f, to_g, to_v = f.new_empty((b, h, rows, wide)), f.new_empty((b, h, rows, wide)), None
    to_v, to_sums = f.new_empty((b, h, rows, far)), f.new_empty((b, h, wide, far))
    to_total = None if total is None else torch.empty_like(total)
    results = [to_f, to_g, to_v, to_sums, to_total]
    state = _state(sums, wide, far)
    _run("regard_backward", (b, h, rows, wide, far), [f, g, v, state, total, *given, *results])
    last = None if to_total is None else to_total[..., :width]
    found = to_f[..., :width], to_g[..., :width], to_v[..., :across]
    return *found, to_sums[..., :width, :across], last
