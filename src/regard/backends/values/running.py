"""Running sums along the key rows of a tile.

Leaves to others: what is added (`evaluate`), and what other tiles carry over (the backends).
"""

import torch
from torch import Tensor

from regard.ir import nodes as n

# The axis of key rows of a 5-D value.
KEYS = 3


def add_up(values: Tensor, node: n.Running) -> Tensor:
    """Add up values along key rows.

    Args:
        values: What each pair adds, 5-D, of the tile's size along j.
        node: The running sum, which says from which end and whether its own key takes part.

    Returns:
        The sums within the tile, 5-D.
    """
    values = values.flip(KEYS) if node.reverse else values
    if node.exclusive:
        # Not the sum less this key, which would be NaN if this key were infinite.
        values = torch.nn.functional.pad(values, (0, 0, 1, 0))[..., :-1, :]
    total = values.cumsum(KEYS)
    return total.flip(KEYS) if node.reverse else total
