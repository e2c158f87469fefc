"""What autocast makes of queries, keys and values.

Leaves to others: `attend` itself, which takes tensors as they are; the callers are those that stand
where torch's own attention would.
"""

import torch
from torch import Tensor


def as_autocast(*rows: Tensor) -> tuple[Tensor, ...]:
    """Return queries, keys and values in autocast's dtype, as torch's own attention takes them.

    Rotary positions, for one, make float32 of queries and keys beside values in bfloat16.

    Args:
        *rows: Floating-point tensors of one device.

    Returns:
        The tensors; as they were outside of autocast, and in float64.
    """
    kind = rows[0].device.type
    if not torch.is_autocast_enabled(kind) or rows[0].dtype == torch.float64:
        return rows
    dtype = torch.get_autocast_dtype(kind)
    return tuple(row.to(dtype) for row in rows)
