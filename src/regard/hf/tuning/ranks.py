"""AdaLoRA's schedule from the number of steps, and its rank allocation at each of them.

Leaves to others: the adapter and the allocation itself (PEFT), the training loop.
"""

from typing import Any

from peft import AdaLoraConfig, PeftModel
from transformers import TrainerCallback

from regard.errors import InputError

# The paper's runs start to prune after about a tenth of their steps and keep about the last half
# for training with the final ranks (arXiv 2303.10512, appendix).
_WARM_UP, _LAST, _ALLOCATIONS = 10, 2, 1000


def schedule(steps: int) -> dict[str, int]:
    """Return AdaLoRA's schedule for a number of optimiser steps.

    Args:
        steps: How many there are.

    Returns:
        Fields of peft.AdaLoraConfig: total_step, tinit, tfinal, deltaT.

    Raises:
        InputError: If there are too few to allocate ranks in.
    """
    if type(steps) is not int or steps < 4:
        raise InputError(f"AdaLoRA needs at least 4 steps to allocate ranks in, not {steps!r}")
    return {
        "total_step": steps,
        "tinit": steps // _WARM_UP,
        "tfinal": steps // _LAST,
        "deltaT": max(1, steps // _ALLOCATIONS),
    }


def adalora(steps: int, **options: Any) -> AdaLoraConfig:
    """Return a configuration of AdaLoRA with a schedule for a number of optimiser steps.

    Args:
        steps: How many there are.
        **options: Other fields of peft.AdaLoraConfig, e.g. init_r, target_r, target_modules.

    Returns:
        The configuration, for `adapt`; train with `AllocateRanks()` among the callbacks.
    """
    return AdaLoraConfig(**{**schedule(steps), **options})


class AllocateRanks(TrainerCallback):
    """Allocates AdaLoRA's ranks after each optimiser step of transformers' Trainer.

    A configuration made for another number of steps than the training has gets the schedule of
    `schedule` for those it has: with the wrong one, ranks would never be allocated, or too early.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Fit the schedule to the number of steps.

        Args:
            args: The training arguments.
            state: Tells the number of steps.
            control: Not used.
            **given: Holds the model.

        Raises:
            InputError: If the model has no AdaLoRA adapter that is trained.
        """
        config = _config(given.get("model"))
        if config.total_step != state.max_steps:
            for name, value in schedule(state.max_steps).items():
                setattr(config, name, value)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Allocate ranks, while gradients are still there.

        Args:
            args: The training arguments.
            state: Tells the steps done before this one.
            control: Not used.
            **given: Holds the model.
        """
        model: Any = given["model"]
        model.base_model.update_and_allocate(state.global_step + 1)


def _config(model: Any) -> Any:
    tuner = getattr(model, "base_model", None)
    name = getattr(tuner, "trainable_adapter_name", None)
    if not isinstance(model, PeftModel) or name is None:
        raise InputError(
            "AllocateRanks is for a model with an AdaLoRA adapter that is trained; make one with "
            "rg.hf.tuning.adapt(model, rg.hf.tuning.adalora(steps, target_modules=…))"
        )
    return model.peft_config[name]
