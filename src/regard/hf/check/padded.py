"""The same inputs with padding: the last row of the batch is shorter than the others.

Leaves to others: what padding may change (`padding`, `parity`, `caches`).
"""

from typing import Any

import torch
from torch import Tensor

from regard.hf.check.subject import Stream, Subject
from regard.hf.check.tiny import takes

SIDES = ("right", "left")
PADDING = 4


def real_tokens(subject: Subject, stream: Stream, side: str) -> Tensor:
    """Return which tokens are real: all of the first row, all but four of the last.

    Args:
        subject: The model.
        stream: The stream.
        side: "right" or "left", where the padding is.

    Returns:
        Integers (B, N), 1 where real.
    """
    mask = torch.ones_like(subject.inputs[stream.ids])
    padding = slice(-PADDING, None) if side == "right" else slice(0, PADDING)
    mask[-1, padding] = 0
    return mask


def padded(subject: Subject, stream: Stream, mask: Tensor) -> dict[str, Any]:
    """Return the arguments that say so to the model.

    Args:
        subject: The model.
        stream: The stream, which has a mask.
        mask: From `real_tokens`.

    Returns:
        The mask, and positions counted from the first real token where the model takes any.
    """
    assert stream.mask is not None
    changes = {stream.mask: mask}
    # Only what generates is used with padding on the left, and then gets such positions.
    if stream.causal and stream.ids == "input_ids" and counts_positions(subject):
        changes["position_ids"] = positions(mask)
    return changes


def counts_positions(subject: Subject) -> bool:
    """Tell whether a model takes one position for each token.

    Args:
        subject: The model.

    Returns:
        Whether it does; models of text and pictures may want three.
    """
    plain = not hasattr(subject.model.config, "vision_config")
    return plain and takes(subject.model, "position_ids")


def positions(mask: Tensor) -> Tensor:
    """Return positions as `generate` counts them.

    Args:
        mask: Integers (B, N), 1 where real.

    Returns:
        Integers (B, N).
    """
    return (mask.cumsum(-1) - 1).clamp_min(0)
