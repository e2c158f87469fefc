"""Turn a checked call into a `Bound`: every tensor by name and in standard shape.

Leaves to others: finding mistakes in shapes and dtypes (`check`).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.errors import InputError
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.observed import made_feature
from regard.ops.check import Facts
from regard.ops.observe import bin_of
from regard.ops.parameters import initial_tensor

Rows = int | Tensor | Sequence[int] | None


class Options(NamedTuple):
    """What a call says beside its inputs, in the words and the order of `attend`."""

    query_offset: Rows = 0
    query_positions: Tensor | None = None
    key_positions: Tensor | None = None
    query_lengths: Rows = None
    key_lengths: Rows = None
    first_head: int = 0
    total_heads: int = 0
    observe: Sequence[str] = ()
    backend: str = "auto"
    seed: int | None = None


def as_tensor(name: str, value: Any, like: Tensor) -> Tensor:
    """Return an input as a tensor.

    Args:
        name: Its name.
        value: A tensor or a number.
        like: q.

    Returns:
        The tensor; numbers become 0-d tensors on q's device, in float32, or float64 for float64 q.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(value, bool | int | float):
        return torch.tensor(value, dtype=_number_dtype(like.dtype), device=like.device)
    if not isinstance(value, Tensor):
        raise InputError(f"'{name}' must be a tensor or a number, not {type(value).__name__}")
    return value


def _number_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def bind(facts: Facts, tensors: dict[str, Tensor], options: Options) -> Bound:
    """Return the call in standard shape.

    Args:
        facts: From `check`.
        tensors: q, k, v and the named inputs given; what is missing is added.
        options: The options of the call.

    Returns:
        The bound call.

    Raises:
        InputError: If an offset, positions or lengths do not fit.
    """
    q, sizes = tensors["q"], facts.sizes
    device, batch, rows, keys = q.device, sizes["B"], sizes["N"], sizes["M"]
    for name, shape in facts.stretched.items():
        tensors[name] = tensors[name].view(shape)
    for name in facts.absent:
        tensors[name] = _default(facts, name, facts.inputs[name], tensors).to(device)
    offset, given = options.query_offset, options.query_positions
    if given is None:
        query_positions = _offset_positions(offset, sizes, device)
    elif isinstance(offset, int) and offset == 0:
        query_positions = _positions("query_positions", given, batch, rows, device)
    else:
        raise InputError("query_offset and query_positions both say where queries are; give one")
    given = options.key_positions
    if given is None:
        key_positions = arange(keys, device)
    else:
        key_positions = _positions("key_positions", given, batch, keys, device)
    query_lengths, key_lengths = options.query_lengths, options.key_lengths
    if query_lengths is not None:
        query_lengths = _lengths("query_lengths", query_lengths, batch, rows, device)
    if key_lengths is not None:
        key_lengths = _lengths("key_lengths", key_lengths, batch, keys, device)
    total_heads = options.total_heads or sizes["H"]
    return Bound(
        tensors, query_positions, key_positions, query_lengths, key_lengths,
        options.first_head, total_heads, options.seed,
    )  # fmt: skip


@lru_cache(maxsize=256)
def arange(size: int, device: torch.device) -> Tensor:
    """Return positions 0 … size - 1 as (1, size)."""
    return _many(1 << max(0, size - 1).bit_length(), device)[:, :size]


@lru_cache(maxsize=64)
def _many(size: int, device: torch.device) -> Tensor:
    """Return positions of which others are parts: what is known of these holds for those."""
    with torch.inference_mode(False):
        return torch.arange(size, device=device).view(1, -1)


def _default(facts: Facts, name: str, leaf: n.Node, tensors: dict[str, Tensor]) -> Tensor:
    if isinstance(leaf, n.Feature):
        return _made(leaf.name, tensors)
    if isinstance(leaf, n.Array):
        shape = facts.shapes[name]
        if None in shape:
            raise InputError(
                f"nothing decides how many channels parameter '{name}' has; combine it with a row, "
                f"or give the call {name}=…"
            )
        return initial_tensor(leaf, tuple(size for size in shape if size is not None))
    assert isinstance(leaf, n.Scalar) and leaf.default is not None
    return torch.tensor(leaf.default, dtype=_number_dtype(tensors["q"].dtype))


def _made(name: str, tensors: dict[str, Tensor]) -> Tensor:
    """Return a feature of keys that the call makes itself for what is observed."""
    found = made_feature(name)
    assert found is not None, name
    kind, rest = found
    if kind == "bins":
        keys = tensors["k"].shape[2]
        return bin_of(keys, int(rest), tensors["q"].device).view(1, 1, -1)
    return tensors[rest].detach().to(_number_dtype(tensors["q"].dtype))


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


def _lengths(name: str, value: Rows, batch: int, rows: int, device: torch.device) -> Tensor:
    lengths = _whole_numbers(name, value, device)
    if lengths.shape not in ((), (1,), (batch,)):
        raise InputError(
            f"{name} has shape {tuple(lengths.shape)}; "
            f"expected ({batch},), one length per batch row"
        )
    # A kernel reads them one after another.
    lengths = lengths.expand(batch).contiguous()
    # Looking at numbers on another device would wait for it; there, use clips a wrong length.
    if device.type == "cpu" and bool(((lengths < 0) | (lengths > rows)).any()):
        raise InputError(
            f"{name} holds {int(lengths.max())} or a negative number; there are {rows} rows"
        )
    return lengths
