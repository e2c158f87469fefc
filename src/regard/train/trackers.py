"""Who is told of a run beside its log: TensorBoard, Weights & Biases.

A run that is continued repeats its steps bit by bit, so that what came after its checkpoint is
either forgotten (TensorBoard) or not told again (Weights & Biases).
Leaves to others: the log itself (`record`), statistics of heads (`heads`).
"""

import abc
import importlib.util
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regard.errors import TaskError
from regard.tasks.kinds import Task
from regard.tasks.tracking_settings import TrackingSettings
from regard.train.record import numbers_of


class Tracker(abc.ABC):
    """Someone who is told of a run.

    Attributes:
        told: The last step that is not told again.
    """

    told: int = 0

    @abc.abstractmethod
    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Tell numbers of a step.

        Args:
            step: The step.
            values: By name, as the log has them.
        """

    @abc.abstractmethod
    def heads(self, step: int, heads: Sequence[Any], pictures: Mapping[str, Any]) -> None:
        """Tell of every head.

        Args:
            step: The step.
            heads: Statistics, as `heads.Head`.
            pictures: By role, uint8 (height, width, 3).
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Tell no more until the run is continued."""


class TensorBoard(Tracker):
    """Writes the files that TensorBoard reads."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        """Open the files of a run.

        Args:
            folder: Where they are.
            step: The step the run continues from; what was told of later ones is forgotten.
        """
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder), purge_step=step + 1)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Write curves, those of one kind in one group."""
        for name, value in values.items():
            self.writer.add_scalar(_grouped(name), value, step)

    def heads(self, step: int, heads: Sequence[Any], pictures: Mapping[str, Any]) -> None:
        """Write a histogram of the heads' statistics and a picture, for each role."""
        for role, found in _by_role(heads).items():
            for name, values in found.items():
                self.writer.add_histogram(f"{name}/{role}", np.array(values), step)
                self.writer.add_scalar(f"{name}_mean/{role}", float(np.mean(values)), step)
        for role, picture in pictures.items():
            self.writer.add_image(f"attention/{role}", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


class WeightsAndBiases(Tracker):
    """Tells Weights & Biases, at once or into a folder."""

    def __init__(self, folder: Path, task: Task, told: int = 0) -> None:
        """Open a run there.

        Args:
            folder: The folder `wandb` of the run folder, which says what the run is called.
            task: The task, which says how.
            told: The last step that is not told again.

        Raises:
            TaskError: If it cannot be reached.
        """
        wandb: Any = importlib.import_module("wandb")
        self.wandb, self.told = wandb, told
        settings = task.tracking
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "id"
        if not kept.is_file():
            kept.write_text(secrets.token_hex(8), encoding="utf-8")
        try:
            self.run = wandb.init(
                project=settings.project, name=folder.parent.name, id=kept.read_text().strip(),
                dir=str(folder.parent), mode=settings.wandb, resume="allow",
                config=task.model_dump(mode="json"),
                settings=wandb.Settings(silent=True, console="off"),
            )  # fmt: skip
        except (wandb.Error, OSError) as problem:
            raise TaskError(
                f"tracking.wandb: Weights & Biases cannot be told ({problem}); run `wandb login`, "
                "or set tracking.wandb to offline"
            ) from None

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Tell numbers, those of one kind in one group."""
        self.run.log({_grouped(name): value for name, value in values.items()}, step=step)

    def heads(self, step: int, heads: Sequence[Any], pictures: Mapping[str, Any]) -> None:
        """Tell a histogram of the heads' statistics and a picture, for each role."""
        found: dict[str, Any] = {}
        for role, of in _by_role(heads).items():
            for name, values in of.items():
                found[f"{name}/{role}"] = self.wandb.Histogram(values)
                found[f"{name}_mean/{role}"] = float(np.mean(values))
        found |= {
            f"attention/{role}": self.wandb.Image(picture) for role, picture in pictures.items()
        }
        self.run.log(found, step=step)

    def close(self) -> None:
        """End this sitting."""
        self.run.finish()


class Tracking(TrainerCallback):
    """Tells trackers what is logged."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        """Remember them.

        Args:
            trackers: Any number.
        """
        self.trackers = trackers

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Tell numbers.

        Args:
            args: Unused.
            state: Knows the step.
            control: Unused.
            logs: What the trainer measured.
        """
        found = numbers_of(logs)
        for tracker in self.trackers:
            if found and state.global_step > tracker.told:
                tracker.numbers(state.global_step, found)


def check_trackers(settings: TrackingSettings) -> None:
    """Refuse trackers whose package is missing.

    Args:
        settings: Of the task.

    Raises:
        TaskError: If one is missing; the message says how to install it.
    """
    if settings.tensorboard and not _installed("tensorboard"):
        raise TaskError(
            "tracking.tensorboard: the package tensorboard is not installed; install it with: "
            "pip install 'regard[tasks]', or set tracking.tensorboard to false"
        )
    if settings.wandb and not _installed("wandb"):
        raise TaskError(
            "tracking.wandb: the package wandb is not installed; install it with: "
            "pip install 'regard[wandb]', or set tracking.wandb to null"
        )


def open_trackers(task: Task, folder: Path, step: int = 0, told: int = 0) -> list[Tracker]:
    """Open the trackers of a run.

    Args:
        task: The task, which says which.
        folder: The run folder.
        step: The step the run continues from.
        told: The last step that was logged before.

    Returns:
        Trackers, to be closed.

    Raises:
        TaskError: If one cannot be told.
    """
    settings, found = task.tracking, []
    check_trackers(settings)
    wanted = settings.tensorboard
    if _installed("tensorboard") if wanted is None else wanted:
        found.append(TensorBoard(folder / "tensorboard", step))
    if settings.wandb:
        found.append(WeightsAndBiases(folder / "wandb", task, told))
    return found


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _grouped(name: str) -> str:
    """Return the name of a curve; trackers show those with one beginning together."""
    group, split, rest = name.partition("_")
    return f"{group}/{rest}" if split and group in ("valid", "attention") else f"train/{name}"


def _by_role(heads: Sequence[Any]) -> dict[str, dict[str, list[float]]]:
    found: dict[str, dict[str, list[float]]] = {}
    for head in heads:
        for name in ("entropy", "distance", "sink"):
            value = getattr(head, name)
            if value is not None:
                found.setdefault(head.role, {}).setdefault(name, []).append(value)
    return found
