"""The run folder: what lies where, who may begin one and who may continue it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.data import Report
from regard.errors import TaskError
from regard.modes import Mode, load_mode, save_mode
from regard.tasks.kinds import Task
from regard.tasks.task_file import load_task, save_task
from regard.train.checkpoint import check_checkpoint

# In a checkpoint that all processes have written to its end.
WHOLE = "whole"


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Have a file written whole or not at all, whenever the process may be killed.

    Args:
        path: The file.

    Yields:
        Where to write it.
    """
    part = path.with_name(f"{path.name}.part")
    yield part
    os.replace(part, path)


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @property
    def task(self) -> Path:
        """The resolved task file."""
        return self.path / "task.yaml"

    @property
    def model(self) -> Path:
        """The model, its tokenizer and its mode."""
        return self.path / "model"

    @property
    def mode(self) -> Path:
        """The mode; there is none for plain attention."""
        return self.model / "mode.json"

    @property
    def adapter(self) -> Path:
        """What tuning added, on its own; the model needs it no more."""
        return self.path / "adapter"

    @property
    def metrics(self) -> Path:
        """The scores; their being there means that the run is finished."""
        return self.path / "metrics.json"

    @property
    def data(self) -> Path:
        """What was found in the data, and how many rows were kept and left out."""
        return self.path / "data.json"

    @property
    def log(self) -> Path:
        """Losses and validation scores, a JSON object a line."""
        return self.path / "log.jsonl"

    @property
    def heads(self) -> Path:
        """Statistics of every head of attention at evaluations, if the task asks for them."""
        return self.path / "attention.csv"

    @property
    def records(self) -> Path:
        """What was asked and answered for each test example, a JSON object a line."""
        return self.path / "records.jsonl"

    @property
    def sittings(self) -> Path:
        """Versions and hashes under which the run began and was continued, an object a line."""
        return self.path / "sittings.jsonl"

    @property
    def checkpoints(self) -> Path:
        """What the run can be continued from."""
        return self.path / "checkpoints"

    def last_checkpoint(self) -> Path | None:
        """Return the latest complete checkpoint.

        Returns:
            Its folder, or None.
        """
        complete = [one for one in self._each_checkpoint() if (one / WHOLE).is_file()]
        return max(complete, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)

    def drop_cut_checkpoints(self) -> None:
        """Delete checkpoints that were cut short, which would count among those that are kept."""
        for folder in self._each_checkpoint():
            if not (folder / WHOLE).is_file():
                shutil.rmtree(folder)

    def _each_checkpoint(self) -> list[Path]:
        found = self.checkpoints.glob("checkpoint-*")
        return [one for one in found if one.name.rpartition("-")[2].isdecimal()]

    def read_task(self) -> Task:
        """Return the task of the run.

        Returns:
            The task.

        Raises:
            TaskError: If this is no run folder.
        """
        if not self.task.is_file():
            raise TaskError(f"{self.path}: there is no run here; it would hold a task.yaml")
        return load_task(self.task)

    def finished_model(self) -> Path:
        """Return the folder of the trained model.

        Returns:
            The folder.

        Raises:
            TaskError: If the run has not finished, or its model is gone.
        """
        self.check_finished()
        if not self.model.is_dir():
            raise TaskError(
                f"{self.path}: the folder {self.model.name} of its model is gone; put it back, or "
                "train anew"
            )
        return self.model

    def check_finished(self) -> None:
        """Refuse a run that has no scores yet.

        Raises:
            TaskError: If the run has not finished.
        """
        if not self.metrics.is_file():
            raise TaskError(f"{self.path}: this run is not finished; continue it with --resume")

    def write_data_report(self, report: Report) -> None:
        """Write what was found in the data.

        Args:
            report: Findings and counts.
        """
        text = json.dumps(report.as_dict(), indent=1, ensure_ascii=False)
        self.data.write_text(text + "\n", encoding="utf-8")

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write the scores.

        Args:
            metrics: Plain data.
        """
        text = json.dumps(metrics, indent=1, ensure_ascii=False)
        self.write(self.metrics, text + "\n")

    def write(self, path: Path, text: str) -> None:
        """Write a file whole or not at all.

        Args:
            path: The file.
            text: What it is to hold.
        """
        with written_whole(path) as part:
            part.write_text(text, encoding="utf-8")


def begin_run(path: str | os.PathLike, task: Task, mode: Mode | None) -> RunFolder:
    """Make the folder of a new run and write what it is about to do.

    Args:
        path: Where; there must be nothing yet.
        task: The task.
        mode: Its mode.

    Returns:
        The folder.

    Raises:
        TaskError: If there is something already.
    """
    check_free(path)
    folder = RunFolder(Path(path))
    folder.model.mkdir(parents=True)
    if mode is not None:
        save_mode(mode, folder.mode)
    with written_whole(folder.task) as part:
        save_task(_resolved(task, mode, folder), part)
    return folder


def check_free(path: str | os.PathLike) -> None:
    """Check that a run can begin in a folder.

    Args:
        path: Where; there must be nothing yet.

    Raises:
        TaskError: If there is something already.
    """
    if os.path.exists(path) and not os.path.isdir(path):
        raise TaskError(f"{path}: this is a file; a run needs a folder")
    if os.path.isdir(path) and (names := sorted(os.listdir(path))):
        raise TaskError(
            f"{path}: the folder is not empty, it holds {', '.join(names[:3])}"
            f"{', …' if len(names) > 3 else ''}; choose another with --run, or continue the run "
            "that is there with --resume"
        )


def _resolved(task: Task, mode: Mode | None, folder: RunFolder) -> Task:
    """Return the task as the run keeps it: its mode is the one in the folder."""
    own = None if mode is None else str(folder.mode.relative_to(folder.path))
    return task.model_copy(update={"mode": own})


def continue_run(path: str | os.PathLike, task: Task, mode: Mode | None) -> RunFolder:
    """Return the folder of a run that stopped.

    Args:
        path: Where it is.
        task: The task, which must still say what it said when the run began.
        mode: Its mode, likewise.

    Returns:
        The folder.

    Raises:
        TaskError: If there is nothing to continue, or the task has changed.
    """
    folder = RunFolder(Path(path))
    begun = folder.read_task()
    if folder.metrics.is_file():
        raise TaskError(f"{path}: this run is finished; its scores are in {folder.metrics.name}")
    found = changes(begun, task)
    before = load_mode(folder.mode).hash if folder.mode.is_file() else None
    if before != (None if mode is None else mode.hash):
        found.append("the programs of its mode are others")
    if found:
        raise TaskError(
            f"{path}: the task has changed since this run began: {'; '.join(found)}. "
            "Undo that, or begin another run with --run"
        )
    folder.drop_cut_checkpoints()
    if (checkpoint := folder.last_checkpoint()) is not None:
        check_checkpoint(checkpoint, task.training.steps)
    return folder


def changes(begun: Task, now: Task) -> list[str]:
    """Return in which settings two tasks differ; modes are compared by their programs elsewhere.

    Args:
        begun: The earlier one.
        now: The later one.

    Returns:
        A sentence for each difference.
    """
    return list(_changes(begun.model_dump(), now.model_dump()))


def _changes(before: dict[str, Any], now: dict[str, Any], place: str = "") -> Iterator[str]:
    # A joint task may have other tasks, and each says what it has for itself.
    for key in {**before, **now}:
        was, value = before.get(key), now.get(key)
        if isinstance(value, dict) and isinstance(was, dict):
            yield from _changes(was, value, f"{place}{key}.")
        elif value != was and f"{place}{key}" != "mode":
            yield f"{place}{key} was {was!r} and is {value!r}"
