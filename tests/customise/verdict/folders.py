"""Verdicts written down as if they had been trained: answers to test rows, of known quality."""

import json

import numpy as np

from regard.customise.verdict.plan import Contender, Plan, VerdictFolder, begin
from regard.modes import READY
from regard.tasks import load_task
from regard.train.examples import write_records
from regard.train.folder import begin_run

TASK = "task: {kind}\ndata: {{path: rows.jsonl}}\n"


def plan_of(*finalists, random=None, seeds=(1, 2, 3, 4, 5), **changes):
    """A plan of ready modes."""
    contenders = [Contender("plain", "plain")]
    contenders += [Contender(name, "finalist", READY[name]("encoder")) for name in finalists]
    if random:
        contenders.append(Contender(random, "random", READY[random]("encoder")))
    settings = {"alpha": 0.05, "margin": "1%", "faster": 0.7, "metric": "accuracy", **changes}
    return Plan(tuple(contenders), tuple(seeds), **settings)


def write_verdict_runs(
    path, plan, right, costs=None, rows=400, parameters=None, steps=None, kind="classification"
):
    """Write a finished verdict; `right` says what share of rows each contender answers rightly."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "given.yaml").write_text(TASK.format(kind=kind))
    task = load_task(path / "given.yaml")
    (path / "given.yaml").unlink()
    folder = VerdictFolder(path)
    begin(folder, task, plan)
    random = np.random.default_rng(0)
    hard = random.permutation((np.arange(rows) + 0.5) / rows)
    for one in plan.contenders:
        for seed in plan.seeds:
            wrong = hard + 0.02 * random.normal(size=rows) > right[one.name]
            write_run(folder, task, one, seed, wrong, parameters or {}, steps or {})
    if costs is not None:
        folder.costs.write_text(json.dumps(costs_of(costs)))
    return folder


def write_run(folder, task, contender, seed, wrong, parameters, steps):
    run = begin_run(folder.run(contender, seed).path, task, contender.mode)
    records = list(RECORDS[task.task](wrong))
    options = {"labels": ["a", "b"]} if task.task == "classification" else {}
    kept = write_records(run, task.task, records, options)
    training = {
        "parameters": parameters.get(contender.name, 1000),
        "steps": steps.get(contender.name, 10),
    }
    run.write_metrics({"measured": kept, "training": training})


def labels(wrong):
    for n, no in enumerate(wrong):
        right, other = ("a", "b") if n % 2 else ("b", "a")
        yield {"input": f"row {n}", "reference": right, "prediction": other if no else right}


def losses(wrong):
    for n, no in enumerate(wrong):
        found = {"loss": 9.0 + bool(no), "tokens": 5}
        yield {"input": f"row {n}", "reference": {"bytes": 10 + n % 3}, "prediction": found}


RECORDS = {"classification": labels, "language_modelling": losses}


def costs_of(shares):
    """Steps of 10 ms for plain attention, and of so many shares of that for the others."""
    swing = [1 + 0.01 * (turn % 5) for turn in range(25)]
    times = {
        name: [10 * share * one * (1 + 0.002 * (turn % 3)) for turn, one in enumerate(swing)]
        for name, share in {"plain": 1.0, **shares}.items()
    }
    return {"times": times, "peak_bytes": dict.fromkeys(times, 2**20), "machine": {"device": "CPU"}}
