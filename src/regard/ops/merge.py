"""Join attention over disjoint sets of keys: shared prefixes, several devices, chunked caches.

Leaves to others: computing the parts (`attend` with observe=["lse"]).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.errors import InputError


def merge(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Join softmax attention of the same queries over disjoint sets of keys.

    Args:
        parts: Pairs of (output (B, H, N, E), lse (B, H, N)), one per set of keys. A sink may be
            part of one of them only.

    Returns:
        The output and lse as if all keys had been there at once; differentiable in both. A row that
        sees nothing in any part gives 0 and -inf.

    Raises:
        InputError: If there is no part, or shapes differ.
    """
    if not parts:
        raise InputError("rg.merge needs at least one (output, lse) pair")
    for number, (output, lse) in enumerate(parts):
        if output.shape != parts[0][0].shape or lse.shape != output.shape[:-1]:
            raise InputError(
                f"part {number} has output {tuple(output.shape)} and lse {tuple(lse.shape)}; "
                f"expected {tuple(parts[0][0].shape)} and {tuple(parts[0][0].shape[:-1])}"
            )
    logits = torch.stack([lse for _, lse in parts])
    empty = (logits == -torch.inf).all(0)
    # An empty row's logits are replaced before the softmax, so that its gradient is 0 and not NaN.
    safe = torch.where(empty, 0.0, logits)
    total = torch.where(empty, -torch.inf, torch.logsumexp(safe, dim=0))
    shares = torch.where(empty, 0.0, torch.softmax(safe, dim=0))
    joined = sum(
        output * share.unsqueeze(-1) for (output, _), share in zip(parts, shares, strict=True)
    )
    assert isinstance(joined, Tensor)
    return joined.to(parts[0][0].dtype), total
