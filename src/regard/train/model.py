"""The model of a run: built from a task, saved, loaded. All that knows how modes meet models.

Leaves to others: what re-programming does (`hf`).
"""

import os
from pathlib import Path

import torch
from transformers import (
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from regard import hf
from regard.errors import FileError
from regard.hf.quiet import quiet
from regard.modes import Mode
from regard.tasks.kinds import Task
from regard.tasks.tokenizer import END, PAD


def build_model(
    task: Task, tokenizer: PreTrainedTokenizerBase, mode: Mode | None = None
) -> PreTrainedModel:
    """Build the untrained model of a task.

    Args:
        task: Its shape and its seed.
        tokenizer: Gives the size of the vocabulary.
        mode: What its attention runs; None leaves it as it is.

    Returns:
        A Marian model; the same seed gives the same weights.
    """
    torch.manual_seed(task.training.seed)
    model = MarianMTModel(_config(task, tokenizer))
    return model if mode is None else hf.apply(model, mode)


def _config(task: Task, tokenizer: PreTrainedTokenizerBase) -> MarianConfig:
    shape, known = task.model, tokenizer.get_vocab()
    return MarianConfig(
        vocab_size=len(tokenizer),
        d_model=shape.width,
        encoder_layers=shape.layers,
        decoder_layers=shape.layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.ffn,
        decoder_ffn_dim=shape.ffn,
        dropout=shape.dropout,
        attention_dropout=0.0,
        activation_function="relu",
        max_position_embeddings=shape.positions,
        # Marian's small weights times √width: with larger ones a small model learns no alignment.
        scale_embedding=True,
        pad_token_id=known[PAD],
        eos_token_id=known[END],
        bos_token_id=None,
        decoder_start_token_id=known[PAD],
        forced_eos_token_id=None,
    )


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


def load_model(folder: str | os.PathLike) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Read what `save_model` wrote; runs no code from the folder.

    Args:
        folder: The folder.

    Returns:
        The model, in evaluation mode, and its tokenizer.

    Raises:
        FileError: If something is missing.
    """
    with quiet():
        model = hf.from_pretrained(folder)
    return model, load_tokenizer(folder)


def load_tokenizer(folder: str | os.PathLike) -> PreTrainedTokenizerBase:
    """Read a tokenizer.

    Args:
        folder: A folder that holds tokenizer.json.

    Returns:
        The tokenizer.

    Raises:
        FileError: If there is none.
    """
    if not (Path(folder) / "tokenizer.json").is_file():
        raise FileError(f"{folder}: no tokenizer.json; is this the model of a run?")
    return PreTrainedTokenizerFast.from_pretrained(folder)
