"""A model and its mode, read back from a folder bit for bit; nothing in the folder is run.

transformers reads the weights, into a class made for the occasion whose `__init__` also applies
the mode, so that learned parameters are there to be filled: sharded, cast and placed on devices
like all others. Leaves to others: what the folder holds (`folder`), whether the weights fit
(`weights`), saving (`saving`).
"""

import inspect
import os
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.auto_factory import _BaseAutoModelClass, _get_model_class

from regard.errors import FileError, InputError, UnsupportedError, nearest
from regard.hf.apply import apply
from regard.hf.folder import GENERATION_FILE, Folder, check_generation_file, read_folder, reading
from regard.hf.saving import CONFIG_FILE, GUARD, MARK, MODE_FILE
from regard.hf.weights import check_before, check_loaded, keep_precision, match_names

# What only transformers' loader reads; further options belong to the configuration or the model.
_LOADER_OPTIONS = ("max_memory", "offload_folder", "offload_buffers", "disable_mmap")
_REFUSED_OPTIONS = {
    "trust_remote_code": "no code from a folder is run",
    "use_safetensors": "weights are read from safetensors files alone",
    "weights_only": "weights are read from safetensors files alone",
    "gguf_file": "weights are read from safetensors files alone",
    "quantization_config": "re-programmed models are not quantized",
    "config": "the folder's own is read; give what differs by name",
    "state_dict": "the folder's own is read",
    "ignore_mismatched_sizes": "weights that do not fit are never skipped",
    "output_loading_info": "weights that do not fit are an error",
    "subfolder": "give the folder itself",
    "revision": "fetch it by huggingface_hub.snapshot_download(name, revision=…)",
    "token": "fetch the folder by huggingface_hub.snapshot_download(name, token=…)",
    "cache_dir": "fetch the folder by huggingface_hub.snapshot_download(name, cache_dir=…)",
}


def from_pretrained(
    folder: str | os.PathLike,
    kind: type | None = None,
    *,
    dtype: torch.dtype | str | None = None,
    device_map: Any = None,
    attn_implementation: str | dict | None = None,
    variant: str | None = None,
    **options: Any,
) -> Any:
    """Read a model with its mode, as `model.save_pretrained(folder)` wrote them.

    Args:
        folder: The folder; it may also hold a model without a mode.
        kind: A class of models, or one of transformers' Auto classes; by default that of the model
            that was saved. Of another kind, what surrounds the base model may be missing, as the
            head of a new task, and is then initialised.
        dtype: What weights are cast to; by default each keeps the precision it was saved in.
        device_map: As transformers takes it.
        attn_implementation: What the model runs without a mode, or once the mode is taken out.
        variant: As in model.VARIANT.safetensors.
        **options: `max_memory`, `offload_folder`, `offload_buffers` and `disable_mmap`, as
            transformers takes them, entries of the configuration, and arguments of the class.

    Returns:
        The model in evaluation mode, re-programmed if the folder holds a mode.

    Raises:
        FileError: If the folder is incomplete, or its files do not belong together.
        InputError: If an option is unknown or refused, or `kind` is no class of models.
    """
    _check_options(options)
    found = read_folder(Path(folder), variant)
    config, rest = _read_config(found, kind, attn_implementation, options)
    chosen = _class_of(found, config, kind)
    _check_arguments(chosen, rest)
    _check_generation(found)
    made = _class_with_mode(chosen, found, keep=dtype is None)
    with reading(found.path):
        loaded: Any = made.from_pretrained(
            found.path,
            config=config,
            dtype="auto" if dtype is None else dtype,
            device_map=device_map,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            # What does not fit is named by `check_loaded`; here it would be a table in a log.
            ignore_mismatched_sizes=True,
            **rest,
        )
    model, info = loaded
    model.__class__ = chosen
    check_loaded(model, found, info)
    if found.base_model is not None:
        model.regard_base = found.base_model
    return model


def _check_generation(found: Folder) -> None:
    """Check settings that transformers would ignore in silence if it could not read them."""
    if check_generation_file(found.path):
        with reading(found.path / GENERATION_FILE):
            GenerationConfig.from_pretrained(found.path, local_files_only=True)


