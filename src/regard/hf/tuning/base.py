"""What an adapter remembers of the model it was made for, and whether another model is the same.

A few numbers of a few weights are enough to tell: another model's differ in all of them, and a
rounding to half precision in their last digits alone. Leaves to others: where it is kept
(`programs`).
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_WEIGHTS, _NUMBERS = 8, 4
# bfloat16 rounds to 8 bits; what rounded twice differs by twice as much.
_ROUNDING = 2.0**-7


def sample_of(model: PreTrainedModel, apart: Collection[str]) -> dict[str, Any]:
    """Return what tells a model from others.

    Args:
        model: The model.
        apart: Names of modules that are trained in full, whose weights may differ.

    Returns:
        Plain data: the model's type, and a few numbers of a few of its weights.
    """
    found = _weights(model)
    weights = [
        path
        for path, weight in found.items()
        if weight.dim() > 1 and weight.is_floating_point() and not {*path.split(".")} & {*apart}
    ]
    chosen = [weights[at * len(weights) // _WEIGHTS] for at in range(_WEIGHTS)] if weights else []
    return {
        "model_type": model.config.model_type,
        "weights": {path: _numbers(found[path]) for path in dict.fromkeys(chosen)},
    }


def difference(model: PreTrainedModel, known: dict[str, Any]) -> str | None:
    """Return in what a model differs from the one that was written down.

    Args:
        model: The model.
        known: From `sample_of`.

    Returns:
        One line without a full stop; None if they are the same.
    """
    kind = model.config.model_type
    if known.get("model_type") != kind:
        return f"it was made for a model of type '{known.get('model_type')}', this one is '{kind}'"
    found = _weights(model)
    for path, numbers in dict(known.get("weights") or {}).items():
        if path not in found:
            return f"it was made for a model with {path}, which this one lacks"
        if not found[path].is_floating_point():
            continue
        ours, theirs = torch.tensor(_numbers(found[path])), torch.tensor(numbers)
        if not torch.allclose(ours, theirs, rtol=_ROUNDING, atol=1e-6):
            return f"{path} starts with {ours[0]:.4g} here, with {theirs[0]:.4g} there"
    return None


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's own weights by the names they have without adapters."""
    return {
        path.replace(".base_layer.", "."): weight
        for path, weight in model.named_parameters()
        if "regard" not in path.split(".")
    }


def _numbers(weight: Tensor) -> list[float]:
    flat = weight.detach().reshape(-1)
    places = [at * (len(flat) - 1) // (_NUMBERS - 1) for at in range(_NUMBERS)]
    return [float(flat[place]) for place in places]
