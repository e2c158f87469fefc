"""Reading a leaf at a list of points: rows, features, arrays, positions, sizes, random booleans.

Every value is (points, channels), with one channel where there are none. Leaves to others: which
points are read, and all computing.
"""

import math

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ir.random import draw_bits, keep_threshold
from regard.ir.types import INDEX_AXES, SIDE_AXES
from regard.reference.context import Context
from regard.reference.points import Points, ravel


def read(leaf: n.Node, points: Points, context: Context) -> Tensor:
    """Return a leaf's value at every point.

    Args:
        leaf: A constant, position, size, row, feature, run-time scalar or pair input.
        points: Points along the leaf's own axes.
        context: The call.

    Returns:
        (points, channels).
    """
    match leaf:
        case n.Const():
            return _constant(leaf.value, points, context)
        case n.Index():
            return _position(leaf.name, points, context)[:, None]
        case n.Vector():
            return _pick(_load(leaf.name, context), SIDE_AXES[leaf.side], points)
        case n.Feature():
            return _pick(_load(leaf.name, context)[..., None], SIDE_AXES[leaf.side], points)
        case n.PairInput():
            return _pick(_load(leaf.name, context)[..., None], "bhij", points)
    assert isinstance(leaf, n.Scalar), type(leaf)
    return _load(leaf.name, context).reshape(1, 1)


def read_array(array: n.Array, indices: list[Tensor], points: Points, context: Context) -> Tensor:
    """Return an array's elements, or its rows of channels.

    Args:
        array: A parameter or table.
        indices: One per index axis, integers that broadcast to (points, 1); clipped to its range.
        points: Points along the axes of the array and the indices.
        context: The call.

    Returns:
        (points, channels), or (1, channels) if it is the same at every point.
    """
    tensor = _load(array.name, context)
    channels = tensor.shape[-1] if array.per[-1:] == ("channel",) else 1
    coordinates, sizes, given = [], [], iter(indices)
    for axis, size in zip(array.per, tensor.shape, strict=True):
        if axis == "channel":
            continue
        if axis == "head":
            coordinates.append(points.coordinates["h"] + context.bound.first_head)
        else:
            coordinates.append(next(given).to(torch.int64)[:, 0].clamp(0, size - 1))
        sizes.append(size)
    rows = tensor.reshape(math.prod(sizes), channels)
    return rows.index_select(0, ravel(coordinates, sizes)) if coordinates else rows


def read_matrix(array: n.Array, context: Context) -> Tensor:
    """Return the matrix of a projection as numbers to compute with.

    Args:
        array: A parameter or table.
        context: The call.

    Returns:
        (in, out), or (heads, in, out).
    """
    return context.as_float(_load(array.name, context))


def draw_keep(p: Tensor, place: int, points: Points, context: Context) -> Tensor:
    """Draw a boolean per point that is false with probability p.

    Args:
        p: (1, 1), the probability.
        place: The draw's number in the program.
        points: Points along the axes of the draw.
        context: The call.

    Returns:
        bool (points, 1); all true without a seed.
    """
    bound = context.bound
    if bound.seed is None:
        return torch.ones(points.count, 1, dtype=torch.bool, device=points.device)
    # The head's number in the whole layer, so that head groups draw what the whole would.
    first = {"h": bound.first_head}
    places = [number + first.get(axis, 0) for axis, number in points.coordinates.items()]
    bits = draw_bits(bound.seed, place, places).to(points.device).expand(points.count)
    return bits[:, None] >= keep_threshold(p.detach())


def _load(name: str, context: Context) -> Tensor:
    tensor = context.bound.tensors[name]
    if tensor.is_floating_point():
        return tensor.to(torch.promote_types(tensor.dtype, context.dtype))
    return tensor if tensor.dtype == torch.bool else tensor.to(torch.int64)


def _pick(tensor: Tensor, axes: str, points: Points) -> Tensor:
    """Read (…axes, channels) at points, where an axis may be shorter by a whole factor.

    Length 1 is shared by all, and G key heads are shared by H / G query heads each.
    """
    sizes = list(tensor.shape[:-1])
    places = [
        points.coordinates[axis] // max(points.grid[axis] // max(size, 1), 1)
        for axis, size in zip(axes, sizes, strict=True)
    ]
    rows = tensor.reshape(math.prod(sizes), tensor.shape[-1])
    return rows.index_select(0, ravel(places, sizes))


def _constant(value: bool | int | float, points: Points, context: Context) -> Tensor:
    dtype = {bool: torch.bool, int: torch.int64, float: context.dtype}[type(value)]
    return torch.full((1, 1), value, dtype=dtype, device=points.device)


def _position(name: str, points: Points, context: Context) -> Tensor:
    bound, at = context.bound, points.coordinates
    match name:
        case "i":
            return _pick(bound.query_positions[..., None], "bi", points)[:, 0]
        case "j":
            return _pick(bound.key_positions[..., None], "bj", points)[:, 0]
        case "head":
            return at["h"] + bound.first_head
        case "queries":
            return _length(bound.query_lengths, bound.queries, points)
        case "keys":
            return _length(bound.key_lengths, bound.keys, points)
        case "heads" | "width":
            size = bound.q.shape[-1] if name == "width" else bound.total_heads or bound.heads
            return torch.full((1,), size, dtype=torch.int64, device=points.device)
    # row_i, row_j and batch are the row numbers themselves.
    return at[INDEX_AXES[name]]


def _length(lengths: Tensor | None, size: int, points: Points) -> Tensor:
    if lengths is None:
        return torch.full((points.count,), size, dtype=torch.int64, device=points.device)
    return lengths.to(torch.int64)[points.coordinates["b"]]