def _check_options(options: dict[str, Any]) -> None:
    for name in options:
        if name in _REFUSED_OPTIONS:
            raise InputError(f"from_pretrained takes no {name}: {_REFUSED_OPTIONS[name]}")


def _read_config(
    found: Folder, kind: type | None, attention: Any, options: dict[str, Any]
) -> tuple[PreTrainedConfig, dict[str, Any]]:
    """Return the configuration, and the options that it does not know."""
    path, named = found.path / CONFIG_FILE, found.config.get("attn_implementation")
    if attention is None and named != GUARD:
        attention = named
    reader: Any = AutoConfig
    own = getattr(kind, "config_class", None)
    if own is not None:
        if own.model_type != found.config.get("model_type"):
            raise FileError(
                f"{path}: model_type is {found.config.get('model_type')!r}, that of "
                f"{cast(type, kind).__name__} is '{own.model_type}'; they do not belong together"
            )
        reader = own
    else:
        options = {**options, "trust_remote_code": False}
    with reading(path):
        config, rest = reader.from_pretrained(
            found.path,
            return_unused_kwargs=True,
            local_files_only=True,
            attn_implementation=attention,
            **options,
        )
    if hasattr(config, MARK):
        delattr(config, MARK)
    known = set(options) & set(rest)
    return config, {name: rest[name] for name in known if name != "trust_remote_code"}


def _class_of(found: Folder, config: PreTrainedConfig, kind: type | None) -> type[PreTrainedModel]:
    """Return the class of the model to be made."""
    path = found.path / CONFIG_FILE
    if isinstance(kind, type) and issubclass(kind, PreTrainedModel):
        return kind
    if isinstance(kind, type) and issubclass(kind, _BaseAutoModelClass):
        mapping: Any = kind._model_mapping
        if type(config) not in mapping:
            raise FileError(
                f"{path}: {kind.__name__} has no model for model_type '{config.model_type}'"
            )
        return _get_model_class(config, mapping)
    if kind is not None:
        raise InputError(f"{kind!r} is no class of models; give one of transformers' classes")
    names = found.config.get("architectures")
    chosen = getattr(transformers, found.architectures[0], None) if found.architectures else None
    if not (isinstance(chosen, type) and issubclass(chosen, PreTrainedModel)):
        raise FileError(
            f"{path}: architectures names {names}, which transformers does not have as a model; "
            "if it is a class of yours, give it as from_pretrained(folder, YourClass)"
        )
    if chosen.config_class is not type(config):
        raise FileError(
            f"{path}: architectures names {names}, model_type {config.model_type}; "
            "they do not belong together"
        )
    return chosen


def _check_arguments(kind: type[PreTrainedModel], rest: dict[str, Any]) -> None:
    """Check that what the configuration did not take is taken by the loader or the model."""
    taken = {*inspect.signature(kind.__init__).parameters, *_LOADER_OPTIONS}
    taken -= {"self", "config", "args", "kwargs"}
    for name in rest:
        if name not in taken:
            raise InputError(
                f"'{name}' is no option of from_pretrained, no entry of {kind.__name__}'s "
                f"configuration and no argument of the class; {nearest(name, taken)}"
            )


def _class_with_mode(
    kind: type[PreTrainedModel], found: Folder, *, keep: bool
) -> type[PreTrainedModel]:
    """Return a class of models that come with the folder's mode.

    Its name and module are those of the class itself, by which transformers finds how older
    weights are converted.
    """

    def __init__(
        self: PreTrainedModel, config: PreTrainedConfig, *args: Any, **kwargs: Any
    ) -> None:
        with reading(found.path / CONFIG_FILE):
            kind.__init__(self, config, *args, **kwargs)
        if found.mode is not None:
            try:
                apply(self, found.mode)
            except (InputError, UnsupportedError) as problem:
                raise FileError(f"{found.path / MODE_FILE}: {problem}") from None
        sources, others = match_names(self, found)
        check_before(self, found, sources, others)
        if keep:
            keep_precision(self, sources)

    names = {"__init__": __init__, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), {**names, "__qualname__": kind.__qualname__})
