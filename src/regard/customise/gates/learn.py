"""Learned gates: in one training run each head finds out which of several programs suits it.

Each head runs all candidates in shares of a gate; gates learn with the weights, from the training
rows, and are annealed to one; training then goes on with the winners. Leaves to others: gates
(`model`), their schedule (`schedule`), the run (`train`).
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from regard.customise.gates.folder import GatesFolder
from regard.customise.gates.model import GatedModel
from regard.customise.gates.offers import Candidates, space_of
from regard.customise.gates.prices import charge_for, prices_of
from regard.customise.gates.schedule import Schedule
from regard.customise.gates.tuning import Gating
from regard.customise.references import find_mode
from regard.data.record import Record
from regard.data.split import Splits
from regard.errors import InputError, TaskError
from regard.learners import Learner
from regard.learners.evaluation import records_of, values_of
from regard.metrics.records import measures_of
from regard.modes import Mode, load_mode
from regard.search import Batch, Children
from regard.search.space import Space
from regard.tasks.kinds import Task
from regard.train import processes, train
from regard.train.folder import RunFolder
from regard.train.table import read_table
from regard.train.tuning import Tuning, begin_tuning
from regard.view.gates import draw_gates

# Rows that say how long texts are.
_ROWS = 64
_METHODS = ("full", "head_only")
# One to wait in, one to learn in, one with the winners.
_FEWEST = 3


@dataclass(frozen=True)
class Gates:
    """Where gates have come to.

    Attributes:
        folder: The run folder; `regard evaluate` and all else that reads one read it.
        finished: Whether the run came to its end.
        course: Rows of `gates.csv`: `step`, `role`, `layer`, `heads`, `candidate`, `share`.
        before: Metrics of the validation rows just before each head was given its winner alone;
            None until then, empty without such rows.
        after: Just after it, with the same weights.
        final: At the end of the run.
    """

    folder: Path
    finished: bool
    course: tuple[dict[str, str], ...]
    before: dict[str, float] | None = None
    after: dict[str, float] | None = None
    final: dict[str, float] | None = None

    def mode(self) -> Mode:
        """Return the mode of the winners.

        Returns:
            The mode, by role, layers and heads.

        Raises:
            TaskError: If the run is not finished.
        """
        return load_mode(RunFolder(self.folder).finished_model() / "mode.json")

    def shares(self) -> list[dict[str, str]]:
        """Return the last rows of the course, just before winners were taken."""
        last = self.course[-1]["step"] if self.course else ""
        return [row for row in self.course if row["step"] == last]


def learn_gates(
    task: Task,
    candidates: Candidates | Sequence[str] | None,
    run_dir: str | os.PathLike,
    *,
    steps: int | None = None,
    seed: int | None = None,
    schedule: Schedule | None = None,
    cost: float = 0.0,
    head_groups: int | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Gates:
    """Learn in one training run which of several programs each head should run.

    Gates and weights learn from the training rows together; the validation rows only measure, and
    the test rows are never looked at. Ctrl-C ends the run with a checkpoint, as in `train`.

    Args:
        task: The task; its own mode stays where no candidate says anything.
        candidates: Modes, or programs for every role that admits them, by name; or references to
            them (ready modes, a mode's .json file, programs), with plain attention beside them.
            None: plain attention, and the ready modes that fit.
        run_dir: The run folder.
        steps: How many; None: as the task says.
        seed: Of weights, batches and dropout; None: as the task says.
        schedule: When gates learn and are settled; None: the default.
        cost: What the predicted time of attention counts in the loss: so much if all heads took
            the dearest candidate. The machine is measured on the first call ever.
        head_groups: Into how many groups of neighbours, a gate each, the heads of a layer fall.
            None: each head alone, or with those that it shares keys with.
        resume: Continue the run that is there.
        progress: Show a progress bar.

    Returns:
        What came of it. In the folder: a run as any other, whose model runs the winners, and
        `gates.csv`, `gates.png`, `gates.json`.

    Raises:
        InputError: If an option makes no sense, or candidates do not fit the model, the role they
            would run in, or each other.
        TaskError: If the task asks for what gates cannot do, or the run folder is taken or holds
            another run.
        DataError: If the data cannot be used.
    """
    task = _check(task, steps, seed)
    if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost < 1e6:
        raise InputError(f"cost={cost!r} must be a number from 0")
    schedule = schedule or Schedule()
    if not isinstance(schedule, Schedule):
        raise InputError(f"schedule={schedule!r} must be a Schedule")
    begin = _Begin(candidates, Path(run_dir), schedule, float(cost), head_groups, resume)
    result = train(task, run_dir, resume, progress, test=False, begin=begin)
    found = read_gates(result.folder)
    draw_gates(found.course, path=GatesFolder(result.folder, {}).picture)
    return found


def read_gates(run_dir: str | os.PathLike) -> Gates:
    """Read what came of gates.

    Args:
        run_dir: The run folder of `learn_gates`.

    Returns:
        Where they have come to.

    Raises:
        TaskError: If no gates were learned there.
    """
    run, folder = RunFolder(Path(run_dir)), GatesFolder(Path(run_dir), {})
    settled = folder.read()["settled"] or {}
    finished, final = run.metrics.is_file(), None
    if finished:
        metrics = json.loads(run.metrics.read_text(encoding="utf-8"))
        final = metrics.get("valid", {}).get("scores", {})
    return Gates(
        run.path, finished, tuple(read_table(folder.course)), settled.get("before"),
        settled.get("after"), final,
    )  # fmt: skip


def _check(task: Task, steps: int | None, seed: int | None) -> Task:
    """Return the task with steps and seed, if gates can be learned in it."""
    given: dict[str, int | None] = {}
    for name, value, least in (("steps", steps, _FEWEST), ("seed", seed, 0)):
        if value is not None and (type(value) is not int or value < least):
            raise InputError(f"{name}={value!r} must be a whole number from {least}")
        if value is not None:
            given[name] = value
    if steps is not None:
        given["epochs"] = None
    settings = task.training.model_copy(update=given)
    task = task.model_copy(update={"training": settings})
    for problem, remedy in _obstacles(task):
        raise TaskError(f"{problem}; {remedy}")
    return task


def _obstacles(task: Task) -> Iterator[tuple[str, str]]:
    """Yield what in a task keeps gates from being learned, and what to do."""
    settings = task.training
    if settings.steps is not None and settings.steps < _FEWEST:
        yield f"training.steps is {settings.steps}", f"gates need {_FEWEST} at least"
    if settings.keep == "best":
        yield "training.keep: the best weights may be of many programs at once", "keep the last"
    if settings.patience is not None:
        yield "training.patience may end a run before its gates are settled", "delete it"
    if task.tuning.method not in _METHODS:
        problem = f"tuning.method: gates are not learned with {task.tuning.method}"
        yield problem, "take full or head_only, and tune the mode that comes of it"
    for name in ("regularise", "log"):
        if getattr(task.attention, name):
            yield f"attention.{name} is of one program a head, and gates run several", "delete it"
    if processes.count() > 1:
        yield "gates are learned in one process", "start it without torchrun"


def _named(candidates: Candidates | Sequence[str] | None, space: Space) -> Candidates:
    """Return candidates by name, those that were only referred to among them."""
    if isinstance(candidates, Mapping):
        return candidates
    starts = {mode.name: mode for mode in Children(space).starts()}
    if candidates is None:
        return starts
    plain = next(iter(starts))
    found = [find_mode(reference, space) for reference in candidates]
    return {plain: starts[plain], **{mode.name: mode for mode in found}}


@dataclass(frozen=True)
class _Begin:
    """Puts gates into the model of a run."""

    candidates: Candidates | Sequence[str] | None
    path: Path
    schedule: Schedule
    cost: float
    head_groups: int | None
    resume: bool

    def __call__(self, model: PreTrainedModel, learner: Learner, splits: Splits[Record]) -> Tuning:
        candidates = _named(self.candidates, space_of(model))
        gated = GatedModel(model, candidates, self.head_groups)
        folder = self._folder(candidates, gated, learner, splits.train)
        inner = begin_tuning(model, learner.task)
        quality = partial(_quality, learner, splits.valid)
        charge = None
        if folder.prices is not None:
            # Batches of one update come one by one, and each adds the term.
            charge = charge_for(folder.prices, self.cost / learner.task.training.accumulate)
        return Gating(inner, gated, self.schedule, folder, quality, charge)

    def _folder(
        self, candidates: Candidates, gated: GatedModel, learner: Learner, rows: Sequence[Record]
    ) -> GatesFolder:
        """Return where the gates are written down; prices stay what they were at the beginning."""
        asked: dict[str, Any] = {
            "candidates": {name: one.hash for name, one in candidates.items()},
            "schedule": asdict(self.schedule),
            "cost": self.cost,
            "head_groups": self.head_groups,
        }
        folder = GatesFolder(self.path, asked)
        if self.resume and (folder.about.is_file() or RunFolder(self.path).last_checkpoint()):
            folder.check_same()
            return replace(folder, prices=folder.read()["prices"])
        if not self.cost:
            return folder
        return replace(folder, prices=prices_of(gated, _batch(learner, rows, gated)))


def _batch(learner: Learner, rows: Sequence[Record], gated: GatedModel) -> Batch:
    """Return about what a training step reads."""
    examples = learner.encode(rows[:_ROWS])
    tokens = sum(len(one["input_ids"]) for one in examples) // len(examples)
    size = max(1, learner.task.training.batch_tokens // max(1, tokens))
    return Batch(size, max(1, tokens), width=gated.layers[0][0].width)


def _quality(learner: Learner, rows: Sequence[Record], model: PreTrainedModel) -> dict[str, float]:
    """Return the metrics of a model on rows; none without rows."""
    if not rows:
        return {}
    records = records_of(learner, rows, learner.answer(model, rows))
    (measures,) = measures_of(learner.task.task, [records], learner.options)
    return values_of(measures)
