"""A whole pretrained model of a folder, head and all, for tasks it was made for.

Leaves to others: encoders that get a new head (`encoders`), reading the folder (`hf`).
"""

from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from regard import hf
from regard.errors import TaskError
from regard.hf.folder import read_folder
from regard.hf.quiet import quiet
from regard.hf.weights import match_names
from regard.tasks.kinds import Task


def load_whole(task: Task, kind: type) -> PreTrainedModel:
    """Read the pretrained model of a task.

    Args:
        task: Names its folder, and says how many tokens it shall read and what is trained.
        kind: One of transformers' Auto classes. What the folder lacks of it, as the head that says
            words, is new.

    Returns:
        The model, with its mode if it has one.

    Raises:
        FileError: If the folder holds no such model.
        TaskError: If the model reads fewer tokens, or what is new in it would not be trained.
    """
    shape = task.model
    assert shape.pretrained is not None
    with quiet():
        model: Any = hf.from_pretrained(shape.pretrained, kind)
    most = getattr(model.config, "max_position_embeddings", None)
    if most is not None and most < shape.positions:
        raise TaskError(
            f"model.positions is {shape.positions}, but the model of {shape.pretrained} reads at "
            f"most {most} tokens; lower it"
        )
    new = [] if task.tuning.method == "full" else new_weights(model, Path(shape.pretrained))
    if new:
        raise TaskError(
            f"tuning.method: {task.tuning.method} keeps most weights as they are, and "
            f"{shape.pretrained} has no {new[0]}, which would stay random; train all weights once: "
            "delete tuning"
        )
    return model


def new_weights(model: PreTrainedModel, folder: Path) -> list[str]:
    """Return which weights of a model its folder does not hold.

    Args:
        model: The model.
        folder: Where it was read from.

    Returns:
        Their names.
    """
    held, _ = match_names(model, read_folder(folder))
    return [name for name, _ in model.named_parameters() if name not in held]
