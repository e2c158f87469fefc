"""Whether the weights of a folder are those of a model: none missing, none left over, none cut.

Looked at before they are read, so that no wrong file makes anything large, and after. Leaves to
others: reading them (`files`), what lies in the folder (`folder`).
"""

from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)
from transformers.utils.generic import ContextManagers

from regard.errors import FileError
from regard.hf.folder import Folder, Stored

_OTHER = "was it saved with another mode or configuration?"
# The submodule that holds the learned parameters of programs.
_LEARNED = "regard"
# How many numbers a tensor may have that no file holds, as a table of positions.
_MOST_COMPUTED = 2**26


@dataclass(frozen=True)
class Source:
    """Where a tensor of a model comes from.

    Attributes:
        stored: The tensor of a file, or one of those that are joined.
        joined: Whether transformers makes the model's tensor of several, or of another shape.
    """

    stored: Stored
    joined: bool


def match_names(
    model: PreTrainedModel, found: Folder
) -> tuple[dict[str, Source], dict[str, Stored]]:
    """Find out what becomes of every tensor in the files; transformers renames and joins some.

    Args:
        model: The model, which may not have weights yet.
        found: What the folder holds.

    Returns:
        Sources by the model's names, and what lies in the files and is not the model's.
    """
    wanted = model.state_dict()
    changes = get_model_conversion_mapping(model)
    renamings = [one for one in changes if isinstance(one, WeightRenaming)]
    joins = [one for one in changes if isinstance(one, WeightConverter)]
    prefix, sources, others = model.base_model_prefix, {}, {}
    # In transformers' own order, which some renamings rely on.
    for name in sorted(found.tensors, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, joins, prefix, wanted)
        if target not in wanted and name in wanted:
            target, pattern = rename_source_key(name, [], [], prefix, wanted)
        if target in wanted:
            sources[target] = Source(found.tensors[name], pattern is not None)
        else:
            others[name] = found.tensors[name]
    return sources, others


def check_before(
    model: PreTrainedModel, found: Folder, sources: dict[str, Source], others: dict[str, Stored]
) -> None:
    """Check shapes, sizes, and that learned parameters are neither missing nor left over.

    Args:
        model: The model, which may not have weights yet.
        found: What the folder holds.
        sources: From `match_names`.
        others: From `match_names`.

    Raises:
        FileError: If they do not fit.
    """
    for name, stored in others.items():
        if _is_learned(name):
            raise FileError(
                f"{stored.file}: the file has {name}, which the model does not; {_OTHER}"
            )
    most = max(_MOST_COMPUTED, sum(one.numbers for one in found.tensors.values()))
    for name, tensor in _tensors(model).items():
        source = sources.get(name)
        if source is None and _is_learned(name):
            raise _lacks(found, name)
        if source is not None and not source.joined:
            if source.stored.shape != tuple(tensor.shape):
                raise _differs(source.stored.file, name, source.stored.shape, tensor.shape)
        elif tensor.numel() > most:
            raise FileError(
                f"{found.path}: {name} would have the shape {tuple(tensor.shape)}, more than all "
                f"weights together; {_OTHER}"
            )


def keep_precision(model: PreTrainedModel, sources: dict[str, Source]) -> None:
    """Give every parameter the precision it has in the folder, which may differ among them.

    Args:
        model: A model without weights.
        sources: From `match_names`.
    """
    for name, tensor in _tensors(model).items():
        source = sources.get(name)
        if source is not None and source.stored.dtype is not None and tensor.is_floating_point():
            tensor.data = tensor.data.to(source.stored.dtype)


def check_loaded(model: PreTrainedModel, found: Folder, info: dict[str, Any]) -> None:
    """Check what transformers says of the weights that it read.

    Of another class than the one that was saved, a model may have what that one does not, which
    was then initialised, and lack what that one has.

    Args:
        model: The model.
        found: What the folder holds.
        info: From transformers' `from_pretrained` with `output_loading_info`.

    Raises:
        FileError: If weights are missing, left over, or of another shape.
    """
    for name, shape, wanted in sorted(info["mismatched_keys"]):
        raise _differs(found.weights, name, shape, wanted)
    if info["error_msgs"]:
        raise FileError(f"{found.weights}: {info['error_msgs'][0]}")
    for name, weight in model.named_parameters():
        if not weight.is_meta and torch.isnan(weight).any():
            raise FileError(
                f"{found.weights}: {name} holds NaN, so the model can answer nothing; it was saved "
                "after its training had diverged"
            )
    same = type(model).__name__ in found.architectures
    missing, surplus = info["missing_keys"], info["unexpected_keys"]
    if missing and not same:
        saved = _names_of_saved(model, found)
        missing = [name for name in missing if _without_prefix(model, name) in saved]
    if missing:
        raise _lacks(found, min(missing))
    if surplus and same:
        raise FileError(
            f"{found.weights}: the file has {min(surplus)}, which the model does not; {_OTHER}"
        )


def _names_of_saved(model: PreTrainedModel, found: Folder) -> set[str]:
    """Return what the class that was saved writes, by the names of the base model."""
    names: set[str] = set()
    for architecture in found.architectures:
        kind: Any = getattr(transformers, architecture, None)
        if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
            # A class of the user's own: what it had is not known, so all is wanted.
            return {_without_prefix(model, name) for name in model.state_dict()}
        contexts: list[Any] = kind.get_init_context(torch.float32, False, False, False)
        with ContextManagers(contexts):
            made = kind(model.config)
        ignored = set(made._keys_to_ignore_on_save or ())
        names |= {_without_prefix(made, name) for name in made.state_dict().keys() - ignored}
    return names


def _lacks(found: Folder, name: str) -> FileError:
    return FileError(f"{found.weights}: the file lacks {name}; {_OTHER}")


def _differs(file: Any, name: str, shape: Any, wanted: Any) -> FileError:
    return FileError(
        f"{file}: {name} has shape {tuple(shape)}, the model's is {tuple(wanted)}; {_OTHER}"
    )


def _tensors(model: PreTrainedModel) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _is_learned(name: str) -> bool:
    return _LEARNED in name.split(".")


def _without_prefix(model: PreTrainedModel, name: str) -> str:
    """Return a name as the base model alone has it."""
    return name.removeprefix(f"{model.base_model_prefix}.")
