"""A trial: a candidate trained up to a rung of the whole run's schedule, and scored there.

It stops on the rung with a checkpoint and goes on from there when it is promoted, bit for bit as if
it had never stopped; so the score of the last rung is that of `regard train`. Its test rows are
never scored. Leaves to others: what is tried next (`standing`), the run (`train`).
"""

import contextlib
import ctypes
import json
import shutil
import signal
import statistics
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regard.customise.budget import Clock
from regard.customise.candidate import Candidate
from regard.customise.folder import CustomFolder
from regard.customise.ground import Ground
from regard.customise.heritage import sow
from regard.customise.standing import Job
from regard.modes import save_mode
from regard.search import Score
from regard.tasks.kinds import Task
from regard.train import train
from regard.train.folder import RunFolder
from regard.train.lines import read_lines
from regard.train.trial import goodness

# Steps whose time and memory are measured; the first few also compile.
_MEASURED, _WARM = 40, 3
_CLEAR = Path("/proc/self/clear_refs")
# In the folder of a run: what was taken over, and what a step costs.
HERITAGE, COST = "heritage.json", "cost.json"


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        score: What was found; None if it stopped before the rung.
        stopped: What asked it to stop, perhaps on the rung: "budget", "interrupt" or "".
    """

    score: Score | None
    stopped: str = ""


class Watch(TrainerCallback):
    """Ends a trial on its rung, or when time is out, and measures steps and memory on the way."""

    def __init__(self, rung: int, clock: Clock, reserve_s: float = 0.0) -> None:
        """Begin to watch.

        Args:
            rung: The step to stop at.
            clock: Knows the time that is left.
            reserve_s: Of it, what is kept for what comes after.
        """
        self.rung, self.clock, self.reserve = rung, clock, reserve_s
        self.seconds: list[float] = []
        self.late, self.interrupted, self.bytes = False, False, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Hear Ctrl-C as well, which may come on the rung itself; the run hears it after this."""
        if threading.current_thread() is not threading.main_thread():
            return
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, partial(self._heard, signal.getsignal(one)))

    def _heard(self, then: Any, number: int, frame: Any) -> None:
        self.interrupted = True
        if callable(then):
            then(number, frame)

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start to measure a step."""
        if not self.seconds:
            self.before = _forget_peak()
        self.began = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Take down what the step took, and stop if it was the last one.

        Args:
            args: Unused.
            state: Knows the step.
            control: Takes the order to stop.
        """
        if len(self.seconds) < _MEASURED + _WARM:
            self.seconds.append(time.perf_counter() - self.began)
            self.bytes = max(self.bytes, _peak() - self.before)
        self.clock.tick()
        self.late = self.clock.left <= self.reserve
        if (self.late or state.global_step >= self.rung) and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True

    @property
    def step(self) -> float:
        """The median seconds of a step."""
        warm = self.seconds[_WARM:] or self.seconds
        return statistics.median(warm) if warm else 0.0

    def write(self, run: RunFolder) -> None:
        """Write down what a step costs, if any was seen.

        Args:
            run: The run that was watched.
        """
        if self.seconds:
            found = {"seconds_per_step": self.step, "bytes": self.bytes}
            run.write(run.path / COST, json.dumps(found) + "\n")


