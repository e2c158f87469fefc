"""The alpha-entmax normaliser: weights with exact zeros, from a threshold per row.

p_j = [(α - 1) s_j - τ]₊^(1 / (α - 1)), with τ such that they add up to 1. At α = 2 it is sparsemax.

Source: Peters, Niculae and Martins, "Sparse Sequence-to-Sequence Models", 2019, equations 6 and 9.
"""

import torch
from torch import Tensor

from regard.reference.rows import max_rows, sum_rows

# Halvings of an interval of length 1; it stops earlier, when float64 can halve no further.
_MOST_HALVINGS = 400
# One step makes first derivatives exact, each further one doubles the order.
_NEWTON_STEPS = 2


def entmax(score: Tensor, alpha: Tensor, row: Tensor, count: int) -> Tensor:
    """Normalise the entries of every row.

    Args:
        score: (entries,), finite.
        alpha: (entries,), above 1, the same within a row.
        row: Each entry's row, int64 (entries,).
        count: How many rows there are.

    Returns:
        (entries,), non-negative, adding up to 1 in every row that has entries.
    """
    dtype = torch.promote_types(score.dtype, alpha.dtype)
    score, gain = score.double(), alpha.double() - 1
    # A row's weights do not change when its scores all shift, so the shift needs no derivative.
    scaled = gain * (score - max_rows(score, row, count)[row])
    start = _threshold(scaled.detach(), gain.detach(), row, count)
    # Outside the support the weight is constant 0; its power's derivative would be infinite.
    # Written so that NaN is inside and stays NaN.
    inside = (~(scaled.detach() <= start[row])).nonzero()[:, 0]
    scaled, gain, own = scaled[inside], gain[inside], row[inside]
    threshold = start
    for _ in range(_NEWTON_STEPS):
        above = scaled - threshold[own]
        excess = sum_rows(above ** (1 / gain), own, count) - 1
        slope = sum_rows(above ** (1 / gain - 1) / gain, own, count)
        # Rows without entries have no slope.
        stepped = threshold + excess / slope.masked_fill(slope == 0, 1)
        # The value stays where bisection left it: one rounding could empty the support's edge.
        threshold = start + (stepped - stepped.detach())
    weights = (scaled - threshold[own]) ** (1 / gain)
    return torch.zeros_like(score).index_copy(0, inside, weights).to(dtype)


def _threshold(scaled: Tensor, gain: Tensor, row: Tensor, count: int) -> Tensor:
    """Find each row's threshold by bisection, from below so that the support is never empty."""
    low, high = scaled.new_full((count,), -1.0), scaled.new_zeros(count)
    for _ in range(_MOST_HALVINGS):
        middle = (low + high) / 2
        total = sum_rows((scaled - middle[row]).clamp_min(0) ** (1 / gain), row, count)
        new_low = torch.where(total >= 1, middle, low)
        new_high = torch.where(total >= 1, high, middle)
        if torch.equal(new_low, low) and torch.equal(new_high, high):
            break
        low, high = new_low, new_high
    return low
