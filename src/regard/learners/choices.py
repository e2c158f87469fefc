"""The loss of choosing one of several things, some of which cannot be chosen."""

from typing import Any

import torch
from torch import Tensor

from regard.learners.batches import IGNORED


def choice_loss(logits: Tensor, right: Tensor, smoothing: float, count: Any = None) -> Tensor:
    """Return cross-entropy, with labels smoothed over what can be chosen.

    Args:
        logits: (R, C); −∞ for what cannot be chosen in a row.
        right: (R,): what is right; `IGNORED` leaves a row out.
        smoothing: Probability given to all that can be chosen together.
        count: What to divide by; None: the rows that are not left out.

    Returns:
        A scalar.
    """
    kept = right.ne(IGNORED)
    logits, right = logits[kept], right[kept]
    likely, possible = logits.log_softmax(-1), logits.isfinite()
    mean = torch.where(possible, likely, 0.0).sum(-1) / possible.sum(-1)
    chosen = likely.gather(-1, right[:, None])[:, 0]
    total = -((1 - smoothing) * chosen + smoothing * mean).sum()
    return total / (kept.sum() if count is None else count)
