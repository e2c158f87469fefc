"""The task file: what to learn from what, in YAML, checked before anything runs.

Leaves to others: the data (`data`), the programs a mode names (`programs`).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from regard.catalogue.find_program import names_variant
from regard.errors import TaskError, nearest
from regard.modes import ROLES

# Strict, so that neither `true` nor "12" is taken for a count.
Count = Annotated[int, Field(strict=True, ge=1)]
CountOrNone = Annotated[int, Field(strict=True, ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """A part of a task file; a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(Settings):
    """Where the pairs are and which of them are used.

    Attributes:
        path: A .tsv or .jsonl file, plain or .gz; relative to the task file.
        source: Column from 1 of a .tsv, or key of a .jsonl, that holds the text.
        target: Likewise for its translation.
        max_words: The most words of a source; longer pairs are left out.
        duplicates: What to do with a source that comes again: "refuse" it or keep the "first".
        test_pairs: How many pairs are held out for the result.
        valid_pairs: How many are held out for watching the training.
        seed: Chooses the held-out pairs.
        sha256: If given, the file must have this fingerprint.
    """

    path: str
    source: int | str | None = None
    target: int | str | None = None
    max_words: Count | None = None
    duplicates: Literal["refuse", "first"] = "refuse"
    test_pairs: Count = 400
    valid_pairs: CountOrNone = 200
    seed: int = 0
    sha256: str | None = None


class TokenizerSettings(Settings):
    """Subwords.

    Attributes:
        size: How many at most.
    """

    size: Count = 2000


class ModelSettings(Settings):
    """The shape of the Marian model that is trained.

    Attributes:
        width: Channels of a token.
        layers: Of the encoder, and as many of the decoder.
        heads: Of each attention; they share the width.
        ffn: Channels between the two layers of a feed-forward network.
        dropout: Probability of dropping a channel.
        positions: The most tokens of a text.
    """

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


class Task(Settings):
    """A whole task.

    Attributes:
        task: Its kind.
        data: Where the pairs are.
        tokenizer: Subwords.
        model: The shape of the model.
        mode: None for plain attention; a mode's .json file; or a program for each role: a name of
            the catalogue, `file.py:name` or a program's .json file.
        training: How it is trained.
    """

    task: Literal["translation"]
    data: DataSettings
    tokenizer: TokenizerSettings = TokenizerSettings()
    model: ModelSettings = ModelSettings()
    mode: str | dict[str, str] | None = None
    training: TrainingSettings = TrainingSettings()

    @field_validator("mode", mode="before")
    @classmethod
    def _is_a_mode(cls, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        if not isinstance(value, dict) or not value:
            raise ValueError("should be a mode's .json file, or a program for each role")
        for role, program in value.items():
            if role not in ROLES:
                raise ValueError(f"'{role}' is no role of attention; {nearest(str(role), ROLES)}")
            if not isinstance(program, str):
                raise ValueError(
                    f"the program of role '{role}' should be a name of the catalogue, "
                    "file.py:name or a .json file"
                )
        return value


def load_task(path: str | os.PathLike) -> Task:
    """Read a task file.

    Args:
        path: A YAML file; the paths in it are relative to its folder.

    Returns:
        The task, with absolute paths.

    Raises:
        TaskError: If the file cannot be read or says something that has no meaning; the message
            names each place by its dotted path.
    """
    place = Path(path)
    value = _read_yaml(place)
    try:
        task = Task.model_validate(value)
    except ValidationError as problem:
        lines = [f"{place}: {line}" for line in _complaints(problem)]
        raise TaskError("\n".join(lines)) from None
    return _with_absolute_paths(task, place.absolute().parent)


def save_task(task: Task, path: str | os.PathLike) -> None:
    """Write a task file.

    Args:
        task: The task.
        path: Where; its folder must exist.
    """
    text = yaml.safe_dump(task.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")


def _read_yaml(place: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TaskError(f"{place}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise TaskError(f"{place}: cannot be read ({problem})") from None
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise TaskError(
            f"{place}{where}: this is not YAML ({getattr(problem, 'problem', problem)})"
        ) from None
    if not isinstance(value, dict):
        raise TaskError(f"{place}: a task file starts with `task: translation`")
    return value


def _with_absolute_paths(task: Task, folder: Path) -> Task:
    data = task.data.model_copy(update={"path": _absolute(task.data.path, folder)})
    mode = task.mode
    if isinstance(mode, str):
        mode = _absolute(mode, folder)
    elif mode is not None:
        mode = {
            role: program if names_variant(program) else _absolute(program, folder)
            for role, program in mode.items()
        }
    return task.model_copy(update={"data": data, "mode": mode})


def _absolute(path: str, folder: Path) -> str:
    return os.path.normpath(folder / Path(path).expanduser())


def _complaints(problem: ValidationError) -> Iterator[str]:
    """Say in our words what pydantic found, one line a problem."""
    for error in problem.errors():
        # A union adds the names of its members to the place.
        place = [part for part in error["loc"] if part not in ("str", "int", "float")]
        dotted = ".".join(map(str, place))
        if error["type"] == "extra_forbidden":
            known = _fields_at(place[:-1])
            yield f"{dotted} is not a setting; {nearest(str(place[-1]), known)}"
        elif error["type"] == "missing":
            yield f"{dotted} is missing"
        elif error["type"] == "value_error":
            yield f"{dotted}: {error['msg'].removeprefix('Value error, ')}"
        else:
            wanted = error["msg"].replace("Input should", "should").replace("valid ", "")
            yield f"{dotted}: {wanted}, found {error['input']!r}"


def _fields_at(place: list[int | str]) -> list[str]:
    """Return the settings that the part of a task file at this place has."""
    part: Any = Task
    for name in place:
        part = part.model_fields[str(name)].annotation
    return list(part.model_fields)
