"""Read an adapter back, with its mode, or say why it does not belong to this model.

Leaves to others: writing it (PEFT's `save_pretrained`), putting it into the model (`attach`).
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from regard.errors import FileError, InputError, RegardError
from regard.hf.apply import apply, restore
from regard.hf.tuning.attach import base_of, inject
from regard.hf.tuning.base import difference
from regard.hf.tuning.programs import MODE_FILE, NAME, recorded
from regard.modes.mode import Mode, load_mode

# More than the ranks of any model that AdaLoRA was run on.
_MAX_BYTES = 16_000_000
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"


def load(
    model: PreTrainedModel | PeftModel,
    folder: str | os.PathLike,
    name: str = "default",
    *,
    trainable: bool = False,
    check_base: bool = True,
) -> PeftModel:
    """Read an adapter into a model, in place; runs no code from the folder.

    A mode that the adapter was trained with is applied to a model that runs none.

    Args:
        model: The model the adapter was made for, or one that has adapters of the same method.
        folder: A folder that `save_pretrained` of an adapted model wrote.
        name: What the adapter is called here; it becomes the active one.
        trainable: Whether to train it further.
        check_base: Whether to compare the model's weights with those the adapter was made for.

    Returns:
        The model in PEFT's wrapper.

    Raises:
        FileError: If the folder is incomplete, or does not fit the model; the model is unchanged.
        InputError: If the model runs another mode, or the name is taken.
    """
    place = Path(folder)
    config, weights = _read_config(place), _read_weights(place)
    base = base_of(model)
    known = (config.auto_mapping or {}).get(NAME)
    if check_base and isinstance(known, dict):
        _check_base(base, known, place)
    mode = _mode_to_apply(base, place, known is not None)
    config.inference_mode = not trainable
    if mode is not None:
        apply(base, mode)
    try:
        config = recorded(config, getattr(base, "regard_mode", None), known or {})
        adapted = _filled(model, config, name, weights, place)
    except RegardError:
        if mode is not None:
            restore(base)
        raise
    return adapted if trainable else adapted.eval()


def _read_config(place: Path) -> PeftConfig:
    path = place / CONFIG_FILE
    if not path.is_file():
        raise FileError(f"{place}: no {CONFIG_FILE}; an adapter's folder holds it")
    try:
        fields = json.loads(path.read_bytes()[: _MAX_BYTES + 1])
    except (ValueError, RecursionError) as problem:
        raise FileError(f"{path}: no readable JSON: {problem}") from None
    kind = fields.get("peft_type") if isinstance(fields, dict) else None
    if not isinstance(kind, str) or kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        raise FileError(f"{path}: peft_type names {kind!r}, which PEFT does not know")
    try:
        return PEFT_TYPE_TO_CONFIG_MAPPING[kind].from_peft_type(**fields)  # type: ignore[index]
    except (ValueError, TypeError, InputError) as problem:
        raise FileError(f"{path}: {problem}") from None


def _read_weights(place: Path) -> dict[str, Tensor]:
    path = place / WEIGHTS_FILE
    if not path.is_file():
        raise FileError(f"{place}: no {WEIGHTS_FILE}; weights in other formats are not read")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as problem:
        raise FileError(f"{path}: {problem}") from None


def _check_base(base: PreTrainedModel, known: dict[str, Any], place: Path) -> None:
    try:
        differs = difference(base, known)
    except (AttributeError, TypeError, ValueError, RuntimeError):
        differs = "what it says of its model cannot be read"
    if differs is not None:
        raise FileError(
            f"{place}: the adapter belongs to another model: {differs}; load the model it was "
            "made for, or give check_base=False if you know better"
        )


def _mode_to_apply(base: PreTrainedModel, place: Path, ours: bool) -> Mode | None:
    """Return the adapter's mode if the model runs none, and refuse a model that runs another."""
    path, running = place / MODE_FILE, getattr(base, "regard_mode", None)
    if not path.is_file():
        if running is not None and ours:
            raise InputError(
                f"{place}: the adapter was trained without a mode, the model runs "
                f"'{running.name}'; take it out with rg.hf.restore(model)"
            )
        return None
    mode = load_mode(path)
    if running is None and hasattr(base, "peft_config"):
        raise InputError(
            f"{place}: the adapter was trained with mode '{mode.name}', and the model has adapters "
            "that were trained without one; give it a model of its own"
        )
    if running is None:
        return mode
    if running.hash != mode.hash:
        raise InputError(
            f"{place}: the adapter was trained with mode '{mode.name}' ({mode.hash[:12]}), the "
            f"model runs '{running.name}' ({running.hash[:12]}); take it out with "
            "rg.hf.restore(model)"
        )
    return None


def _filled(
    model: PreTrainedModel | PeftModel,
    config: PeftConfig,
    name: str,
    weights: dict[str, Tensor],
    place: Path,
) -> PeftModel:
    """Put the adapter into the model with its weights, or leave the model as it was."""
    before = model.active_adapters if isinstance(model, PeftModel) else None
    trained = [(one, one.requires_grad) for one in base_of(model).parameters()]
    adapted = inject(model, config, name)
    try:
        _check_names(adapted, name, weights)
        set_peft_model_state_dict(adapted, weights, adapter_name=name)
    except (KeyError, ValueError, RuntimeError) as problem:
        if before is None:
            adapted.unload()
        else:
            adapted.set_adapter(before[0])
            adapted.delete_adapter(name)
        for parameter, was in trained:
            parameter.requires_grad_(was)
        raise FileError(f"{place / WEIGHTS_FILE}: {problem}") from None
    return adapted


def _check_names(adapted: PeftModel, name: str, weights: dict[str, Tensor]) -> None:
    """Check that names and shapes are those the model has a place for."""
    with torch.no_grad():
        wanted = get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False)
    missing, surplus = sorted(wanted.keys() - weights.keys()), weights.keys() - wanted.keys()
    # Embeddings that were resized are saved whole, under the model's own names.
    surplus = sorted(surplus - adapted.state_dict().keys())
    if missing or surplus:
        problem = (
            f"lacks {missing[0]}" if missing else f"has {surplus[0]}, which the model does not"
        )
        raise ValueError(f"the file {problem}; was it saved with another mode or configuration?")
    for key, tensor in wanted.items():
        if tensor.shape != weights[key].shape:
            raise ValueError(
                f"{key} has shape {tuple(weights[key].shape)}, the model's is {tuple(tensor.shape)}"
            )
