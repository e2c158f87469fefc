"""Between the tensors of a call and 5-D values of a tile: loading leaves, adding up gradients.

A tile is a range of query rows and a range of key rows, all batch rows and heads. Values are
(b, h, i, j, c), of size 1 along axes they do not vary. Leaves to others: expressions (`evaluate`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ir.bound import Bound

_HALVES = (torch.float16, torch.bfloat16)
Loaded = n.Vector | n.Feature | n.PairInput | n.Scalar


@dataclass(frozen=True)
class Tile:
    """Query rows i0 … i1 - 1 and key rows j0 … j1 - 1."""

    i0: int
    i1: int
    j0: int
    j1: int

    def rows(self, side: str) -> slice:
        """Return the rows of the query's or the key's side."""
        return slice(self.i0, self.i1) if side == "query" else slice(self.j0, self.j1)


def widen(value: Tensor, bound: Bound) -> Tensor:
    """Return a tensor in the dtype it is computed with.

    Halves are widened to float32, small integers to int64.
    """
    if value.dtype in _HALVES:
        return value.to(bound.compute_dtype)
    if value.dtype != torch.bool and not value.dtype.is_floating_point:
        return value.to(torch.int64)
    return value


def side_view(value: Tensor, side: str) -> Tensor:
    """Place (B, H, rows, C) at the query's or the key's axis of five."""
    return value.unsqueeze(3) if side == "query" else value.unsqueeze(2)


def spread_heads(value: Tensor, bound: Bound) -> Tensor:
    """Repeat a key tensor's G heads (dimension 1) to H."""
    groups = value.shape[1]
    if groups in (1, bound.heads):
        return value
    return value.repeat_interleave(bound.heads // groups, dim=1)


def load_leaf(leaf: Loaded, bound: Bound, tile: Tile) -> Tensor:
    """Return the value of a vector, feature, pair input or run-time scalar in a tile.

    Args:
        leaf: The leaf.
        bound: The call.
        tile: The tile.

    Returns:
        A 5-D value.
    """
    data = bound.tensors[leaf.name]
    match leaf:
        case n.Vector():
            rows = widen(data[:, :, tile.rows(leaf.side)], bound)
            return side_view(spread_heads(rows, bound), leaf.side)
        case n.Feature():
            rows = widen(data if data.shape[2] == 1 else data[:, :, tile.rows(leaf.side)], bound)
            return side_view(spread_heads(rows, bound).unsqueeze(-1), leaf.side)
        case n.PairInput():
            pairs = data[:, :, tile.i0 : tile.i1, tile.j0 : tile.j1]
            return widen(pairs, bound).unsqueeze(-1)
        case _:
            return widen(data, bound).reshape(1, 1, 1, 1, 1)


def head_range(bound: Bound, size: int) -> slice:
    """Return this call's heads within an array's "head" axis of the given size."""
    return slice(bound.first_head, bound.first_head + bound.heads) if size > 1 else slice(0, 1)


def own_heads(array: n.Array, bound: Bound) -> Tensor:
    """Return an array's data in computing dtype, with this call's heads alone along "head"."""
    data = widen(bound.tensors[array.name], bound)
    if "head" not in array.per:
        return data
    dim = array.per.index("head")
    rows = head_range(bound, data.shape[dim])
    return data.narrow(dim, rows.start, rows.stop - rows.start)


def load_array(array: n.Array, bound: Bound) -> Tensor:
    """Return the value of an array without index axes: a number per head, per channel, or both."""
    data = own_heads(array, bound)
    heads = data.shape[0] if "head" in array.per else 1
    channels = data.shape[-1] if "channel" in array.per else 1
    return data.reshape(1, heads, 1, 1, channels)


def load_matrix(array: n.Array, bound: Bound) -> Tensor:
    """Return a projection matrix as (1 or H, in, out)."""
    data = own_heads(array, bound)
    return data.reshape(-1, *data.shape[-2:])


def gather(array: n.Array, indices: list[Tensor], bound: Bound) -> Tensor:
    """Return an array's elements at 5-D integer indices, clipped to its range.

    Args:
        array: The array.
        indices: One 5-D integer value (size 1 along c) per index axis.
        bound: The call.

    Returns:
        A 5-D value, with channels if the array has them.
    """
    data = own_heads(array, bound)
    places = index_places(array, indices, data)
    if "head" in array.per and data.shape[array.per.index("head")] > 1:
        heads = torch.arange(data.shape[array.per.index("head")], device=data.device).view(
            1, -1, 1, 1
        )
        places.insert(array.per.index("head"), heads)
    elif "head" in array.per:
        places.insert(
            array.per.index("head"),
            torch.zeros((1, 1, 1, 1), dtype=torch.int64, device=data.device),
        )
    values = data[tuple(places)]
    return values if "channel" in array.per else values.unsqueeze(-1)


def index_places(array: n.Array, indices: list[Tensor], data: Tensor) -> list[Tensor]:
    """Return 4-D indices clipped to the sizes of the array's index axes."""
    dims = [dim for dim, axis in enumerate(array.per) if axis not in ("head", "channel")]
    return [
        index.squeeze(-1).to(torch.int64).clamp(0, data.shape[dim] - 1)
        for dim, index in zip(dims, indices, strict=True)
    ]


def sum_to(value: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Add a gradient up to the shape of the tensor it belongs to, which broadcasts to its own."""
    dims = [d for d, size in enumerate(shape) if size == 1 and value.shape[d] != 1]
    return value.sum(dims, keepdim=True) if dims else value


def sum_groups(value: Tensor, groups: int) -> Tensor:
    """Add (B, H, …) up to (B, G, …)."""
    if value.shape[1] == groups:
        return value
    if groups == 1:
        return value.sum(1, keepdim=True)
    return value.unflatten(1, (groups, -1)).sum(2)


def add_leaf(total: Tensor, leaf: n.Node, value: Tensor, bound: Bound, tile: Tile) -> None:
    """Add a tile's gradient of a leaf to the tensor that collects it.

    Args:
        total: Collects, in the shape of the leaf's tensor.
        leaf: A vector, feature, array, scalar or pair input.
        value: A 5-D value over the leaf's axes.
        bound: The call.
        tile: The tile.
    """
    match leaf:
        case n.Vector() | n.Feature():
            rows = value.squeeze(3 if leaf.side == "query" else 2)
            rows = rows.squeeze(-1) if isinstance(leaf, n.Feature) else rows
            rows = sum_groups(rows, total.shape[1]) if rows.shape[1] != 1 else rows
            target = total if total.shape[2] == 1 else total[:, :, tile.rows(leaf.side)]
            target += sum_to(rows, tuple(target.shape))
        case n.PairInput():
            target = total[:, :, tile.i0 : tile.i1, tile.j0 : tile.j1]
            target += sum_to(value.squeeze(-1), tuple(target.shape))
        case n.Array():
            target = total
            if "head" in leaf.per:
                target = total.narrow(0, *_narrow(head_range(bound, total.shape[0])))
            dims = [dim for dim, axis in ((1, "head"), (4, "channel")) if axis in leaf.per]
            sizes = tuple(target.shape)
            kept = [value.shape[dim] for dim in dims]
            target += value.reshape(kept) if dims else value.reshape(()).expand(sizes)
        case _:
            total += value.sum()


def _narrow(rows: slice) -> tuple[int, int]:
    return rows.start, rows.stop - rows.start


def scatter(
    total: Tensor, array: n.Array, indices: list[Tensor], value: Tensor, bound: Bound
) -> None:
    """Add a tile's gradient of an indexed array, in a fixed order.

    Args:
        total: Collects, in the shape of the array.
        array: The array.
        indices: The 5-D integer values it was read with.
        value: A 5-D value, what each read element receives.
        bound: The call.
    """
    places = index_places(array, indices, total)
    shape = list(torch.broadcast_shapes(value.shape[:4], *(place.shape for place in places)))
    if "head" in array.per:
        dim = array.per.index("head")
        rows = head_range(bound, total.shape[dim])
        shape[1] = max(shape[1], rows.stop - rows.start)
        heads = torch.arange(rows.start, rows.stop, device=total.device).view(1, -1, 1, 1)
        places.insert(dim, heads)
    channels = total.shape[-1] if "channel" in array.per else 1
    received = value.expand(*shape, channels).reshape(-1, channels)
    flat = torch.zeros((), dtype=torch.int64, device=total.device)
    sizes = total.shape[:-1] if "channel" in array.per else total.shape
    for place, size in zip(places, sizes, strict=True):
        flat = flat * size + place
    index = flat.expand(shape).reshape(-1)
    total.view(-1, channels).index_add_(0, index, received.to(total.dtype))


def add_matrix(total: Tensor, array: n.Array, value: Tensor, bound: Bound) -> None:
    """Add a tile's gradient of a projection matrix, (1 or H, in, out)."""
    if "head" not in array.per:
        total += value.sum(0)
        return
    rows = head_range(bound, total.shape[0])
    total[rows] += value if total.shape[0] > 1 else value.sum(0, keepdim=True)
