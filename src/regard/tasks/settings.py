"""The parts of a task file that tasks of all kinds share: subwords, the model, its training.

Leaves to others: the data (`data_settings`), the kinds (`kinds`).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from regard.catalogue.find_program import names_variant

# Strict, so that neither `true` nor "12" is taken for a count.
Count = Annotated[int, Field(strict=True, ge=1)]
CountOrNone = Annotated[int, Field(strict=True, ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def absolute(path: str, folder: Path) -> str:
    """Return a path that a file names, from the file's folder on.

    Args:
        path: As it is written.
        folder: Where the file is.

    Returns:
        An absolute path.
    """
    return os.path.normpath(folder / Path(path).expanduser())


def absolute_all(value: Any, folder: Path) -> Any:
    """Return the paths of a value, from a folder on.

    Args:
        value: A path, a list of them, or something that is neither.
        folder: Where the file that names them is.

    Returns:
        Absolute paths; what is no path stays as it is.
    """
    if isinstance(value, list):
        return [absolute_all(one, folder) for one in value]
    return absolute(value, folder) if isinstance(value, str) else value


def absolute_mode(mode: Any, folder: Path) -> Any:
    """Return a mode whose paths are absolute.

    Args:
        mode: A mode's file, or programs by role: files, or names of the catalogue.
        folder: Where the file that names them is.

    Returns:
        The same, from the folder on.
    """
    if isinstance(mode, str):
        return absolute(mode, folder)
    if not isinstance(mode, dict):
        return mode
    return {
        role: absolute(program, folder)
        if isinstance(program, str) and not names_variant(program)
        else program
        for role, program in mode.items()
    }


@dataclass(frozen=True)
class Paths:
    """Marks a setting that names files; they are relative to the file that says so.

    Attributes:
        resolve: Makes the paths of a value absolute, given the folder.
    """

    resolve: Callable[[Any, Path], Any] = absolute_all


class Settings(BaseModel):
    """A part of a task file; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenizerSettings(Settings):
    """Subwords.

    Attributes:
        size: How many at most.
    """

    size: Count = 2000


class ModelSettings(Settings):
    """The model that is trained: a new one of some shape, or one of a folder.

    Attributes:
        pretrained: A folder that holds a model and its tokenizer; None: a new model.
        width: Channels of a token.
        layers: Of the encoder, and as many of the decoder.
        heads: Of each attention; they share the width.
        ffn: Channels between the two layers of a feed-forward network.
        dropout: Probability of dropping a channel.
        positions: The most tokens of a text.
    """

    pretrained: Annotated[str | None, Paths()] = None
    width: Count = 128
    layers: Count = 2
    heads: Count = 4
    ffn: Count = 512
    dropout: Fraction = 0.1
    positions: Count = 256

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "ModelSettings":
        if self.width % self.heads:
            raise ValueError(
                f"width {self.width} cannot be shared by {self.heads} heads; try a multiple"
            )
        return self

    @model_validator(mode="after")
    def _a_pretrained_model_has_its_shape(self) -> "ModelSettings":
        own = [
            name
            for name in ("width", "layers", "heads", "ffn")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.pretrained is not None and own:
            raise ValueError(
                f"a pretrained model has its own shape; delete {' and '.join(own)}, or pretrained"
            )
        return self


class TrainingSettings(Settings):
    """How the model is trained.

    Attributes:
        steps: How many updates.
        batch_tokens: The most tokens of a batch, padding included, on either side.
        lr: The highest learning rate; it falls in a line to 0 after the warm-up.
        warmup: Steps in which the learning rate rises from 0.
        label_smoothing: Probability given to all wrong tokens together.
        seed: Of the weights, the order of batches and dropout.
        save_every: Steps from one checkpoint to the next.
        eval_every: Steps from one score on the validation pairs to the next; 0: never.
        threads: Of torch; None leaves them as they are.
    """

    steps: Count = 900
    batch_tokens: Count = 1500
    lr: Annotated[float, Field(gt=0)] = 2e-3
    warmup: CountOrNone = 150
    label_smoothing: Fraction = 0.1
    seed: CountOrNone = 0
    save_every: Count = 300
    eval_every: CountOrNone = 300
    threads: Count | None = None
