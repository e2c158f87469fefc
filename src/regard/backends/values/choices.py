"""How many keys a choice of the largest scores lists for each query row.

Leaves to others: finding them (the backends).
"""

from torch import Tensor


def most_chosen(k: Tensor, keys: int) -> int:
    """Return how many keys the row that chooses most lists.

    Args:
        k: How many each row chooses, of any shape. NaN, which a row beyond its length may hold,
            chooses none; infinity chooses all.
        keys: How many there are.

    Returns:
        A number from 0 to `keys`.
    """
    counted = k.double().nan_to_num(nan=0.0).clamp(0, keys)
    return int(counted.max().ceil()) if counted.numel() else 0
