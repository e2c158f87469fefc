"""Attention over ragged batches: many sequences end to end in one row, or nested tensors.

Leaves to others: everything but the layout (`attend`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regard.errors import InputError
from regard.ir.program import AttentionProgram
from regard.ops.attend import attend
from regard.ops.observe import changed


def attend_packed(
    program: AttentionProgram,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    query_starts: Tensor | Sequence[int] | None = None,
    key_starts: Tensor | Sequence[int] | None = None,
    **options: Any,
) -> Any:
    """Run a program on sequences of different lengths, each attending to itself alone.

    Args:
        program: The program.
        q: Queries of all sequences end to end, (H, total N, D); or a nested tensor of (N_s, H, D).
        k: Keys, (G, total M, D); or nested.
        v: Values, (G, total M, E); or nested.
        query_starts: Where each sequence starts, and the end: integers (S + 1,) from 0 to total N.
        key_starts: The same for keys; that of queries unless given.
        **options: As for `attend`: parameters, tables and run-time scalars; observe, of what
            queries have; backend; seed. Positions count from each sequence's start.

    Returns:
        The output in the form of q: (H, total N, E), or a nested tensor of (N_s, H, E). With
        `observe`, also a dict of values (H, total N), (H, total N, classes) of keys' classes; key
        rows of the largest weights count from each sequence's start.

    Raises:
        InputError: If the starts do not fit, or an option has no meaning here.
    """
    for name in ("query_lengths", "key_lengths", "query_positions", "key_positions"):
        if name in options:
            raise InputError(f"the starts say where each sequence is; leave out {name}")
    if q.is_nested:
        return _attend_nested(program, q, k, v, options)
    if query_starts is None:
        raise InputError(
            "attend_packed needs query_starts, e.g. [0, 5, 12] for sequences of 5 and 7 rows"
        )
    for name in options.get("observe", ()):
        if name in ("weights", "received") or name.startswith("map:"):
            raise InputError(
                f"'{name}' of a ragged batch has no common shape; use attend for each sequence"
            )
    _check_axes(q, k, v)
    queries, keys = _both_starts(query_starts, key_starts, q, k)
    query_map, key_map = _Ragged(queries), _Ragged(keys)
    found = attend(
        program, query_map.pad(q), key_map.pad(k), key_map.pad(v),
        query_lengths=query_map.lengths, key_lengths=key_map.lengths, **options,
    )  # fmt: skip
    if not options.get("observe"):
        return query_map.unpad(found)
    output, seen = found
    return query_map.unpad(output), {
        name: changed(query_map.unpad_values, value) for name, value in seen.items()
    }


def _check_axes(q: Tensor, k: Tensor, v: Tensor) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if tensor.dim() != 3:
            raise InputError(
                f"{name} has shape {tuple(tensor.shape)}; "
                "expected three axes (heads, total rows, width)"
            )


def _both_starts(query_starts: Any, key_starts: Any, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each sequence starts among the queries and among the keys."""
    queries = _starts("query_starts", query_starts, q)
    keys = queries if key_starts is None else _starts("key_starts", key_starts, k)
    if keys is queries and k.shape[1] != q.shape[1]:
        raise InputError(f"q has {q.shape[1]} rows and k has {k.shape[1]}; give key_starts as well")
    if len(queries) != len(keys):
        raise InputError(
            f"query_starts names {len(queries) - 1} sequences, key_starts {len(keys) - 1}"
        )
    return queries, keys


def _starts(name: str, starts: Any, rows: Tensor) -> Tensor:
    found = torch.as_tensor(starts, device=rows.device)
    if found.dim() != 1 or len(found) < 2 or found.dtype.is_floating_point:
        raise InputError(f"{name} must be a row of at least two whole numbers, e.g. [0, 5, 12]")
    if int(found[0]) != 0 or int(found[-1]) != rows.shape[1] or bool((found.diff() < 1).any()):
        raise InputError(
            f"{name} must rise from 0 to {rows.shape[1]}, the number of rows; "
            f"found {found.tolist()}"
        )
    return found.to(torch.int64)


class _Ragged:
    """Moves rows between (heads, total, width) and (sequences, heads, longest, width)."""

    def __init__(self, starts: Tensor) -> None:
        self.lengths = starts.diff()
        self.longest = int(self.lengths.max())
        steps = torch.arange(self.longest, device=starts.device)
        self.exists = steps < self.lengths[:, None]
        self.source = torch.where(self.exists, starts[:-1, None] + steps, 0)

    def pad(self, rows: Tensor) -> Tensor:
        """Return (sequences, heads, longest, width); rows beyond an end repeat the first row."""
        return rows[:, self.source].transpose(0, 1)

    def unpad(self, padded: Tensor) -> Tensor:
        """Return (heads, total, width)."""
        return padded.transpose(0, 1)[:, self.exists]

    def unpad_values(self, padded: Tensor) -> Tensor:
        """Return (heads, total) or (heads, total, classes)."""
        return self.unpad(padded) if padded.dim() > 3 else self.unpad(padded[..., None])[..., 0]


def _attend_nested(
    program: AttentionProgram, q: Tensor, k: Tensor, v: Tensor, options: dict
) -> Tensor:
    if not (k.is_nested and v.is_nested):
        raise InputError("q is a nested tensor; k and v must be nested as well")
    if options.get("observe"):
        raise InputError("observe needs the packed form: give tensors with query_starts")
    sequences = [list(tensor.unbind()) for tensor in (q, k, v)]
    packed = [torch.cat([one.transpose(0, 1) for one in many], dim=1) for many in sequences]
    starts = [torch.tensor([0, *(len(one) for one in many)]).cumsum(0) for many in sequences[:2]]
    output = attend_packed(
        program, *packed, query_starts=starts[0], key_starts=starts[1], **options
    )
    rows = [part.transpose(0, 1) for part in output.split(starts[0].diff().tolist(), dim=1)]
    return (
        torch.nested.nested_tensor(rows, layout=q.layout)
        if not q.requires_grad
        else torch.nested.as_nested_tensor(rows, layout=q.layout)
    )
