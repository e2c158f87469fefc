"""Put a mode into a model, in place, and take it out again.

Leaves to others: which modules are attention (`places`), what transformers calls (`interface`),
saving (`files`).
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from regard.errors import InputError, UnsupportedError
from regard.hf.bias import stand_down, stand_in
from regard.hf.interface import NAME, progress
from regard.hf.places import Place, find_places, own_attention
from regard.modes.mode import Mode
from regard.nn.programmed import HeadGroups, Programmed


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
        UnsupportedError: If the model does not let its attention be replaced.
        InputError: If the mode does not fit the model. After an error the model is unchanged.
    """
    if not isinstance(mode, Mode):
        raise InputError(
            f"hf.apply takes a mode, not {mode!r}; make one with rg.Mode(name, encoder=program, …)"
        )
    places = find_places(model)
    check_fit(mode, model)
    made = {}
    for path, (module, place) in places.items():
        groups = mode.at(place.role, place.layer, place.heads, place.numbers)
        if groups is not None:
            made[path] = make_programmed(groups, module, place)
    restore(model)
    before = [(config, config._attn_implementation) for config in _configs(model)]
    model.set_attn_implementation(NAME)
    _check_asked(model, before, [places[path] for path in made])
    for path, (module, place) in places.items():
        _attach(module, regard_place=place)
        stand_in(module, NAME)
        if path in made:
            module.regard = made[path]
            module.register_forward_hook(CallCheck(place.path))
    _attach(model, regard_mode=mode, regard_before=before)
    return model


def _attach(module: nn.Module, **values: Any) -> None:
    """Set attributes that are no tensors and no modules, which torch's own types do not foresee."""
    for name, value in values.items():
        setattr(module, name, value)


def _configs(model: nn.Module) -> list[Any]:
    """Return every configuration that a part of the model may be asked by, once each."""
    found: dict[int, Any] = {}
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation"):
            found.setdefault(id(config), config)
    # A configuration may hold those of parts, which parts that are no models ask.
    for config in list(found.values()):
        for name in getattr(config, "sub_configs", None) or ():
            part = getattr(config, name, None)
            if hasattr(part, "_attn_implementation"):
                found.setdefault(id(part), part)
    return list(found.values())


def _put_back(before: list[tuple[Any, str | None]]) -> None:
    for config, implementation in before:
        # The attribute without the underscore would change the configurations inside it as well.
        config._attn_implementation_internal = implementation


def _check_asked(
    model: PreTrainedModel, before: list[tuple[Any, str | None]], programmed: list[Any]
) -> None:
    """Check that every module with a program will ask for it; transformers only warns."""
    for module, place in programmed:
        config = getattr(module, "config", None) or model.config
        if config._attn_implementation != NAME:
            _put_back(before)
            raise UnsupportedError(
                f"{place.path}: {type(model).__name__} does not let attn_implementation be set "
                f"here; it stays '{config._attn_implementation}'"
            )


def check_fit(mode: Mode, model: nn.Module) -> None:
    """Check that every assignment has a place: one that is dropped in silence helps nobody.

    Args:
        mode: The mode.
        model: The model.

    Raises:
        InputError: If the model has no such role or layer.
        UnsupportedError: If the model's attention cannot be replaced.
    """
    places = [place for _, place in find_places(model).values()]
    roles = sorted({role for place in places for role in place.numbers})
    for one in mode.assignments:
        layers = sum(one.role in place.numbers for place in places)
        if not layers:
            rest = own_attention(model)
            hint = (
                f"; {rest[0]} runs attention of its own, which cannot be replaced" if rest else ""
            )
            raise InputError(
                f"mode '{mode.name}' has a program for role '{one.role}', which this model lacks; "
                f"it has {', '.join(roles)}{hint}"
            )
        if one.layers and one.layers[1] > layers:
            raise InputError(
                f"mode '{mode.name}': layers {one.layers[0]}:{one.layers[1]} of role "
                f"'{one.role}'; there are {layers}"
            )


def make_programmed(groups: HeadGroups, module: nn.Module, place: Place) -> Programmed:
    """Make what an attention module runs in the place of its own attention.

    Args:
        groups: Programs on groups of heads that cover all.
        module: The attention module.
        place: Where it stands.

    Returns:
        A layer of the device, the dtype and the mode, training or not, of the module.

    Raises:
        InputError: If the programs do not fit the place.
    """
    try:
        made = Programmed(
            groups, place.heads, place.width, key_heads=place.key_heads,
            value_width=place.value_width,
        )  # fmt: skip
    except InputError as problem:
        raise InputError(f"{place.path}: {problem}") from None
    missing = [name for name in made.needs if name not in place.given]
    if missing:
        raise InputError(
            f"{place.path}: its program reads '{missing[0]}', which the model does not give"
        )
    like = next(module.parameters())
    return made.to(like.device, like.dtype).train(module.training)


class CallCheck:
    """After a module's forward: fails if its programs did not run.

    Args:
        path: The module's name in the model.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        """Check one call; compiled code is checked when it is first run without being compiled.

        Args:
            module: The attention module.
            args: Unused.
            output: Unused.

        Raises:
            InputError: If the module ran other attention than the mode says.
        """
        if torch.compiler.is_compiling():
            return
        if id(module) in progress.called:
            progress.called.discard(id(module))
            return
        config: Any = getattr(module, "config", None)
        runs = getattr(config, "_attn_implementation", NAME)
        if runs != NAME:
            raise InputError(
                f"{self.path} has programs of a mode and ran attn_implementation '{runs}' instead; "
                f"rg.hf.restore(model) takes the mode out, model.set_attn_implementation('{NAME}') "
                "runs it again"
            )
        raise UnsupportedError(
            f"{self.path} ({type(module).__name__}) ran and did not call its attention function, "
            "so its programs had no effect"
        )


def part_of_mode(mode: Mode, model: nn.Module) -> Mode | None:
    """Return what a mode says of a part of the model it was made for.

    Args:
        mode: The mode.
        model: The part, such as the encoder of a translator.

    Returns:
        The mode with the roles that the part has; None if it says nothing of it.
    """
    roles = {role for _, place in find_places(model).values() for role in place.numbers}
    kept = [one for one in mode.assignments if one.role in roles]
    return Mode(mode.name, mode.intent, kept) if kept else None


def restore(model: PreTrainedModel) -> PreTrainedModel:
    """Take a mode out of a model, in place; its learned parameters go with it.

    Args:
        model: A model `apply` was used on, or not.

    Returns:
        The same model, with its own attention.

    Raises:
        InputError: If the model has adapters, which belong to the mode they were trained with.
    """
    if hasattr(model, "peft_config"):
        raise InputError("the model has adapters; take them out first: model = adapted.unload()")
    for module in model.modules():
        for name in ("regard", "regard_place"):
            if hasattr(module, name):
                delattr(module, name)
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(hook, CallCheck):
                del module._forward_hooks[key]
        stand_down(module)
    before = getattr(model, "regard_before", None)
    if before is not None:
        _put_back(before)
        del model.regard_mode, model.regard_before
    return model
