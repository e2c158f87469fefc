"""Which weights of a run's model are trained, by the part `tuning` of its task.

Adapters stand in the model itself, so that the trainer, its checkpoints and the learner see one
model; at the end they are merged into it, or become a part of it, and are kept on their own too.
Leaves to others: adapters (`hf.tuning`), the loop (`trainer`).
"""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

from regard import hf
from regard.errors import InputError, RegardError, TaskError
from regard.hf import tuning
from regard.hf.quiet import quiet
from regard.learners.joint_model import UNCERTAINTIES, JointModel
from regard.learners.text_model import TextModel
from regard.tasks.kinds import Task
from regard.tasks.tuning_settings import TuningSettings

# What of a model belongs to its task, and is trained whatever else is.
HEAD = ("head", "head_layers")
# Where the heads of several tasks stand, and what else is theirs.
_HEADS = (*HEAD, "parts", "log_variances")
# AdaLoRA begins with half as much rank again as it ends with, as in its paper.
_BEGIN = 1.5
# What PEFT's allocator remembers of every weight.
_IMPORTANCE = ("ipt", "exp_avg_ipt", "exp_avg_unc")

Loss = Callable[..., Tensor]


class Tuning:
    """All weights are trained, or those of the head and of the programs alone.

    Attributes:
        model: What is trained, in place.
        count: How many numbers are trained.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        """Count.

        Args:
            model: The model, with what is trained marked by `requires_grad`.
        """
        self.model, self.count = model, hf.trainable(model)

    @property
    def watchers(self) -> list[TrainerCallback]:
        """Who of this is told of each step."""
        return []

    def loss(self, loss: Loss) -> Loss:
        """Return the loss with what the method adds to it.

        Args:
            loss: Takes outputs, labels and options.

        Returns:
            Likewise.
        """
        return loss

    def save_state(self, checkpoint: Path) -> None:
        """Write what a checkpoint does not hold of itself.

        Args:
            checkpoint: Its folder.
        """

    def load_state(self, checkpoint: Path) -> None:
        """Read what `save_state` wrote.

        Args:
            checkpoint: Its folder.
        """

    def finish(self, folder: Path) -> PreTrainedModel:
        """Return the model as it is kept.

        Args:
            folder: Where an adapter goes.

        Returns:
            A model that needs no adapter.
        """
        return self.model


class Adapter(Tuning):
    """Updates of projections, which are merged into them at the end."""

    def __init__(self, model: PreTrainedModel, config: Any) -> None:
        """Put the adapter in.

        Args:
            model: The model.
            config: A configuration of PEFT.
        """
        config.modules_to_save = [name for name in HEAD if _has_weights(model, name)] or None
        with quiet():
            self.adapted: Any = tuning.adapt(model, config)
        for name, weight in model.named_parameters():
            if name.startswith(UNCERTAINTIES):
                weight.requires_grad_(True)
        super().__init__(model)

    def finish(self, folder: Path) -> PreTrainedModel:
        """Keep the adapter, and return the model with the adapter merged into it."""
        with quiet():
            self.adapted.save_pretrained(str(folder))
            return self.adapted.merge_and_unload()


class Bottleneck(Adapter):
    """Bottlenecks, which are no linear maps and become a part of the model."""

    def __init__(self, model: TextModel | JointModel, config: Any) -> None:
        """Put the adapter in.

        Args:
            model: The model.
            config: A `BottleneckConfig`.
        """
        self.options = {
            name: getattr(config, name) for name in ("placement", "width", "activation")
        }
        super().__init__(model, config)

    def finish(self, folder: Path) -> PreTrainedModel:
        """Keep the adapter, and return a model that has it built in."""
        weights = tuning.own_names(self.model.state_dict())
        with quiet():
            self.adapted.save_pretrained(str(folder))
        mode = getattr(self.model, "regard_mode", None)
        shape: Any = type(self.model.config).from_dict(self.model.config.to_dict())
        shape.bottleneck = self.options
        made = type(self.model)(shape)
        if mode is not None:
            hf.apply(made, mode)
        made.load_state_dict(weights)
        return made.train(self.model.training)


class AdaLora(Adapter):
    """AdaLoRA, whose ranks are allocated while it is trained."""

    @property
    def watchers(self) -> list[TrainerCallback]:
        """The allocation of ranks."""
        return [_Ranks(self.adapted)]

    def loss(self, loss: Loss) -> Loss:
        """Add the regulariser that keeps the factors of updates orthogonal (equation 4)."""
        weight = self.adapted.peft_config["default"].orth_reg_weight

        def penalised(*given: Any, **options: Any) -> Tensor:
            found = loss(*given, **options)
            return found + weight * self._skew() if self.model.training else found

        return penalised

    def _skew(self) -> Tensor:
        """Return how far the factors are from orthogonal, in the mean over them."""
        found = []
        for name, factor in self.model.named_parameters():
            if ".lora_A." in name or ".lora_B." in name:
                square = factor @ factor.T if ".lora_A." in name else factor.T @ factor
                one = torch.eye(len(square), dtype=square.dtype, device=square.device)
                found.append(torch.linalg.matrix_norm(square - one))
        return torch.stack(found).mean()

    def save_state(self, checkpoint: Path) -> None:
        """Write the importance of ranks so far, and which are left."""
        ranks = self.adapted.base_model.rankallocator
        tensors = {
            f"{part}/{name}": tensor.contiguous()
            for part in _IMPORTANCE
            for name, tensor in getattr(ranks, part).items()
        }
        save_file(tensors, checkpoint / "ranks.safetensors")
        pattern = self.adapted.peft_config["default"].rank_pattern
        (checkpoint / "ranks.json").write_text(json.dumps(pattern), encoding="utf-8")

    def load_state(self, checkpoint: Path) -> None:
        """Read them."""
        ranks = self.adapted.base_model.rankallocator
        ranks.reset_ipt()
        for name, tensor in load_file(checkpoint / "ranks.safetensors").items():
            part, _, weight = name.partition("/")
            getattr(ranks, part)[weight] = tensor.to(self.model.device)
        pattern = json.loads((checkpoint / "ranks.json").read_text(encoding="utf-8"))
        self.adapted.peft_config["default"].rank_pattern = pattern


class _Ranks(TrainerCallback):
    """Allocates ranks of an adapter that stands in the trainer's model."""

    def __init__(self, adapted: Any) -> None:
        self.adapted, self.allocate = adapted, tuning.AllocateRanks()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Fit the schedule to the number of steps."""
        self.allocate.on_train_begin(args, state, control, model=self.adapted)

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Allocate."""
        self.allocate.on_optimizer_step(args, state, control, model=self.adapted)


