"""Sums of products over a tile, by matrix products where two factors share the summed axes.

Values are 5-D tensors (b, h, i, j, c), of size 1 along axes they do not vary. Leaves to others:
what is multiplied (`evaluate`).
"""

import math

import torch
from torch import Tensor

from regard.ir.types import AXES


def letters_of(value: Tensor) -> str:
    """Return the axes along which a value really varies."""
    return "".join(axis for axis, size in zip(AXES, value.shape, strict=True) if size != 1)


def sum_product(
    factors: list[Tensor], mask: Tensor | None, axes: str, sizes: dict[str, int]
) -> Tensor:
    """Sum a product over axes, counting only points where the mask holds.

    Args:
        factors: Values whose product is summed; all of one dtype or promotable.
        mask: A boolean value, or None for everywhere.
        axes: The axes to sum over.
        sizes: The tile's size along b, h, i, j: an axis along which nothing varies counts that
            often.

    Returns:
        The 5-D sum, of size 1 along the summed axes.
    """
    varying = {
        axis
        for value in [*factors, *([] if mask is None else [mask])]
        for axis in letters_of(value)
    }
    times = math.prod(sizes.get(axis, 1) for axis in axes if axis not in varying)
    if mask is not None and set(axes) & set(letters_of(mask)):
        factors, mask = _apply(mask, factors), None
    # What does not vary along the summed axes is multiplied after: the product may be far smaller.
    inside = [factor for factor in factors if set(axes) & set(letters_of(factor))]
    outside = [factor for factor in factors if not set(axes) & set(letters_of(factor))]
    total = math.prod(outside, start=_sum(_merge(inside), axes)) if inside else math.prod(outside)
    assert isinstance(total, Tensor)
    total = total if times == 1 else total * times
    return total if mask is None else torch.where(mask, total, 0.0)


def _merge(factors: list[Tensor]) -> list[Tensor]:
    """Multiply factors elementwise, smallest results first, until two are left."""
    factors = list(factors)
    while len(factors) > 2:
        pairs = [(a, b) for a in range(len(factors)) for b in range(a)]
        a, b = min(pairs, key=lambda p: _numel(factors[p[0]], factors[p[1]]))
        product = factors[a] * factors[b]
        factors = [f for k, f in enumerate(factors) if k not in (a, b)] + [product]
    return factors


def _numel(*values: Tensor) -> int:
    return math.prod(max(sizes) for sizes in zip(*(value.shape for value in values), strict=True))


def _apply(mask: Tensor, factors: list[Tensor]) -> list[Tensor]:
    """Zero the product where the mask does not hold, even if a factor is NaN there."""
    needed = set(letters_of(mask))
    hosts = [k for k, factor in enumerate(factors) if needed <= set(letters_of(factor))]
    host = min(hosts, key=lambda k: factors[k].numel(), default=None)
    others = [factor for k, factor in enumerate(factors) if k != host]
    if any(not bool(torch.isfinite(other.sum())) for other in others):
        return [torch.where(mask, math.prod(factors[1:], start=factors[0]), 0.0)]
    carrier = mask.to(factors[0].dtype) if host is None else torch.where(mask, factors[host], 0.0)
    return [*others, carrier]


def _sum(factors: list[Tensor], axes: str) -> Tensor:
    dims = [AXES.index(axis) for axis in axes]
    if len(factors) == 1:
        return factors[0].sum(dims, keepdim=True)
    x, y = factors
    dtype = torch.promote_types(x.dtype, y.dtype)
    shared = [
        axis for axis in axes if x.shape[AXES.index(axis)] != 1 and y.shape[AXES.index(axis)] != 1
    ]
    if not shared:
        # Nothing to contract: each factor is summed alone where only it varies.
        for dim in dims:
            x, y = (
                (x.sum(dim, keepdim=True), y)
                if x.shape[dim] != 1
                else (x, y.sum(dim, keepdim=True))
            )
        return x * y
    shape = [1 if axis in axes else max(x.shape[d], y.shape[d]) for d, axis in enumerate(AXES)]
    left, right = letters_of(x), letters_of(y)
    if set(left) <= set(right) or set(right) <= set(left):
        # The product is no larger than a factor; a matrix product would only copy that first.
        return (x * y).sum(dims, keepdim=True)
    kept = "".join(axis for axis in AXES if axis in left + right and axis not in axes)
    product = torch.einsum(
        f"{left},{right}->{kept}", x.to(dtype).squeeze(), y.to(dtype).squeeze()
    )  # fmt: skip
    return product.reshape(shape)
