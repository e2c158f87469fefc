"""The model of a run: built from a task, saved, loaded. All that knows how modes meet models.

Leaves to others: what re-programming does (`hf`).
"""

import os
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regard import hf
from regard.errors import FileError
from regard.hf.dropout import drop_heads, set_attention_dropout
from regard.hf.quiet import quiet
from regard.learners import Learner, learner_class
from regard.learners.tokenizer import read_tokenizer
from regard.modes import Mode
from regard.train.folder import RunFolder


def build_model(learner: Learner, mode: Mode | None = None) -> PreTrainedModel:
    """Build the model of a task as training finds it.

    Args:
        learner: Knows its shape and its seed.
        mode: What its attention runs; None leaves it as it is, which may be a mode of the
            pretrained model.

    Returns:
        The model; the same seed gives the same new weights.

    Raises:
        UnsupportedError: If the mode or dropout inside attention does not fit the model.
    """
    torch.manual_seed(learner.task.training.seed)
    model, settings = learner.build(), learner.task.training
    before: Mode | None = getattr(model, "regard_mode", None)
    # Of the mode it was trained with, a pretrained model has the parameters as well.
    if mode is not None and (before is None or before.hash != mode.hash):
        hf.apply(model, mode)
    if settings.attention_dropout is not None:
        set_attention_dropout(model, settings.attention_dropout)
    if settings.head_dropout:
        drop_heads(model, settings.head_dropout)
    return model


def save_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike
) -> None:
    """Write a model, its mode and its tokenizer.

    Args:
        model: With or without a mode.
        tokenizer: Its tokenizer.
        folder: Where; made if it is not there.
    """
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def load_learner(run_dir: str | os.PathLike) -> tuple[Learner, PreTrainedModel]:
    """Read the model of a finished run, and what its task does with it.

    Args:
        run_dir: The run folder.

    Returns:
        The learner, and the model in evaluation mode.

    Raises:
        TaskError: If there is no finished run.
        FileError: If something is missing in its model's folder.
    """
    folder = RunFolder(Path(run_dir))
    task = folder.read_task()
    kind = learner_class(task)
    model, tokenizer = load_model(folder.finished_model(), kind.model_class)
    names: Any = model.config.id2label
    labels = list(names.values())
    learner = kind(task, tokenizer, labels)
    outputs = getattr(model.config, "outputs", len(labels))
    if len(labels) != outputs and task.data.data_kind().labels is not None:
        raise FileError(
            f"{folder.model / 'config.json'}: id2label names {len(labels)} labels, and the model "
            f"has {outputs} outputs; put the run's own file back, or train anew"
        )
    return learner, model


def load_model(
    folder: str | os.PathLike, kind: type | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read what `save_model` wrote; runs no code from the folder.

    Args:
        folder: The folder.
        kind: The class of the model, if it is not one of transformers'.

    Returns:
        The model, in evaluation mode, and its tokenizer.

    Raises:
        FileError: If something is missing.
    """
    with quiet():
        return hf.from_pretrained(folder, kind), read_tokenizer(folder)