def begin_tuning(model: PreTrainedModel, task: Task) -> Tuning:
    """Mark what of a model is trained, and put an adapter in if the task wants one.

    Args:
        model: The model, with its mode; it is changed in place.
        task: The task.

    Returns:
        What is trained.

    Raises:
        TaskError: If the task's choice does not fit the model.
    """
    try:
        return _METHODS[task.tuning.method](model, task)
    except RegardError as problem:
        raise TaskError(f"tuning: {problem}") from None


def _full(model: PreTrainedModel, task: Task) -> Tuning:
    return Tuning(model)


def _head_only(model: PreTrainedModel, task: Task) -> Tuning:
    for name, weight in model.named_parameters():
        parts = name.split(".")
        weight.requires_grad_(parts[0] in _HEADS or "regard" in parts)
    if not any(weight.requires_grad for weight in model.parameters()):
        raise InputError(f"a model for {task.task} has no head of its own; take another method")
    return Tuning(model)


def _lora(model: PreTrainedModel, task: Task) -> Tuning:
    chosen, options = _checked(model, task), _update(task.tuning)
    if chosen.heads is not None:
        options |= {"heads": chosen.heads, "projections": tuple(chosen.targets)}
        return Adapter(model, tuning.HeadLoraConfig(r=chosen.rank, **options))
    paths = tuning.choose_targets(model, chosen.targets, chosen.layers)
    from peft import LoraConfig

    return Adapter(model, LoraConfig(r=chosen.rank, target_modules=paths, **options))


def _adalora(model: PreTrainedModel, task: Task) -> Tuning:
    chosen, steps = _checked(model, task), task.training.steps
    if steps is None:
        raise InputError("adalora allocates ranks over a number of steps; set training.steps")
    config = tuning.adalora(
        steps,
        init_r=math.ceil(_BEGIN * chosen.rank),
        target_r=chosen.rank,
        target_modules=tuning.choose_targets(model, chosen.targets, chosen.layers),
        **_update(chosen),
    )
    return AdaLora(model, config)


def _bottleneck(model: PreTrainedModel, task: Task) -> Tuning:
    chosen = _checked(model, task)
    if not isinstance(model, TextModel | JointModel):
        raise InputError(f"bottlenecks are for models with a head; {task.task} has none")
    config = tuning.BottleneckConfig(placement=chosen.method, width=chosen.width)
    return Bottleneck(model, config)


def _update(chosen: TuningSettings) -> dict[str, Any]:
    alpha = 2 * chosen.rank if chosen.alpha is None else chosen.alpha
    return {"lora_alpha": alpha, "lora_dropout": chosen.dropout}


def _checked(model: PreTrainedModel, task: Task) -> TuningSettings:
    if getattr(model.config, "bottleneck", None) is not None:
        raise InputError(
            f"the pretrained model has bottlenecks built in, beside which {task.tuning.method} "
            "cannot stand; take method full or head_only"
        )
    return task.tuning


def _has_weights(model: PreTrainedModel, name: str) -> bool:
    """Return whether a part of the head, of some task's head if there are several, has weights."""
    owners = [model, *getattr(model, "parts", ())]
    parts = [getattr(one, name, None) for one in owners]
    return any(
        isinstance(part, nn.Module) and next(part.parameters(), None) is not None for part in parts
    )


_METHODS: dict[str, Callable[[PreTrainedModel, Task], Tuning]] = {
    "full": _full,
    "head_only": _head_only,
    "lora": _lora,
    "adalora": _adalora,
    "houlsby": _bottleneck,
    "pfeiffer": _bottleneck,
}
