"""A model and its mode in one folder: what transformers writes, and `mode.json` beside it.

Leaves to others: putting a mode into a model (`apply`).
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, GenerationConfig, PreTrainedModel

from regard.errors import FileError, InputError, RegardError, UnsupportedError
from regard.hf.apply import apply
from regard.modes.mode import load_mode, save_mode

MODE_FILE = "mode.json"


def save(model: PreTrainedModel, folder: str | os.PathLike) -> None:
    """Write a model, with its mode if it has one.

    Args:
        model: The model.
        folder: Where; made if it is not there.
    """
    model.save_pretrained(folder)
    mode, path = getattr(model, "regard_mode", None), Path(folder) / MODE_FILE
    if mode is not None:
        save_mode(mode, path)
    elif path.exists():
        path.unlink()


def load(folder: str | os.PathLike) -> PreTrainedModel:
    """Read a model and its mode; runs no code from the folder.

    Args:
        folder: A folder that `save` wrote.

    Returns:
        The model in evaluation mode, re-programmed if the folder holds a mode.

    Raises:
        FileError: If the folder is incomplete, or weights and mode do not belong together.
    """
    place = Path(folder)
    for name in ("config.json", "model.safetensors"):
        if not (place / name).is_file():
            raise FileError(
                f"{place}: no {name}; a model folder holds config.json and model.safetensors"
            )
    model = _build(place / "config.json")
    if (place / MODE_FILE).is_file():
        mode = load_mode(place / MODE_FILE)
        try:
            apply(model, mode)
        except (InputError, UnsupportedError) as problem:
            raise FileError(f"{place / MODE_FILE}: {problem}") from None
    _load_weights(model, place / "model.safetensors")
    if (place / "generation_config.json").is_file():
        with _reading(place / "generation_config.json"):
            model.generation_config = GenerationConfig.from_pretrained(place)
    return model.eval()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Put the file's name before whatever other libraries say of it; they share no error class."""
    try:
        yield
    except RegardError:
        raise
    except Exception as problem:
        raise FileError(f"{path}: {problem}") from None


def _build(path: Path) -> PreTrainedModel:
    """Return the model of a config.json, with weights that are yet to be filled."""
    with _reading(path):
        config = AutoConfig.from_pretrained(path.parent, trust_remote_code=False)
        # A file may name a kernel of a hub, which is code; what attention runs is the mode's say.
        config._attn_implementation = config._experts_implementation = None
        names = config.architectures
        name = names[0] if isinstance(names, list) and names else None
        kind = getattr(transformers, str(name), None)
        if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
            raise FileError(
                f"{path}: architectures names {names}, which transformers does not have as a model"
            )
        if kind.config_class is not type(config):
            raise FileError(
                f"{path}: architectures names {names}, model_type {config.model_type}; "
                "they do not belong together"
            )
        model = kind(config)
    if config.dtype is not None:
        nn.Module.to(model, config.dtype)
    return model


def _load_weights(model: PreTrainedModel, path: Path) -> None:
    """Fill a model, and complain of every name and shape that does not fit."""
    with _reading(path):
        weights = load_file(path)
    held: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    held.update(model.named_buffers(remove_duplicate=False))
    for name in held.keys() & weights.keys():
        _check_shape(path, name, weights[name], held[name])
        # Precision may differ from weight to weight, and is kept.
        held[name].data = held[name].data.to(weights[name].dtype)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    state = model.state_dict()
    # Tied weights are written once; what transformers rebuilds itself is written never.
    saved = {state[name].data_ptr() for name in state.keys() & weights.keys()}
    rebuilt = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    lost = [name for name in missing if state[name].data_ptr() not in saved and name not in rebuilt]
    if lost or unexpected:
        problem = f"lacks {lost[0]}" if lost else f"has {min(unexpected)}, which the model does not"
        raise FileError(
            f"{path}: the file {problem}; was it saved with another mode or configuration?"
        )


def _check_shape(path: Path, name: str, found: Tensor, wanted: Tensor) -> None:
    if found.shape != wanted.shape:
        raise FileError(
            f"{path}: {name} has shape {tuple(found.shape)}, the model's is {tuple(wanted.shape)}; "
            "was it saved with another mode or configuration?"
        )
