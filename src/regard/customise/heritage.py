"""Heritage: a child goes on from the weights of its parent, at the same step of the schedule.

Weights are taken where name and shape agree, learned parameters of programs too, and with them
what the optimiser knows of each; the rest is as in a new model. They are written as a checkpoint
of the child's own run, which then goes on as any other run does. So the steps of parent and child
together are as many as anyone's. Leaves to others: who inherits (`offspring`), the run (`trial`).
"""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from transformers import PreTrainedModel, Trainer

from regard.hf.quiet import quiet
from regard.learners import Learner
from regard.modes import Mode
from regard.train import build_model
from regard.train.folder import WHOLE, RunFolder, begin_run

_WEIGHTS, _OPTIMISER = "model.safetensors", "optimizer.pt"
_SHARED = ("scheduler.pt", "rng_state.pth", "trainer_state.json")


@dataclass(frozen=True)
class Heritage:
    """What a child took over.

    Attributes:
        taken: Numbers that its parent had.
        new: Numbers that it begins with itself.
    """

    taken: int
    new: int


def kept_at(folder: RunFolder) -> Path:
    """Return where a run's checkpoint of the first rung is kept for others to go on from."""
    return folder.path / "heritage"


def keep(folder: RunFolder, step: int) -> None:
    """Keep a checkpoint for others, beyond the time that the run itself keeps it.

    Args:
        folder: The run, which just wrote it.
        step: Its step.
    """
    checkpoint, place = folder.checkpoints / f"checkpoint-{step}", kept_at(folder)
    if (checkpoint / _WEIGHTS).is_file() and not place.exists():
        part = place.with_name("heritage.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(checkpoint, part, copy_function=_link)
        part.rename(place)


def _link(source: str, target: str) -> None:
    """Name a file a second time, which costs no room; a checkpoint's files never change."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def sow(
    learner: Learner, root: RunFolder, parent: Mode | None, folder: RunFolder, mode: Mode, step: int
) -> Heritage:
    """Begin the run of a child with a checkpoint that is made of its parent's.

    Args:
        learner: Builds models.
        root: The run of whom it goes on from, which kept its checkpoint.
        parent: The mode of that run; None: the model's own attention.
        folder: Where the child's run begins; there must be nothing yet.
        mode: The child's.
        step: Of the checkpoint.

    Returns:
        What was taken over.
    """
    heritage = kept_at(root)
    model = build_model(learner, mode)
    own = model.state_dict()
    weights = {
        name: weight
        for name, weight in load_file(heritage / _WEIGHTS).items()
        if name in own and own[name].shape == weight.shape
    }
    model.load_state_dict(weights, strict=False)
    # Under another name until it is whole, so that a kill leaves nothing half made.
    made = RunFolder(folder.path.with_name(f"{folder.path.name}.part"))
    shutil.rmtree(made.path, ignore_errors=True)
    begin_run(made.path, root.read_task(), mode)
    checkpoint = made.checkpoints / f"checkpoint-{step}"
    with quiet():
        model.save_pretrained(checkpoint)
    optimiser = torch.load(heritage / _OPTIMISER, weights_only=True)
    torch.save(
        _optimiser_of(optimiser, build_model(learner, parent), model), checkpoint / _OPTIMISER
    )
    for name in _SHARED:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(heritage / name, checkpoint / name)
    (checkpoint / WHOLE).touch()
    made.path.rename(folder.path)
    # Weights that are tied have several names, of which a file has one.
    places = {own[name].data_ptr() for name in weights}
    learned = [one for one in model.parameters() if one.requires_grad]
    taken = sum(one.numel() for one in learned if one.data_ptr() in places)
    return Heritage(taken, sum(one.numel() for one in learned) - taken)


def _optimiser_of(
    state: dict[str, Any], parent: PreTrainedModel, child: PreTrainedModel
) -> dict[str, Any]:
    """Return the state of an optimiser for a child: its parent's, under the child's numbers.

    Of what it lacks an optimiser begins anew.
    """
    shapes = {name: one.shape for name, one in parent.named_parameters()}
    numbers = {name: k for k, name in enumerate(n for group in _groups(parent) for n in group)}
    kept, groups, count = {}, [], 0
    for names, settings in zip(_groups(child), state["param_groups"], strict=True):
        own = list(range(count, count + len(names)))
        count += len(names)
        groups.append({**settings, "params": own})
        for number, name in zip(own, names, strict=True):
            same = name in shapes and shapes[name] == child.get_parameter(name).shape
            if same and numbers[name] in state["state"]:
                kept[number] = state["state"][numbers[name]]
    return {"state": kept, "param_groups": groups}


def _groups(model: nn.Module) -> list[list[str]]:
    """Return the names of weights as transformers' trainer groups them: decayed, and not."""
    decayed = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]
    names = [name for name, one in model.named_parameters() if one.requires_grad]
    return [[n for n in names if n in decayed], [n for n in names if n not in decayed]]
