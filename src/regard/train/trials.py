"""What was tried in a search, and what is tried next: a study of Optuna in a file of SQLite.

Optuna (Akiba et al. 2019) draws values and says which trials are hopeless. Values are kept so that
larger is better. Leaves to others: training (`trial`), the folder around the file (`study`).
"""

import contextlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from regard.errors import FileError
from regard.metrics.need import need
from regard.tasks.search_settings import Range, SearchSettings
from regard.train.trial import Outcome, goodness

# More trials than any search has, so that no two (seed, trial) draw alike.
_MANY_TRIALS = 1_000_003
_STATES = {"COMPLETE": "finished", "PRUNED": "given up", "RUNNING": "running"}


@dataclass(frozen=True)
class Trial:
    """One set of settings and what came of it.

    Attributes:
        number: In the order of their beginning, counted from 0.
        state: "finished", "given up", "stopped", "failed" or "running".
        settings: Values by dotted key.
        metric: What it is judged by, or None.
        value: The metric of the validation rows, or None.
        seconds: Trained, or None.
        problem: Why it failed, or None.
    """

    number: int
    state: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    metric: str | None = None
    value: float | None = None
    seconds: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Drawn:
    """Settings to be tried.

    Attributes:
        handle: Optuna's trial.
        settings: Values by dotted key.
        hopeless: Told a step and the goodness by then; whether the trial should be given up.
    """

    handle: Any
    settings: dict[str, Any]
    hopeless: Callable[[int, float], bool]


class Trials:
    """The trials of a study; several processes may share one."""

    def __init__(self, database: Path, search: SearchSettings) -> None:
        """Open a study, or begin it.

        Args:
            database: The file.
            search: What is tried, and how.

        Raises:
            TaskError: If Optuna is not installed.
        """
        self.optuna, self.search = need("optuna"), search
        self.lock = database.with_suffix(".lock")
        self.optuna.logging.set_verbosity(self.optuna.logging.WARNING)
        _check_database(database)
        self.study = self.optuna.create_study(
            study_name="search",
            storage=f"sqlite:///{database.resolve()}",
            direction="maximize",
            pruner=self._pruner(),
            load_if_exists=True,
        )

    def draw(self) -> Drawn | None:
        """Return the next settings to be tried.

        Returns:
            The settings, or None if as many trials were begun as are asked for.
        """
        # One process at a time, so that no two draw the same and none draws one too many.
        with FileLock(self.lock):
            trial = self._begin()
            if trial is None:
                return None
            settings = {key: _draw(trial, key, one) for key, one in self.search.ranges.items()}

        def hopeless(step: int, good: float) -> bool:
            trial.report(good, step)
            return bool(trial.should_prune())

        return Drawn(trial, settings, hopeless)

    def _begin(self) -> Any:
        """Return a trial of Optuna that draws as its number has it, or None."""
        tried = [one for one in self.study.trials if not _is_stopped(one)]
        if len([one for one in tried if one.state.name != "WAITING"]) >= self.search.trials:
            return None
        # By the trial's number, so that a search that was continued does not draw the same again.
        seed = self.search.seed * _MANY_TRIALS + len(self.study.trials)
        samplers = self.optuna.samplers
        kind = samplers.TPESampler if self.search.sampler == "tpe" else samplers.RandomSampler
        self.study.sampler = kind(seed=seed)
        return self.study.ask()

    def end(self, drawn: Drawn, outcome: Outcome, problem: str | None = None) -> Trial:
        """Write down what came of a trial.

        Args:
            drawn: The trial.
            outcome: What came of it.
            problem: Why it failed, if it did.

        Returns:
            The trial.
        """
        said = {"metric": outcome.metric, "value": outcome.value, "seconds": outcome.seconds}
        for name, value in {**said, "problem": problem}.items():
            drawn.handle.set_user_attr(name, value)
        state = self.optuna.trial.TrialState
        if outcome.state == "finished":
            assert outcome.metric is not None and outcome.value is not None
            self.study.tell(drawn.handle, goodness(outcome.metric, outcome.value))
        else:
            ended = state.PRUNED if outcome.state == "given up" else state.FAIL
            self.study.tell(drawn.handle, state=ended)
        return self._trial(self.study.trials[drawn.handle.number])

    def take_up(self) -> None:
        """Have trials that were stopped or died tried first when the study goes on."""
        state = self.optuna.trial.TrialState
        waiting = [one.params for one in self.study.trials if one.state == state.WAITING]
        done = [one.params for one in self.study.trials if one.state.name in ("COMPLETE", "PRUNED")]
        for one in self.study.trials:
            if one.state == state.RUNNING:
                self.study.tell(one.number, state=state.FAIL)
        for one in self.study.trials:
            if _is_stopped(one) and one.params and one.params not in [*waiting, *done]:
                self.study.enqueue_trial(one.params)
                waiting.append(one.params)

    def read(self) -> list[Trial]:
        """Return all trials that were begun.

        Returns:
            In their order; one that was stopped and taken up again stands there twice.
        """
        begun = [one for one in self.study.trials if one.state.name != "WAITING"]
        return [self._trial(one) for one in begun]

    def _trial(self, found: Any) -> Trial:
        said = found.user_attrs
        ended = "stopped" if _is_stopped(found) else "failed"
        return Trial(
            number=found.number,
            state=_STATES.get(found.state.name, ended),
            settings={
                key: _decode(found.params[key], self.search.ranges[key])
                for key in self.search.ranges
                if key in found.params
            },
            **{name: said.get(name) for name in ("metric", "value", "seconds", "problem")},
        )

    def _pruner(self) -> Any:
        pruners, warmup = self.optuna.pruners, self.search.warmup
        if self.search.pruner == "none":
            return pruners.NopPruner()
        if self.search.pruner == "halving":
            return pruners.SuccessiveHalvingPruner()
        return pruners.MedianPruner(n_startup_trials=warmup)


