"""Which projections an update goes to: letters of attention, names of modules, numbers of layers.

Leaves to others: where the projections of an attention stand (`structure`).
"""

from collections.abc import Sequence

from transformers import PreTrainedModel

from regard.errors import InputError, nearest
from regard.hf.places import find_places
from regard.hf.tuning.structure import NAMES, find_parts, is_linear

ALL = "all"


def choose_targets(
    model: PreTrainedModel, targets: Sequence[str], layers: Sequence[int] | None = None
) -> list[str]:
    """Return the paths of chosen projections, as `target_modules` of a configuration of PEFT.

    Args:
        model: A model without adapters.
        targets: "q", "k", "v" and "o" of every attention (a projection that several share is taken
            whole); "all" linear layers; or names of modules, e.g. "intermediate.dense".
        layers: Numbers of layers, from 0; None: all.

    Returns:
        Paths in the model.

    Raises:
        InputError: If the model has no such target or layer.
        UnsupportedError: If letters are given, and the model's attention is not understood.
    """
    linear = _linear_layers(model)
    found = [path for target in targets for path in _paths_of(model, target, list(linear))]
    numbers = sorted(set(linear.values()))
    for layer in layers or ():
        if layer not in numbers:
            raise InputError(f"layers: there is no layer {layer}; they go from 0 to {numbers[-1]}")
    return [path for path in dict.fromkeys(found) if layers is None or linear[path] in layers]


def _linear_layers(model: PreTrainedModel) -> dict[str, int]:
    """Return the linear maps that stand in a numbered layer of the base model, with its number."""
    base, found = model.base_model, {}
    before = "" if base is model else f"{model.base_model_prefix}."
    for path, module in model.named_modules():
        numbers = [int(part) for part in path.removeprefix(before).split(".") if part.isdigit()]
        if path.startswith(before) and numbers and is_linear(module):
            found[path] = numbers[0]
    return found


def _paths_of(model: PreTrainedModel, target: str, linear: list[str]) -> list[str]:
    if target in NAMES:
        parts = [find_parts(model, place) for _, place in find_places(model).values()]
        found = [one[target].path for one in parts if target in one]
    elif target == ALL:
        found = linear
    else:
        found = [path for path in linear if path == target or path.endswith(f".{target}")]
    if not found:
        known = {ALL, *NAMES, *(path.rpartition(".")[2] for path in linear)}
        raise InputError(f"targets: '{target}' is not in the model; {nearest(target, known)}")
    return found
