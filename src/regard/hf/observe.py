"""The attention weights of a model, layer by layer, during any forward pass.

Leaves to others: drawing them (`view`), statistics without a dense tensor (`ops`).
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from regard.hf.apply import find_places
from regard.hf.interface import NAME, recording


@torch.no_grad()
def record_weights(model: PreTrainedModel, role: str, **inputs: Any) -> list[Tensor]:
    """Run a model and return the weights of all its attention of one role.

    Args:
        model: A model, re-programmed or not; left as it was.
        role: "encoder", "decoder" or "cross".
        **inputs: What the model is called with.

    Returns:
        One dense tensor (B, H, N, M) per layer, first layer first.
    """
    places = {id(module): place for module, place in find_places(model).values()}
    own = model.config._attn_implementation
    assert own is not None, "a built model has chosen its attention"
    model.set_attn_implementation(NAME)
    found: list = []
    token = recording.set(found)
    try:
        model(**inputs)
    finally:
        recording.reset(token)
        model.set_attn_implementation(own)
    chosen = [(places[id(module)], weights) for module, weights in found]
    return [weights for place, weights in chosen if place.role == role]
