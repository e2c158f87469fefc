"""The encoder of a pretrained model's folder: what it reads, its weights and its mode.

Leaves to others: reading the folder (`hf`), the model it becomes a part of (`text_model`).
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from regard import hf
from regard.errors import FileError, RegardError, UnsupportedError, located
from regard.hf.apply import part_of_mode
from regard.hf.folder import read_folder, reading
from regard.hf.places import find_places
from regard.hf.quiet import quiet
from regard.hf.saving import CONFIG_FILE
from regard.learners.text_model import OURS, encoder_in
from regard.tasks.kinds import Task

KEY = "model.pretrained"


@dataclass(frozen=True)
class Encoder:
    """An encoder that was trained.

    Attributes:
        config: Its configuration.
        weights: Its weights by name.
        mode: What its attention runs; None: its own.
        bottleneck: Adapters that are a part of it, as `TextConfig` has them.
        causal: Whether all of its tokens see none of the later ones.
    """

    config: PreTrainedConfig
    weights: dict[str, Tensor]
    mode: Any
    bottleneck: dict[str, Any] | None
    causal: bool

    def fill(self, model: Any) -> None:
        """Put the weights and the mode into a model of this configuration, in place.

        Args:
            model: The model, whose `encoder` has this configuration.
        """
        if self.mode is not None:
            hf.apply(model, self.mode)
        model.encoder.load_state_dict(self.weights)


def read_encoder(folder: str) -> Encoder:
    """Read the encoder of a model's folder; runs no code from it.

    Args:
        folder: A folder that `save_pretrained` wrote, also of a run of a text task.

    Returns:
        The encoder, in float32.

    Raises:
        FileError: If there is no such model, it cannot be read, or it reads no texts.
    """
    try:
        ours = _our_kind(_describe(folder))
        kind: type = ours or AutoModel
        with quiet():
            whole: Any = hf.from_pretrained(folder, kind, dtype=torch.float32)
    except RegardError as problem:
        raise located(problem, KEY) from None
    mode, config = getattr(whole, "regard_mode", None), whole.config
    encoder = whole.encoder if ours else encoder_in(whole)
    weights, roles = encoder.state_dict(), _roles(encoder)
    if mode is not None:
        mode = part_of_mode(mode, encoder)
        hf.restore(whole)
    return Encoder(
        copy.deepcopy(config.encoder if ours else config),
        weights,
        mode,
        bottleneck=config.bottleneck if ours else None,
        causal=roles == {"decoder"},
    )


def fit(task: Task) -> Task:
    """Return a task whose texts are no longer than its pretrained model can read.

    Args:
        task: The task.

    Returns:
        The same task, or one with fewer positions.

    Raises:
        FileError: If there is no such model, or it reads no texts.
    """
    folder, shape = task.model.pretrained, task.model
    if folder is None:
        return task
    try:
        most = _most_tokens(_model_of(folder))
    except RegardError as problem:
        raise located(problem, KEY) from None
    if most is None or most >= shape.positions:
        return task
    return task.model_copy(update={"model": shape.model_copy(update={"positions": most})})


def check_words(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, folder: str) -> None:
    """Check that a model has a vector for every token.

    Args:
        tokenizer: The tokenizer of its folder.
        model: The model.
        folder: For messages.

    Raises:
        FileError: If the tokenizer knows more tokens.
    """
    most = max(tokenizer.get_vocab().values()) + 1
    words: Any = model.get_input_embeddings()
    rows = words.weight.shape[0]
    if most > rows:
        raise FileError(
            f"{KEY}: {folder}: the tokenizer has {most} tokens and the model vectors for {rows}; "
            "they do not belong together"
        )


def _describe(folder: str) -> dict[str, Any]:
    """Return what the folder's config.json says, once all of its files have been looked at."""
    inner = Path(folder) / "model"
    if not (Path(folder) / CONFIG_FILE).is_file() and (inner / CONFIG_FILE).is_file():
        raise FileError(f"{folder}: this is the folder of a run; its model is {inner}")
    return read_folder(Path(folder)).config


def _our_kind(described: dict[str, Any]) -> Any:
    """Return the class of the model if it is one of our own, or else None."""
    return OURS.get(str(described.get("model_type")))


def _model_of(folder: str) -> nn.Module:
    """Return the folder's encoder without its weights."""
    ours = _our_kind(_describe(folder))
    kind: Any = ours.config_class if ours else AutoConfig
    options = {} if ours else {"trust_remote_code": False}
    with quiet(), reading(Path(folder) / CONFIG_FILE), torch.device("meta"):
        # What it runs is of no matter here; a folder with a mode names what only `hf` knows.
        config = kind.from_pretrained(
            folder, local_files_only=True, attn_implementation="eager", **options
        )
        if ours:
            return ours(config).encoder
        model = AutoModel.from_config(config)
    if model.main_input_name != "input_ids":
        raise FileError(f"{folder}: this model reads {model.main_input_name}, and texts are needed")
    return encoder_in(model)


def _most_tokens(encoder: Any) -> int | None:
    """Return how many tokens an encoder reads; None: any number."""
    most = getattr(encoder.config, "max_position_embeddings", None)
    for path, table in encoder.named_modules():
        # RoBERTa and its family number positions from behind that of padding.
        before = getattr(table, "padding_idx", None)
        if path.endswith("position_embeddings") and before is not None:
            most = table.num_embeddings - before - 1
    return most


def _roles(encoder: nn.Module) -> set[str]:
    try:
        return {place.role for _, place in find_places(encoder).values()}
    except UnsupportedError:
        return set()
