"""A whole pretrained model of a folder, head and all, for tasks it was made for.

Leaves to others: encoders that get a new head (`encoders`), reading the folder (`hf`).
"""

from typing import Any

from transformers import PreTrainedModel

from regard import hf
from regard.errors import TaskError
from regard.hf.quiet import quiet
from regard.tasks.model_settings import ModelSettings


def load_whole(shape: ModelSettings, kind: type) -> PreTrainedModel:
    """Read the pretrained model of a task.

    Args:
        shape: Names its folder, and says how many tokens it shall read.
        kind: One of transformers' Auto classes.

    Returns:
        The model, with its mode if it has one.

    Raises:
        FileError: If the folder holds no such model.
        TaskError: If the model reads fewer tokens.
    """
    assert shape.pretrained is not None
    with quiet():
        model: Any = hf.from_pretrained(shape.pretrained, kind)
    most = getattr(model.config, "max_position_embeddings", None)
    if most is not None and most < shape.positions:
        raise TaskError(
            f"model.positions is {shape.positions}, but the model of {shape.pretrained} reads at "
            f"most {most} tokens; lower it"
        )
    return model
