"""The verdict: finalists trained anew with several seeds, judged on test rows nobody has seen.

The test rows are scored here and nowhere before: a search is judged by the validation rows.
Leaves to others: who contends (`contenders`), what is promised (`plan`), statistics
(`statistics`), costs (`costs`), what is shown (`answer`, `report`).
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from regard.customise.verdict.answer import Comparison, Standing, Verdict, remarks_on
from regard.customise.verdict.contenders import find_contenders, space_of
from regard.customise.verdict.costs import Costs, measure_costs
from regard.customise.verdict.plan import (
    Contender,
    Plan,
    Terms,
    VerdictFolder,
    begin,
    check_same,
    fresh_seeds,
    read_begun,
)
from regard.customise.verdict.statistics import Gain, gain_of, row_values
from regard.data import Corpus
from regard.errors import FileError, TaskError, nearest
from regard.learners import Learner
from regard.learners.evaluation import records_of
from regard.metrics.measure import Measure
from regard.metrics.records import measures_of
from regard.metrics.verdict import holm
from regard.modes import Mode
from regard.tasks.kinds import Task
from regard.train import processes, train
from regard.train.examples import read_records
from regard.train.folder import RunFolder
from regard.train.model import build_model
from regard.train.run import prepare, working

Say = Callable[[str], None]
_USUAL = Terms()


def judge_modes(
    task: Task,
    finalists: Sequence[str | Mode],
    path: str | os.PathLike,
    terms: Terms = _USUAL,
    *,
    random: str | Mode | None = None,
    resume: bool = False,
    progress: bool = True,
    say: Say = lambda line: None,
) -> Verdict | None:
    """Train finalists and plain attention with several seeds, and say what is shown of them.

    Ctrl-C ends the training at hand with a checkpoint; what is continued ends as it would have.

    Args:
        task: The task, without a mode.
        finalists: Modes, or what names them, as `find_contenders` has it.
        path: The folder of the verdict.
        terms: By what is judged.
        random: The winner of a random search at equal budget; finalists are compared with it too.
        resume: Continue the verdict that is there.
        progress: Show a bar of each training.
        say: Is told of each training.

    Returns:
        The verdict, kept in the folder too; None if it was stopped before its end.

    Raises:
        RegardError: If something cannot be done; nothing was trained then, unless a file broke.
    """
    _check_task(task)
    folder = VerdictFolder(Path(path))
    with working(task.training.threads):
        learner, corpus = prepare(task.model_copy(update={"search": None}))
        metric = terms.metric or (task.search and task.search.metric)
        metric = _pick_metric(learner, corpus, metric)
        contenders = find_contenders(finalists, random, space_of(build_model(learner)))
        for one in contenders[1:]:
            build_model(learner, one.mode)
    seeds = fresh_seeds(task, terms.seeds)
    plan = Plan(contenders, seeds, terms.alpha, terms.margin, terms.faster, metric)
    (check_same if resume else begin)(folder, learner.task, plan)
    if corpus.report.warnings:
        say(f"the data:\n{corpus.report}")
    for one in contenders[1:]:
        say(str(one.mode))
    try:
        if not _train_all(folder, learner.task, plan, progress, say):
            return None
        if not folder.costs.is_file():
            say("measuring a step of each")
            modes = {one.name: one.mode for one in contenders}
            with working(task.training.threads):
                _write_costs(folder, measure_costs(learner, corpus, modes))
    except KeyboardInterrupt:
        return None
    return read_verdict(folder.path)


def _check_task(task: Task) -> None:
    if processes.count() > 1:
        raise TaskError("a verdict trains in one process; start it without torchrun")
    if task.mode is not None:
        raise TaskError(
            "mode: the task has a mode of its own, so nothing would be plain attention; delete it, "
            "and name the mode as a finalist"
        )
    pretrained = task.model.pretrained
    if pretrained is not None and (Path(pretrained) / "mode.json").is_file():
        raise TaskError(
            f"model.pretrained: {pretrained} has a mode of its own, so nothing would be plain "
            "attention; take a pretrained model without one"
        )


def _pick_metric(learner: Learner, corpus: Corpus, metric: str | None) -> str:
    """Return the metric to judge by, known without looking at a test row."""
    if not corpus.splits.test:
        raise TaskError("a verdict is given on test rows, and there are none; hold some out")
    rows = corpus.splits.train[:50]
    guessed = records_of(learner, rows, learner.baseline(rows, rows))
    (measures,) = measures_of(learner.task.task, [guessed], learner.options)
    known = [one.name for one in measures]
    if metric is not None and metric not in known:
        raise TaskError(f"there is no metric '{metric}'; {nearest(metric, known)}")
    return metric or known[0]


def _train_all(folder: VerdictFolder, task: Task, plan: Plan, progress: bool, say: Say) -> bool:
    """Train whatever is not yet trained, seed by seed; return whether all is."""
    planned = [(seed, one) for seed in plan.seeds for one in plan.contenders]
    missing = sum(not folder.run(one, seed).metrics.is_file() for seed, one in planned)
    began, trained = time.monotonic(), 0
    for place, (seed, one) in enumerate(planned, 1):
        run = folder.run(one, seed)
        if not run.metrics.is_file():
            each = (time.monotonic() - began) / trained if trained else None
            left = "" if each is None else f"; about {_duration(each * (missing - trained))} left"
            say(f"training {place} of {len(planned)}: {one.name}, seed {seed}{left}")
            if not _train_one(folder, task, one, seed, progress):
                return False
            trained += 1
        # What a run can be continued from; a finished one is not.
        shutil.rmtree(run.checkpoints, ignore_errors=True)
    return True


def _train_one(
    folder: VerdictFolder, task: Task, contender: Contender, seed: int, progress: bool
) -> bool:
    run = folder.run(contender, seed)
    begun = run.task.is_file()
    if not begun and run.path.exists():
        # Killed while the folder was made.
        shutil.rmtree(run.path)
    mode = None if contender.mode is None else str(folder.mode(contender).resolve())
    training = task.training.model_copy(update={"seed": seed, "order_seed": None})
    varied = task.model_copy(update={"mode": mode, "training": training})
    return train(
        varied, run.path, resume=begun, progress=progress, on_report=lambda _: None
    ).finished


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def _write_costs(folder: VerdictFolder, costs: Costs) -> None:
    RunFolder(folder.path).write(folder.costs, json.dumps(asdict(costs), indent=1) + "\n")


def read_verdict(path: str | os.PathLike) -> Verdict:
    """Judge anew from what a verdict's folder keeps: answers to test rows, and step times.

    Args:
        path: The folder.

    Returns:
        The verdict.

    Raises:
        TaskError: If there is none, or a training is missing.
        FileError: If a file is broken, or its runs are not of one split.
    """
    folder = VerdictFolder(Path(path))
    task, plan = read_begun(folder)
    measures, test_sha256 = _read_measures(folder, task, plan)
    sign = 1.0 if measures[plan.contenders[0].name][0].higher_is_better else -1.0
    tables = {
        name: sign * np.stack([row_values(one) for one in found])
        for name, found in measures.items()
    }
    costs = _read_costs(folder)
    standings = tuple(_standing(folder, one, plan, measures, costs) for one in plan.contenders)
    comparisons = [
        each
        for baseline in plan.baselines
        for each in _compare(plan, baseline, tables, costs, plan.allowed(standings[0].score))
    ]
    rows = next(iter(tables.values())).shape[1]
    return Verdict(
        task=task.task,
        plan=plan,
        rows=rows,
        test_sha256=test_sha256,
        higher_is_better=sign > 0,
        standings=standings,
        comparisons=tuple(comparisons),
        machine={} if costs is None else costs.machine,
        remarks=remarks_on(standings, rows, len(plan.seeds)),
    )


def _read_measures(
    folder: VerdictFolder, task: Task, plan: Plan
) -> tuple[dict[str, list[Measure]], str]:
    """Return the metric of every training, and a hash of what the test rows ask."""
    runs = [(one, folder.run(one, seed)) for one in plan.contenders for seed in plan.seeds]
    read = [read_records(run.path) for _, run in runs]
    first = read[0][0]
    for (_, run), (measured, _) in zip(runs, read, strict=True):
        split = run.read_task().data
        if measured != first or split != task.data:
            raise FileError(
                f"{run.path}: this run is not of the rows that the verdict is about; delete its "
                "folder and continue with --resume"
            )
    found = measures_of(first.task, [records for _, records in read], first.options)
    chosen: dict[str, list[Measure]] = {one.name: [] for one in plan.contenders}
    for (one, run), measures in zip(runs, found, strict=True):
        named = {each.name: each for each in measures}
        if plan.metric not in named:
            raise FileError(f"{run.path}: {plan.metric} cannot be compared over these runs")
        chosen[one.name].append(named[plan.metric])
    return chosen, first.test_sha256


def _read_costs(folder: VerdictFolder) -> Costs | None:
    if not folder.costs.is_file():
        return None
    try:
        return Costs(**json.loads(folder.costs.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as problem:
        raise FileError(
            f"{folder.costs}: these are no costs ({problem}); delete the file and continue with "
            "--resume"
        ) from None


def _standing(
    folder: VerdictFolder,
    contender: Contender,
    plan: Plan,
    measures: dict[str, list[Measure]],
    costs: Costs | None,
) -> Standing:
    trained = [
        json.loads(folder.run(contender, seed).metrics.read_text(encoding="utf-8"))["training"]
        for seed in plan.seeds
    ]
    name = contender.name
    return Standing(
        name=name,
        kind=contender.kind,
        scores=tuple(one.score().value for one in measures[name]),
        parameters=trained[0]["parameters"],
        steps=tuple(one["steps"] for one in trained),
        step_ms=None if costs is None else costs.median(name),
        peak_bytes=None if costs is None else costs.peak_bytes[name],
    )


def _compare(
    plan: Plan,
    baseline: Contender,
    tables: dict[str, np.ndarray],
    costs: Costs | None,
    margin: float,
) -> list[Comparison]:
    family = plan.family(baseline)
    level = 1 - plan.alpha / len(family)
    differences = [tables[one.name] - tables[baseline.name] for one in family]
    gains: list[Gain] = [gain_of(table, level) for table in differences]
    corrected = holm([one.p for one in gains])
    return [
        Comparison(
            contender=one.name,
            baseline=baseline.name,
            gain=gain,
            by_seed=tuple(map(float, table.mean(1))),
            corrected_p=p,
            margin=margin,
            faster=plan.faster,
            time=None if costs is None else costs.ratio(one.name, baseline.name, level),
        )
        for one, gain, table, p in zip(family, gains, differences, corrected, strict=True)
    ]
