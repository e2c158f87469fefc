"""What a model is called with: random tokens, pictures or sounds, by what its forward pass takes.

Leaves to others: the model (`tiny`).
"""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from regard.errors import UnsupportedError
from regard.hf.check.tiny import takes

BATCH, LENGTH, TARGET = 2, 12, 9
# Words that no architecture takes for padding, an end or a picture.
FIRST_WORD, LAST_WORD = 3, 90
_SEED = 21


def sample_inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return random inputs of a model, the same ones every time.

    Args:
        model: The model.

    Returns:
        Arguments of its forward pass: tokens (B, N) with an `attention_mask` of ones, pictures
        `pixel_values`, sounds `input_features` or `input_values`; of an encoder-decoder also
        `decoder_input_ids`.

    Raises:
        UnsupportedError: If the model takes something else.
    """
    drawn = torch.Generator().manual_seed(_SEED)
    inputs: dict[str, Tensor] = {}
    if takes(model, "input_ids"):
        inputs["input_ids"] = _tokens(LENGTH, drawn)
        if takes(model, "attention_mask"):
            inputs["attention_mask"] = torch.ones(BATCH, LENGTH, dtype=torch.long)
    if takes(model, "pixel_values") and (not inputs or _sees_both(model)):
        inputs["pixel_values"] = _pictures(model, drawn)
    if takes(model, "input_features") and not inputs:
        inputs["input_features"] = _sounds(model, drawn)
    if takes(model, "input_values") and not inputs:
        inputs["input_values"] = torch.randn(BATCH, 400, generator=drawn)
    if not inputs:
        raise UnsupportedError(
            f"{type(model).__name__} takes '{model.main_input_name}', for which no inputs are made "
            "here; give them: check_model(model, inputs={…})"
        )
    if takes(model, "decoder_input_ids"):
        inputs["decoder_input_ids"] = _tokens(TARGET, drawn)
    device = next(model.parameters()).device
    return {name: value.to(device) for name, value in inputs.items()}


def _part(model: PreTrainedModel, *names: str) -> Any:
    """Return the first setting there is, of the model or of its part for that modality."""
    places: list[Any] = [model.config]
    for part in ("text_config", "vision_config", "audio_config", "backbone_config", "encoder"):
        inner = getattr(model.config, part, None)
        if hasattr(inner, "to_dict"):
            places.append(inner)
    for name in names:
        for place in places:
            value = getattr(place, name, None)
            if value is not None:
                return value
    return None


def _tokens(length: int, drawn: torch.Generator) -> Tensor:
    return torch.randint(FIRST_WORD, LAST_WORD, (BATCH, length), generator=drawn)


def _sees_both(model: PreTrainedModel) -> bool:
    """Tell whether a model is called with text and picture side by side, as CLIP is."""
    return hasattr(model, "get_text_features")


def _pictures(model: PreTrainedModel, drawn: torch.Generator) -> Tensor:
    size = _part(model, "image_size") or 32
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = _part(model, "num_channels", "in_channels", "in_chans") or 3
    return torch.randn(BATCH, channels, height, width, generator=drawn)


def _sounds(model: PreTrainedModel, drawn: torch.Generator) -> Tensor:
    bins = _part(model, "num_mel_bins") or 80
    frames = 2 * (_part(model, "max_source_positions") or 24)
    return torch.randn(BATCH, bins, frames, generator=drawn)


@torch.no_grad()
def picture_inputs(model: PreTrainedModel, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return arguments that put one picture into each text.

    Args:
        model: A model that writes about pictures, or any other.
        inputs: From `sample_inputs`.

    Returns:
        Tokens with the picture's in their middle, their mask and `pixel_values`; nothing for a
        model that takes no pictures, or takes them in a way of its own.
    """
    token = _part(model, "image_token_id", "image_token_index")
    look = getattr(model, "get_image_features", None)
    if token is None or look is None or "input_ids" not in inputs or "pixel_values" in inputs:
        return {}
    pixels = _pictures(model, torch.Generator().manual_seed(_SEED)).to(model.device, model.dtype)
    ids = inputs["input_ids"]
    try:
        found = look(pixels)
        found = getattr(found, "pooler_output", found)
        rows = found[0].shape[-2] if not isinstance(found, Tensor) or found.dim() == 3 else 0
        tokens = ids.new_full((len(ids), rows), int(token))
        middle = ids.shape[1] // 2
        whole = torch.cat([ids[:, :middle], tokens, ids[:, middle:]], 1)
        changes = {"input_ids": whole, "pixel_values": pixels}
        if "attention_mask" in inputs:
            changes["attention_mask"] = torch.ones_like(whole)
        model(**{**inputs, **changes})
    # Architectures cut pictures in ways of their own, and say so by errors of every class.
    except Exception:
        return {}
    return changes
