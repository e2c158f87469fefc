"""Put an adapter into a model by PEFT, with the programs' own parameters trained beside it.

Leaves to others: adapters (PEFT, `bottleneck`, `heads`), reading them back (`read`).
"""

import copy
import warnings
from typing import Any, cast

import peft
from peft import AdaLoraConfig, PeftConfig, PeftModel
from torch import nn
from transformers import PreTrainedModel

from regard.errors import InputError, nearest
from regard.hf.tuning.base import sample_of
from regard.hf.tuning.programs import NAME, have_parameters, keep_originals, recorded
from regard.hf.tuning.structure import is_linear


def adapt(
    model: PreTrainedModel | PeftModel, config: PeftConfig, name: str = "default"
) -> PeftModel:
    """Put an adapter into a model, in place; only it and the programs' parameters are trained.

    The adapter has its own copy of the programs' parameters: it is saved, switched, merged and
    taken out with them. `save_pretrained` of what is returned writes adapter_config.json,
    adapter_model.safetensors, and mode.json if the model runs a mode.

    Args:
        model: A model, re-programmed or not, or one that has adapters of the same method.
        config: peft.LoraConfig, AdaLoraConfig, BottleneckConfig, HeadLoraConfig, or another
            configuration of PEFT that wraps modules.
        name: What the adapter is called; it becomes the active one.

    Returns:
        The model in PEFT's wrapper.

    Raises:
        InputError: If the configuration does not fit the model, or the name is taken.
        UnsupportedError: If the model's structure is not understood.
    """
    if not isinstance(config, PeftConfig) or config.is_prompt_learning:
        raise InputError(
            f"tuning.adapt takes a configuration of PEFT that wraps modules, e.g. "
            f"peft.LoraConfig(target_modules=…), not {type(config).__name__}"
        )
    base = base_of(model)
    config = copy.deepcopy(config)
    if have_parameters(base) and not hasattr(config, "modules_to_save"):
        raise InputError(
            f"{type(config).__name__} trains nothing beside its adapter, and the model's programs "
            "have parameters; take another method, e.g. peft.LoraConfig"
        )
    if have_parameters(base):
        config.modules_to_save = sorted({*(_saved(config) or ()), NAME})  # type: ignore[attr-defined]
    known = sample_of(base, _saved(config) or ())
    config = recorded(config, getattr(base, "regard_mode", None), known)
    return inject(model, config, name)


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the model that adapters were put into.

    Args:
        model: A model, with adapters or without.

    Returns:
        The model itself.

    Raises:
        InputError: If it is no model of transformers.
    """
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(base, PreTrainedModel):
        raise InputError(f"adapters go into a model of transformers, not {type(base).__name__}")
    return base


def inject(model: PreTrainedModel | PeftModel, config: PeftConfig, name: str) -> PeftModel:
    """Put an adapter into a model by PEFT, and make it the active one.

    Args:
        model: The model.
        config: The configuration; PEFT may write into it.
        name: The adapter's name.

    Returns:
        The model in PEFT's wrapper.

    Raises:
        InputError: If PEFT refuses, or a target is not in the model.
    """
    base = base_of(model)
    taken = list(model.peft_config) if isinstance(model, PeftModel) else []
    if not name or "." in name or name == NAME or name in taken:
        problem = "is taken" if name in taken else "cannot be an adapter's name"
        raise InputError(f"'{name}' {problem}; choose another")
    if hasattr(base, "peft_config") and not isinstance(model, PeftModel):
        raise InputError("the model has adapters already; give what tuning.adapt returned")
    _check_targets(config, base)
    training = base.training
    with warnings.catch_warnings():
        # PEFT asks transformers by a name that transformers is about to give up.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        if isinstance(config, AdaLoraConfig):
            # The same option of LoRA goes by other names; PEFT misses those in AdaLoRA's.
            warnings.filterwarnings("ignore", "The following rank_pattern keys did not match")
        adapted = _injected(model, config, name)
    keep_originals(adapted)
    return adapted.train(training)


def _injected(model: PreTrainedModel | PeftModel, config: PeftConfig, name: str) -> PeftModel:
    try:
        if isinstance(model, PeftModel):
            model.add_adapter(name, config)
            model.set_adapter(name, inference_mode=config.inference_mode)
            return model
        return cast(PeftModel, peft.get_peft_model(model, config, adapter_name=name))
    except (ValueError, TypeError, KeyError) as problem:
        raise InputError(f"PEFT refuses this adapter: {problem}") from None


def _saved(config: PeftConfig) -> list[str] | None:
    return getattr(config, "modules_to_save", None)


def _check_targets(config: PeftConfig, base: nn.Module) -> None:
    """Check that every target is found: PEFT is content if one of them is."""
    targets: Any = getattr(config, "target_modules", None)
    if not targets or isinstance(targets, str):
        return
    names = [path.replace(".base_layer", "") for path, _ in base.named_modules()]
    linear = {path.rpartition(".")[2] for path, module in base.named_modules() if is_linear(module)}
    for target in sorted(targets):
        if not any(path == target or path.endswith(f".{target}") for path in names):
            raise InputError(
                f"target module '{target}' is not in the model; "
                f"{nearest(target, linear - {'base_layer'})}"
            )
