"""A search for settings: many trials, each told what came of the earlier ones.

The test rows are never looked at. Leaves to others: one trial (`trial`), what was tried and what
is tried next (`trials`), what may be tried (`tasks.vary`).
"""

import csv
import os
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from regard.errors import RegardError, TaskError
from regard.learners import learner_class
from regard.tasks import load_task, save_task
from regard.tasks.kinds import Task
from regard.tasks.plan_data import load_task_data
from regard.tasks.vary import check_search, vary
from regard.train.folder import changes
from regard.train.trial import Outcome, UnknownMetricError, run_trial
from regard.train.trials import Trial, Trials, best_of
from regard.view.search import draw_search

# Of trials that fail one after another, before any succeeds: then something else is wrong.
_HOPELESS = 5


@dataclass(frozen=True)
class StudyFolder:
    """Where a search keeps what.

    Attributes:
        path: The folder itself.
    """

    path: Path

    @property
    def task(self) -> Path:
        """The task that is searched."""
        return self.path / "task.yaml"

    @property
    def database(self) -> Path:
        """What was tried, in SQLite."""
        return self.path / "study.sqlite"

    @property
    def trials(self) -> Path:
        """A run folder for each set of settings."""
        return self.path / "trials"

    @property
    def table(self) -> Path:
        """All trials, a row each."""
        return self.path / "trials.csv"

    @property
    def best(self) -> Path:
        """The task with the best settings."""
        return self.path / "best.yaml"

    @property
    def picture(self) -> Path:
        """The trials in their order, and by the value of each setting."""
        return self.path / "trials.png"


def tune(
    task: Task,
    path: str | os.PathLike,
    workers: int = 1,
    resume: bool = False,
    on_trial: Callable[[Trial], None] | None = None,
) -> list[Trial]:
    """Search for the settings that are best on the validation rows.

    Ctrl-C ends the trials at hand with checkpoints; a search continued from there goes on with
    them.

    Args:
        task: With a part `search`.
        path: The folder of the study.
        workers: Processes that train at the same time.
        resume: Continue the study that is there; it may be asked for more trials.
        on_trial: Is told of each trial that ended; with several workers, of all of them at the end.

    Returns:
        All trials. Their table, their picture and the task with the best settings are in the
        folder.

    Raises:
        TaskError: If the task says nothing of a search or something without meaning, the folder is
            taken or holds another study, or no settings work.
        DataError: If the data cannot be used.
    """
    learner_class(task)
    check_search(task)
    corpus = load_task_data(task)
    corpus.report.refuse()
    if not corpus.splits.valid:
        raise TaskError("a search needs validation rows; hold some out, or name data.valid")
    folder = StudyFolder(Path(path))
    (_continue if resume else _begin)(folder, task)
    try:
        if workers == 1:
            work(folder.path, on_trial)
        else:
            _work_together(folder.path, workers)
    finally:
        found = _write(folder, task)
    if workers > 1 and on_trial is not None:
        for one in found:
            on_trial(one)
    return found


def work(path: str | os.PathLike, on_trial: Callable[[Trial], None] | None = None) -> None:
    """Run trials of a study until there are as many as it asks for, or Ctrl-C.

    Args:
        path: The folder of a study that was begun.
        on_trial: Is told of each trial that ended.

    Raises:
        TaskError: If no settings work.
    """
    folder = StudyFolder(Path(path))
    task = load_task(folder.task)
    trials, failed = Trials(folder.database, check_search(task)), 0
    while (drawn := trials.draw()) is not None:
        try:
            outcome = run_trial(task, drawn.settings, folder.trials, drawn.hopeless)
            problem = None
        except UnknownMetricError:
            raise
        except RegardError as error:
            outcome, problem, failed = Outcome("failed"), str(error), failed + 1
        ended = trials.end(drawn, outcome, problem)
        if outcome.state == "stopped":
            return
        if on_trial is not None:
            on_trial(ended)
        if problem is not None and failed == _HOPELESS == len(trials.read()):
            raise TaskError(f"no settings work: {problem}")


def read_study(path: str | os.PathLike) -> list[Trial]:
    """Return the trials of a study.

    Args:
        path: Its folder.

    Returns:
        Trials in the order of their beginning.

    Raises:
        TaskError: If there is no study.
    """
    folder = StudyFolder(Path(path))
    if not folder.database.is_file():
        raise TaskError(f"{folder.path}: there is no study here; it would hold study.sqlite")
    return Trials(folder.database, check_search(load_task(folder.task))).read()


def _begin(folder: StudyFolder, task: Task) -> None:
    if folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
        raise TaskError(
            f"{folder.path}: there is something already; choose another folder with --study, or "
            "continue the study that is there with --resume"
        )
    folder.trials.mkdir(parents=True)
    save_task(task, folder.task)
    Trials(folder.database, check_search(task))


def _continue(folder: StudyFolder, task: Task) -> None:
    if not folder.database.is_file():
        raise TaskError(f"{folder.path}: there is no study to continue; leave out --resume")
    begun = load_task(folder.task)
    # More trials are no other study.
    kept = [one for one in changes(begun, task) if not one.startswith("search.trials ")]
    if kept:
        raise TaskError(
            f"{folder.path}: the task has changed since this study began: {'; '.join(kept)}. "
            "Undo that, or begin another study with --study"
        )
    save_task(task, folder.task)
    Trials(folder.database, check_search(task)).take_up()


def _work_together(path: Path, workers: int) -> None:
    """Work in several processes; what Ctrl-C sends reaches all of them."""
    processes = [get_context("spawn").Process(target=work, args=(path,)) for _ in range(workers)]
    for one in processes:
        one.start()
    interrupted = False
    for one in processes:
        while one.is_alive():
            try:
                one.join()
            except KeyboardInterrupt:
                if interrupted:
                    raise
                interrupted = True
    if any(one.exitcode for one in processes):
        raise TaskError(f"{path}: a worker ended early; what it said stands above")


def _write(folder: StudyFolder, task: Task) -> list[Trial]:
    """Write the table, the picture and the task with the best settings."""
    search = check_search(task)
    trials, keys = read_study(folder.path), list(search.ranges)
    with folder.table.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("trial", "state", "metric", "value", "seconds", *keys, "problem"))
        for one in trials:
            settings = [one.settings[key] for key in keys]
            rows.writerow(
                (one.number, one.state, one.metric, one.value, one.seconds, *settings, one.problem)
            )
    best = best_of(trials)
    if best is not None:
        save_task(vary(task, best.settings), folder.best)
        finished = [one for one in trials if one.state == "finished" and one.value is not None]
        points = [(one.number, one.value or 0.0, one.settings) for one in finished]
        logarithmic = {
            key for key, values in search.ranges.items() if getattr(values, "log", False)
        }
        draw_search(points, best.metric or "", best.number, logarithmic, folder.picture)
    return trials
