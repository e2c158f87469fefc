"""Turn a checked call into a `Bound`: every tensor by name and in standard shape.

Leaves to others: finding mistakes in shapes and dtypes (`check`).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from regard.errors import InputError
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ops.check import Facts
from regard.ops.parameters import initial_tensor

Rows = int | Tensor | Sequence[int] | None


def as_tensor(name: str, value: Any, like: Tensor) -> Tensor:
    """Return an input as a tensor on q's device.

    Args:
        name: Its name.
        value: A tensor or a number.
        like: q.

    Returns:
        The tensor; numbers become 0-d tensors in float32, or float64 for float64 q.

    Raises:
        InputError: If it is neither, or is on another device.
    """
    if isinstance(value, bool | int | float):
        return torch.tensor(value, dtype=_number_dtype(like.dtype), device=like.device)
    if not isinstance(value, Tensor):
        raise InputError(f"'{name}' must be a tensor or a number, not {type(value).__name__}")
    if value.device != like.device and value.dim() > 0:
        raise InputError(f"'{name}' is on {value.device}, q is on {like.device}")
    return value


def _number_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def bind(
    facts: Facts,
    tensors: dict[str, Tensor],
    *,
    query_offset: Rows,
    query_positions: Tensor | None,
    key_positions: Tensor | None,
    query_lengths: Rows,
    key_lengths: Rows,
    first_head: int,
    total_heads: int,
    seed: int | None,
) -> Bound:
    """Return the call in standard shape.

    Args:
        facts: From `check`.
        tensors: q, k, v and the named inputs given.
        query_offset: What `pair.i` adds to the row, an int or (B,).
        query_positions: What `pair.i` reads instead, (N,) or (B, N).
        key_positions: What `pair.j` reads, (M,) or (B, M).
        query_lengths: How many query rows exist, (B,).
        key_lengths: How many key rows exist, (B,).
        first_head: The number of the call's head 0 in the layer.
        total_heads: How many heads the layer has; 0 means this call's.
        seed: What random booleans are drawn from.

    Returns:
        The bound call.

    Raises:
        InputError: If an offset, positions or lengths do not fit.
    """
    q, sizes = tensors["q"], facts.sizes
    ready = {name: _standard(facts.inputs.get(name), tensor) for name, tensor in tensors.items()}
    for name, leaf in facts.inputs.items():
        if name not in ready:
            ready[name] = _default(facts, name, leaf, q.dtype).to(q.device)
    if query_positions is not None and not (isinstance(query_offset, int) and query_offset == 0):
        raise InputError("query_offset and query_positions both say where queries are; give one")
    if query_positions is None:
        queries = _offset_positions(query_offset, sizes, q.device)
    else:
        queries = _positions("query_positions", query_positions, sizes["B"], sizes["N"], q.device)
    if key_positions is None:
        keys = arange(sizes["M"], q.device)
    else:
        keys = _positions("key_positions", key_positions, sizes["B"], sizes["M"], q.device)
    return Bound(
        tensors=ready,
        query_positions=queries,
        key_positions=keys,
        query_lengths=_lengths("query_lengths", query_lengths, sizes["B"], sizes["N"], q.device),
        key_lengths=_lengths("key_lengths", key_lengths, sizes["B"], sizes["M"], q.device),
        first_head=first_head,
        total_heads=total_heads or sizes["H"],
        seed=seed,
    )


@lru_cache(maxsize=256)
def arange(size: int, device: torch.device) -> Tensor:
    """Return positions 0 … size - 1 as (1, size)."""
    return torch.arange(size, device=device).view(1, -1)


def _standard(leaf: n.Node | None, tensor: Tensor) -> Tensor:
    if isinstance(leaf, n.Feature) and tensor.dim() < 3:
        return tensor.view((1,) * (3 - tensor.dim()) + tuple(tensor.shape))
    return tensor


def _default(facts: Facts, name: str, leaf: n.Node, dtype: torch.dtype) -> Tensor:
    if isinstance(leaf, n.Array):
        shape = facts.shapes[name]
        if None in shape:
            raise InputError(
                f"nothing decides how many channels parameter '{name}' has; combine it with a row"
            )
        return initial_tensor(leaf, tuple(size for size in shape if size is not None))
    assert isinstance(leaf, n.Scalar) and leaf.default is not None
    return torch.tensor(leaf.default, dtype=_number_dtype(dtype))


def _offset_positions(offset: Rows, sizes: dict[str, int], device: torch.device) -> Tensor:
    rows = arange(sizes["N"], device)
    if isinstance(offset, int) and not isinstance(offset, bool):
        return rows if offset == 0 else rows + offset
    starts = _whole_numbers("query_offset", offset, device)
    if starts.shape not in ((), (sizes["B"],)):
        raise InputError(
            f"query_offset has shape {tuple(starts.shape)}; expected a number or ({sizes['B']},)"
        )
    return rows + starts.reshape(-1, 1)


def _whole_numbers(name: str, value: Any, device: torch.device) -> Tensor:
    tensor = value if isinstance(value, Tensor) else torch.as_tensor(value)
    if tensor.dtype.is_floating_point or tensor.dtype == torch.bool:
        raise InputError(f"{name} must hold whole numbers, not {tensor.dtype}")
    return tensor.to(device=device, dtype=torch.int64)


def _positions(name: str, value: Any, batch: int, rows: int, device: torch.device) -> Tensor:
    positions = _whole_numbers(name, value, device)
    if positions.shape not in ((rows,), (1, rows), (batch, rows)):
        raise InputError(
            f"{name} has shape {tuple(positions.shape)}; expected ({rows},) or ({batch}, {rows})"
        )
    return positions.view(-1, rows)


def _lengths(name: str, value: Rows, batch: int, rows: int, device: torch.device) -> Tensor | None:
    if value is None:
        return None
    lengths = _whole_numbers(name, value, device)
    if lengths.shape not in ((), (1,), (batch,)):
        raise InputError(
            f"{name} has shape {tuple(lengths.shape)}; "
            f"expected ({batch},), one length per batch row"
        )
    lengths = lengths.expand(batch)
    # Looking at numbers on another device would wait for it; there, use clips a wrong length.
    if device.type == "cpu" and bool(((lengths < 0) | (lengths > rows)).any()):
        raise InputError(
            f"{name} holds {int(lengths.max())} or a negative number; there are {rows} rows"
        )
    return lengths
