"""What the dense formulas share: heads that share keys, softmax over those seen."""

import math

import torch
from torch import Tensor


def heads(q: Tensor, *rows: Tensor) -> list[Tensor]:
    """Repeat each key head for the query heads that share it: (B, G, M, X) gives (B, H, M, X)."""
    return [row.repeat_interleave(q.shape[1] // row.shape[1], dim=1) for row in rows]


def scaled(q: Tensor, k: Tensor) -> Tensor:
    """Return s = q·k/√D, (B, H, N, M), the score where nothing else is said."""
    return q @ k.mT / math.sqrt(q.shape[-1])


def causal(q: Tensor, k: Tensor) -> Tensor:
    """Return (N, M) truth values: the key is not after the query."""
    return torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()


def softmax(score: Tensor, seen: Tensor | None = None) -> Tensor:
    """Return softmax over keys; hidden ones weigh 0, and so does everything in an empty row."""
    if seen is None:
        return score.softmax(-1)
    hidden = ~seen.expand(score.shape)
    empty = hidden.all(-1, keepdim=True)
    kept = score.masked_fill(hidden & ~empty, float("-inf"))
    return kept.softmax(-1).masked_fill(hidden, 0.0)