def _check_database(path: Path) -> None:
    """Refuse a file that SQLite cannot read; its own errors come late, and from many classes."""
    if not path.is_file():
        return
    try:
        with contextlib.closing(sqlite3.connect(path)) as database:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as problem:
        found = str(problem)
    if found != "ok":
        raise FileError(
            f"{path}: this is no whole database of SQLite ({found}); put back a copy, or begin "
            "another study with --study"
        )


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the best trial that finished.

    Args:
        trials: Of one study.

    Returns:
        The first of the best, or None.
    """
    return next((one for one in ranked(trials) if one.state == "finished"), None)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials in the order of what came of them.

    Args:
        trials: Of one study.

    Returns:
        First those that finished, the best first; then the others in their order.
    """

    def place(one: Trial) -> tuple[bool, float]:
        if one.state != "finished" or one.value is None:
            return True, 0.0
        return False, -goodness(str(one.metric), one.value)

    return sorted(trials, key=place)


def _is_stopped(found: Any) -> bool:
    """Whether a trial ended before its time, neither hopeless nor failed."""
    return found.state.name == "FAIL" and found.user_attrs.get("problem") is None


def _draw(trial: Any, key: str, values: list[Any] | Range) -> Any:
    if isinstance(values, list):
        return json.loads(trial.suggest_categorical(key, [_encode(one) for one in values]))
    if values.whole:
        low, high = int(values.low), int(values.high)
        return trial.suggest_int(key, low, high, step=int(values.step or 1), log=values.log)
    return trial.suggest_float(key, values.low, values.high, step=values.step, log=values.log)


def _encode(value: Any) -> str:
    """Return a value as Optuna keeps those of a list."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _decode(kept: Any, values: list[Any] | Range) -> Any:
    return json.loads(kept) if isinstance(values, list) else kept
