"""Sums of a table's rows that pairs choose: the weight of each, times the table.

Σ_j w_ij · table[e_ij] = Σ_r a_ir · table[r], where a_ir is the sum of the w_ij with e_ij = r.
Leaves to others: finding a (`rowsweep`).
"""

import torch
from torch import Tensor

from regard.backends.base import Declined
from regard.backends.cpu.call import check_chosen
from regard.backends.cpu.caller import Caller
from regard.backends.cpu.rowsweep import Histogram
from regard.backends.values import layout
from regard.backends.values.evaluate import project
from regard.ir.bound import Bound


def make_histogram(part: Histogram, caller: Caller) -> Tensor:
    """Return zeros that a sweep adds a table's weights to.

    Args:
        part: What is weighed.
        caller: Calls the sweep.

    Returns:
        A tensor (B, H, N, rows of the table) in computing dtype.

    Raises:
        Declined: If the table has too many rows, or holds NaN or infinity.
    """
    check_chosen(part.table, caller.bound)
    data = caller.bound.tensors[part.table.name]
    if not bool(data.isfinite().all()):
        raise Declined(f"'{part.table.name}' holds NaN or infinity, and products let it through")
    b, h, _, queries, _ = caller.sizes
    return torch.zeros(
        (b, h, queries, data.shape[-2]), dtype=caller.kernel.dtype, device=data.device
    )


def weigh_table(part: Histogram, weights: Tensor, bound: Bound) -> Tensor:
    """Return the sum of a table's rows.

    Args:
        part: What is weighed.
        weights: The weights of its rows, (B, H, N, rows of the table).
        bound: The call.

    Returns:
        A tensor (B, H, N, channels).
    """
    return project(weights.unsqueeze(3), layout.load_matrix(part.table, bound)).squeeze(3)
