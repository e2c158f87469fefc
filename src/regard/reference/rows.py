"""Sums and maxima over the entries of a row, where entries are a list and rows are numbers."""

import torch
from torch import Tensor


def sum_rows(values: Tensor, row: Tensor, count: int) -> Tensor:
    """Add the entries of every row.

    Args:
        values: (entries,) or (entries, channels).
        row: Each entry's row, int64 (entries,).
        count: How many rows there are.

    Returns:
        (count,) or (count, channels); 0 for a row without entries.
    """
    return values.new_zeros(count, *values.shape[1:]).index_add(0, row, values)


def max_rows(values: Tensor, row: Tensor, count: int) -> Tensor:
    """Find the largest entry of every row, without gradient.

    Args:
        values: (entries,), floating.
        row: Each entry's row, int64 (entries,).
        count: How many rows there are.

    Returns:
        (count,); -inf for a row without entries, NaN for one with a NaN.
    """
    least = values.new_full((count,), -torch.inf)
    return least.scatter_reduce(0, row, values.detach(), "amax")
