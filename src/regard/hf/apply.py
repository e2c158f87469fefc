"""Put a mode into a model, in place, and take it out again.

Leaves to others: what transformers calls (`interface`), saving (`files`).
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from regard.errors import InputError, UnsupportedError
from regard.hf.interface import NAME
from regard.modes.mode import ROLES, Mode
from regard.nn.programmed import HeadGroups, Programmed

# Architectures whose calls were compared with their own attention, token by token.
VERIFIED = ("marian",)


@dataclass(frozen=True)
class Place:
    """Where an attention module stands in its model.

    Attributes:
        path: Its name in the model.
        role: "encoder", "decoder" or "cross".
        layer: Its number among the modules of that role.
        heads: H.
        width: D.
    """

    path: str
    role: str
    layer: int
    heads: int
    width: int


def find_places(model: PreTrainedModel) -> dict[str, tuple[nn.Module, Place]]:
    """Return a model's attention modules by path, with their places.

    Args:
        model: The model.

    Returns:
        (module, place) by path, in the order of the model.

    Raises:
        UnsupportedError: If the architecture has not been verified.
    """
    config = getattr(model, "config", None)
    kind = getattr(config, "model_type", None) or type(model).__name__
    if kind not in VERIFIED:
        raise UnsupportedError(
            f"models of type '{kind}' have not been verified yet; so far: {', '.join(VERIFIED)}"
        )
    found: dict[str, tuple[nn.Module, Place]] = {}
    counts: dict[str, int] = dict.fromkeys(ROLES, 0)
    for path, module in model.named_modules():
        if not (type(module).__name__.endswith("Attention") and hasattr(module, "q_proj")):
            continue
        role = _role(path, module)
        heads, width = _head_sizes(module)
        found[path] = (module, Place(path, role, counts[role], heads, width))
        counts[role] += 1
    return found


def _head_sizes(module: Any) -> tuple[int, int]:
    """Return H and D of a model's own attention module."""
    return int(module.num_heads), int(module.head_dim)


def _role(path: str, module: nn.Module) -> str:
    if re.search(r"encoder_attn|cross_?attn|EncDecAttention", path):
        return "cross"
    # A decoder on its own has no "decoder." in its paths.
    causal = getattr(module, "is_causal", False) or "decoder." in path
    return "decoder" if causal else "encoder"


def apply(model: PreTrainedModel, mode: Mode) -> PreTrainedModel:
    """Re-program a model, in place.

    Programs' learned parameters become parameters of the attention modules, under the name
    `regard`: in `state_dict`, trained, cast and saved with the model. Layers the mode does not
    mention run the model's own attention. Any mode applied before is taken out first.

    Args:
        model: A Hugging Face model.
        mode: The mode.

    Returns:
        The same model.

    Raises:
        UnsupportedError: If the architecture has not been verified.
        InputError: If the mode does not fit the model; the model is then unchanged.
    """
    if not isinstance(mode, Mode):
        raise InputError(
            f"hf.apply takes a mode, not {mode!r}; make one with rg.Mode(name, encoder=program, …)"
        )
    places = find_places(model)
    _check_fit(mode, [place.role for _, place in places.values()])
    made = {}
    for path, (module, place) in places.items():
        groups = mode.at(place.role, place.layer, place.heads)
        if groups is not None:
            made[path] = _programmed(groups, module, place)
    restore(model)
    for path, (module, place) in places.items():
        _attach(module, regard_place=place)
        if path in made:
            module.regard = made[path]
    _attach(model, regard_mode=mode, regard_before=model.config._attn_implementation)
    model.set_attn_implementation(NAME)
    return model


def _attach(module: nn.Module, **values: Any) -> None:
    """Set attributes that are no tensors and no modules, which torch's own types do not foresee."""
    for name, value in values.items():
        setattr(module, name, value)


def _check_fit(mode: Mode, roles: list[str]) -> None:
    """Check that every assignment has a place: one that is dropped in silence helps nobody."""
    for one in mode.assignments:
        layers = roles.count(one.role)
        if not layers:
            raise InputError(
                f"mode '{mode.name}' has a program for role '{one.role}', which this model lacks; "
                f"it has {', '.join(sorted(set(roles)))}"
            )
        if one.layers and one.layers[1] > layers:
            raise InputError(
                f"mode '{mode.name}': layers {one.layers[0]}:{one.layers[1]} of role "
                f"'{one.role}'; there are {layers}"
            )


def _programmed(groups: HeadGroups, module: nn.Module, place: Place) -> Programmed:
    try:
        made = Programmed(groups, place.heads, place.width)
    except InputError as problem:
        raise InputError(f"{place.path}: {problem}") from None
    if made.needs:
        raise InputError(
            f"{place.path}: its program reads '{made.needs[0]}', which the model does not give"
        )
    like = next(module.parameters())
    return made.to(like.device, like.dtype).train(module.training)


def restore(model: PreTrainedModel) -> PreTrainedModel:
    """Take a mode out of a model, in place; its learned parameters go with it.

    Args:
        model: A model `apply` was used on, or not.

    Returns:
        The same model, with its own attention.
    """
    for module in model.modules():
        for name in ("regard", "regard_place"):
            if hasattr(module, name):
                delattr(module, name)
    before = getattr(model, "regard_before", None)
    if before is not None:
        model.set_attn_implementation(before)
        del model.regard_mode, model.regard_before
    return model
