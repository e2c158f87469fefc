"""The parts of a task file that tasks of all kinds share: subwords and training.

Leaves to others: the data (`data_settings`), the model (`model_settings`), the kinds (`kinds`).
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

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


class TrainingSettings(Settings):
    """How the model is trained.

    Attributes:
        steps: How many updates; None: `epochs` says how long.
        epochs: How often the training rows are gone through, in place of `steps`.
        batch_tokens: The most tokens of a batch, padding included, on either side.
        accumulate: Batches of an update; the loss is averaged over all their tokens at once.
        optimiser: Adam with decoupled weight decay (Loshchilov & Hutter 2019), Adafactor with a
            given learning rate (Shazeer & Stern 2018), or gradient descent with momentum.
        betas: AdamW's, of the mean of gradients and of their squares.
        momentum: Of sgd.
        weight_decay: Of weights; biases and the weights of norms have none.
        max_grad_norm: Longer gradients are cut to this length; 0: never.
        schedule: What the learning rate does after the warm-up: falls to 0 in a line or along half
            a cosine, stays, or falls as 1 / √step.
        lr: The highest learning rate.
        warmup: Steps in which the learning rate rises from 0.
        label_smoothing: Probability given to all wrong tokens together.
        class_weights: What errors in each label count; "balanced": rows / (labels · rows of the
            label); a label that is not listed counts 1.
        r_drop: α of R-Drop (Liang et al. 2021); 0: none.
        head_dropout: Probability of dropping a whole head (DropHead, Zhou et al. 2020).
        attention_dropout: Probability of dropping an attention weight; None: as the model has it.
        bfloat16: Compute in bfloat16 where torch's autocast deems it safe; weights stay in float32.
        seed: Of the weights, the order of batches and dropout.
        order_seed: Of the order of batches alone; None: `seed`.
        save_every: Steps from one checkpoint to the next.
        eval_every: Steps from one score on the validation rows to the next; 0: never.
        watch: What `keep` and `patience` go by: "loss", or the name of a metric.
        keep: Which weights the run ends with: the last, or those best on the validation rows.
        patience: Evaluations without a better one after which training ends; None: it goes on.
        threads: Of torch; None leaves them as they are.
    """

    steps: Count | None = 900
    epochs: Annotated[float, Field(gt=0)] | None = None
    batch_tokens: Count = 1500
    accumulate: Count = 1
    optimiser: Literal["adamw", "adafactor", "sgd"] = "adamw"
    betas: tuple[Fraction, Fraction] = (0.9, 0.98)
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    schedule: Literal["linear", "cosine", "constant", "inverse_sqrt"] = "linear"
    lr: Annotated[float, Field(gt=0)] = 2e-3
    warmup: CountOrNone = 150
    label_smoothing: Fraction = 0.1
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(ge=0)]] | None = None
    r_drop: Annotated[float, Field(ge=0)] = 0.0
    head_dropout: Fraction = 0.0
    attention_dropout: Fraction | None = None
    bfloat16: Annotated[bool, Field(strict=True)] = False
    seed: CountOrNone = 0
    order_seed: CountOrNone | None = None
    save_every: Count = 300
    eval_every: CountOrNone = 300
    watch: str = "loss"
    keep: Literal["last", "best"] = "last"
    patience: Count | None = None
    threads: Count | None = None

    @property
    def selects(self) -> bool:
        """Whether scores of the validation rows decide what the run ends with, or when."""
        return self.keep == "best" or self.patience is not None

    @model_validator(mode="before")
    @classmethod
    def _epochs_stand_in_for_steps(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("epochs") is not None:
            return {"steps": None, **values}
        return values

    @model_validator(mode="after")
    def _something_says_how_long(self) -> "TrainingSettings":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                "steps and epochs both say how long; give one, and null takes the other back"
                if self.epochs
                else "neither steps nor epochs says how long; give one"
            )
        return self

    @model_validator(mode="after")
    def _options_belong_to_the_optimiser(self) -> "TrainingSettings":
        for name, owner in (("betas", "adamw"), ("momentum", "sgd")):
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and self.optimiser != owner:
                raise ValueError(
                    f"{name} is an option of {owner}, but optimiser is {self.optimiser}; delete it"
                )
        return self

    @model_validator(mode="after")
    def _scores_are_there_to_select_by(self) -> "TrainingSettings":
        if self.selects and not self.eval_every:
            asks = "keep: best" if self.keep == "best" else "patience"
            raise ValueError(f"{asks} goes by validation scores, but eval_every is 0; raise it")
        if self.watch != "loss" and not self.selects:
            raise ValueError(
                f"watch is '{self.watch}', but nothing goes by it; set keep: best or patience"
            )
        return self