def run_trial(
    ground: Ground, folder: CustomFolder, job: Job, root: Candidate | None, clock: Clock,
    reserve_s: float = 0.0,
) -> Outcome:  # fmt: skip
    """Train a candidate up to a rung, or go on with what was begun.

    Args:
        ground: The task.
        folder: Where runs are kept.
        job: The candidate and the rung.
        root: Whose weights it goes on from; None: it starts anew.
        clock: Knows the time that is left.
        reserve_s: Of it, what is kept for what comes after.

    Returns:
        What came of it.

    Raises:
        RegardError: If the candidate cannot be trained.
    """
    candidate, last = job.candidate, job.rung == len(ground.rungs) - 1
    heir = root is not None and not last
    run, task = folder.run_of(candidate.key, heir), _task_of(ground, folder, candidate)
    lost = heir and run.last_checkpoint() is None and not run.metrics.is_file()
    if run.path.exists() and (lost or not run.task.is_file()):
        # Killed while it began, or dropped and taken up again.
        shutil.rmtree(run.path)
    if heir and root is not None and not run.path.exists():
        assert candidate.mode is not None
        source = folder.run_of(root.key)
        took = sow(ground.learner, source, root.mode, run, candidate.mode, ground.rungs[0])
        run.write(run.path / HERITAGE, json.dumps({"from": root.key, **vars(took)}) + "\n")
    step, stopped = ground.rungs[job.rung], ""
    if not run.metrics.is_file() and value_at(run, step, ground.metric) is None:
        watch = Watch(step, clock, reserve_s)
        done = train(
            task, run.path, run.task.is_file(), progress=False, on_report=lambda _: None,
            watchers=[watch], test=False, known=ground.known,
        )  # fmt: skip
        watch.write(run)
        stopped = "interrupt" if watch.interrupted else "budget" if watch.late else ""
        if not done.finished and done.step < step:
            return Outcome(None, stopped or "interrupt")
    if run.metrics.is_file():
        value = json.loads(run.metrics.read_text("utf-8"))["valid"]["scores"][ground.metric]
    else:
        value = value_at(run, step, ground.metric)
    assert value is not None
    return Outcome(Score(goodness(ground.metric, value), *_cost_of(run)), stopped)


def curve_of(run: RunFolder, metric: str) -> list[tuple[int, float]]:
    """Return the learning curve of a run.

    Args:
        run: Its folder.
        metric: Of the validation rows.

    Returns:
        (step, value) pairs.
    """
    name = f"valid_{metric}"
    return [(line["step"], line[name]) for line in read_lines(run.log, ("step",)) if name in line]


def value_at(run: RunFolder, step: int, metric: str) -> float | None:
    """Return a metric at a step, if the run has come so far.

    Args:
        run: Its folder.
        step: The step.
        metric: Of the validation rows.

    Returns:
        Its value, or None.
    """
    checkpoint = run.last_checkpoint()
    # A line may be told and its checkpoint not be written.
    if checkpoint is None or int(checkpoint.name.rpartition("-")[2]) < step:
        return None
    return dict(curve_of(run, metric)).get(step)


def _task_of(ground: Ground, folder: CustomFolder, candidate: Candidate) -> Task:
    """Return the task with a candidate's mode, which is kept in a file."""
    if candidate.mode is None:
        return ground.task.model_copy(update={"mode": None})
    file = folder.mode_of(candidate.key)
    if not file.is_file():
        save_mode(candidate.mode, file)
    return ground.task.model_copy(update={"mode": str(file)})


def _cost_of(run: RunFolder) -> tuple[float, float]:
    """Return the measured seconds and bytes of a step."""
    cost = run.path / COST
    told = json.loads(cost.read_text("utf-8")) if cost.is_file() else {}
    return told.get("seconds_per_step", 0.0), told.get("bytes", 0.0)


# ── Memory ───────────────────────────────────────────────────────────────────────────────────
def _forget_peak() -> float:
    """Forget the highest memory so far, and return what is in use; 0 where nobody can tell."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    if not _CLEAR.exists():
        return 0.0
    with contextlib.suppress(OSError, AttributeError):
        # What was freed goes back to the system, or the next peak would hide in it.
        ctypes.CDLL(None).malloc_trim(0)
        # 5 sets the highest size back to the present one: proc_pid_clear_refs(5).
        _CLEAR.write_text("5")
    return _status("VmRSS")


def _peak() -> float:
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return _status("VmHWM") if _CLEAR.exists() else 0.0


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next((float(one.split()[1]) * 1024 for one in lines if one.startswith(f"{key}:")), 0.0)
