"""One trial of a search: a run with settings of its own, scored on the validation rows alone.

Leaves to others: which settings (`study`), the run (`run`).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regard.errors import TaskError, nearest
from regard.metrics.records import LOWER_IS_BETTER
from regard.tasks.kinds import Task
from regard.tasks.vary import vary
from regard.train.folder import RunFolder
from regard.train.lines import read_object
from regard.train.record import valid_scores
from regard.train.run import train


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        state: "finished"; "given up", since others were better by then; or "stopped" by Ctrl-C.
        metric: What the trial is judged by; None if it was stopped before there was any.
        value: The metric, the last one that was seen.
        seconds: Trained; None if it did not finish.
    """

    state: str
    metric: str | None = None
    value: float | None = None
    seconds: float | None = None


class UnknownMetricError(TaskError):
    """A search is to be judged by a metric that its task does not have."""


class Watch(TrainerCallback):
    """Tells how a trial goes at each evaluation, and ends it when that is not good enough."""

    def __init__(self, metric: str | None, hopeless: Callable[[int, float], bool]) -> None:
        """Begin to watch.

        Args:
            metric: Which; None: the first.
            hopeless: Told the step and the goodness; whether the trial should be given up.
        """
        self.metric, self.hopeless = metric, hopeless
        self.seen: tuple[str, float] | None = None
        self.given_up = False

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Look at the validation scores.

        Args:
            args: Unused.
            state: Knows the step.
            control: Takes the order to end.
            metrics: What was measured.
        """
        named = {
            name.removeprefix("valid_"): value
            for name, value in valid_scores(metrics or {}).items()
        }
        named.pop("loss", None)
        self.seen = pick(named, self.metric)
        step = state.global_step
        if step < state.max_steps and self.hopeless(step, goodness(*self.seen)):
            self.given_up = control.should_training_stop = True


def pick(scores: Mapping[str, float], metric: str | None) -> tuple[str, float]:
    """Return one metric.

    Args:
        scores: By name.
        metric: Its name; None: the first.

    Returns:
        Its name and its value.

    Raises:
        UnknownMetricError: If there is none of that name.
    """
    name = next(iter(scores)) if metric is None else metric
    if name not in scores:
        raise UnknownMetricError(
            f"search.metric: there is no metric '{name}'; {nearest(name, scores)}"
        )
    return name, float(scores[name])


def goodness(name: str, value: float) -> float:
    """Return a metric as a number that is the larger the better.

    Args:
        name: Of the metric.
        value: Its value.

    Returns:
        The value, or its negative.
    """
    # That of one of several tasks begins with the task's name.
    return -value if name.rpartition("/")[2] in LOWER_IS_BETTER else value


def folder_of(trials: Path, settings: Mapping[str, Any]) -> RunFolder:
    """Return where a trial of some settings is kept.

    Args:
        trials: The folder of all trials.
        settings: Values by dotted key.

    Returns:
        The run folder, the same for the same settings.
    """
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return RunFolder(trials / hashlib.sha256(text.encode()).hexdigest()[:12])


def run_trial(
    task: Task,
    settings: Mapping[str, Any],
    trials: Path,
    hopeless: Callable[[int, float], bool] = lambda step, value: False,
) -> Outcome:
    """Train with some settings, or go on with what was begun.

    Args:
        task: The task that is searched.
        settings: Values by dotted key.
        trials: The folder of all trials.
        hopeless: Told the step and the goodness; whether the trial should be given up.

    Returns:
        What came of it.

    Raises:
        TaskError: If the settings do not go together.
        DataError: If the data cannot be used.
    """
    folder = folder_of(trials, settings)
    try:
        # Another process may be trying the same settings; its figures are as good.
        with FileLock(folder.path.with_suffix(".lock")):
            return _run(task, settings, folder, hopeless)
    except KeyboardInterrupt:
        return Outcome("stopped")


def _run(
    task: Task,
    settings: Mapping[str, Any],
    folder: RunFolder,
    hopeless: Callable[[int, float], bool],
) -> Outcome:
    assert task.search is not None
    metrics = read_object(folder.metrics) if folder.metrics.is_file() else None
    if metrics is None:
        watch = Watch(task.search.metric, hopeless)
        begun = folder.task.is_file()
        result = train(
            vary(task, settings), folder.path, begun, progress=False,
            on_report=lambda _: None, watchers=[watch], test=False,
        )  # fmt: skip
        if result.metrics is None:
            metric, value = watch.seen or (None, None)
            return Outcome("given up" if watch.given_up else "stopped", metric, value)
        metrics = result.metrics
    metric, value = pick(metrics["valid"]["scores"], task.search.metric)
    return Outcome("finished", metric, value, metrics["training"]["seconds"])
