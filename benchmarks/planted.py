"""Planted tasks, whose right attention is known: does a search find it, and what does that give?

For each task and seed: `customise` within a budget; whether the mode it found is of the right
family; its share of right answers on test rows; and that of plain attention, once trained as many
steps, and once as many as all candidates of the search together. A ceiling counts as reached from
98 % of it on. What is done already is not done again, and a search that was stopped goes on.

    python benchmarks/planted.py --minutes 5 --seeds 3 majority ranges
    python benchmarks/planted.py --trials 30     # where the machine has other things to do
"""

import argparse
import json
from pathlib import Path

import yaml
from _measure import machine

from regard.customise import Options, Result, customise
from regard.data.planted import PLANTED, Planted
from regard.search import is_of_family
from regard.tasks import load_task
from regard.tasks.kinds import Task
from regard.train import evaluate_run, train

ROWS, HELD_OUT, ENOUGH = 2400, 200, 0.98
# What each task's answers are judged by, and the most it can be.
METRICS = {"tagging": ("tag accuracy", 1), "classification": ("accuracy", 1)}
WRITTEN = ("BLEU", 100)
SHAPE = {"width": 32, "layers": 1, "heads": 4, "ffn": 64, "dropout": 0.0, "positions": 128}
# Deeper where a rule takes two steps, longer where it is hard to learn.
DEEPER = {"induction": 2, "nested": 2}
STEPS = {"majority": 200, "ranges": 300, "counting": 600, "reversal": 600, "transduction": 600}
LONGEST = 1000
NAME = "{task:<13}{seed:>4} {family:<7}{found:>7} {same:>7} {long:>7}  {mode}"


def write_task(planted: Planted, seed: int, folder: Path) -> Task:
    """Write rows and a task file."""
    folder.mkdir(parents=True, exist_ok=True)
    planted.write(folder / "rows.jsonl", ROWS, seed)
    data = {"train": "rows.jsonl", "split": {"valid": HELD_OUT, "test": HELD_OUT}}
    if planted.kind.name == "translation":
        data = {"path": "rows.jsonl", "test_pairs": HELD_OUT, "valid_pairs": HELD_OUT}
    else:
        data["split"]["stratify"] = False
    parts = {
        "task": planted.kind.name,
        "data": data,
        "model": {**SHAPE, "layers": DEEPER.get(planted.name, 1)},
        "training": {
            "steps": STEPS.get(planted.name, LONGEST), "batch_tokens": 2000, "lr": 3e-3,
            "warmup": 20, "label_smoothing": 0.0, "seed": seed, "save_every": 10_000,
        },
    }  # fmt: skip
    path = folder / "task.yaml"
    path.write_text(yaml.safe_dump(parts), encoding="utf-8")
    return load_task(path)


def share_right(run: Path, metric: str, most: float) -> float:
    """Return a run's share of right answers on test rows."""
    scores = {one.name: one.score().value for one in evaluate_run(run).measures}
    return scores[metric] / most


def plain_for(task: Task, steps: int, folder: Path, metric: str, most: float) -> float:
    """Return the share of right answers of plain attention that was trained for some steps."""
    training = task.training.model_copy(update={"steps": steps, "eval_every": 0})
    if not (folder / "metrics.json").is_file():
        begun = (folder / "task.yaml").is_file()
        train(task.model_copy(update={"training": training}), folder, begun, progress=False)
    return share_right(folder, metric, most)


def steps_of(result: Result) -> int:
    """Return how many steps all candidates were trained together."""
    standing, rungs = result.standing, result.ground.rungs
    total = 0
    for key, candidate in standing.candidates.items():
        reached = standing.reached(key)
        if candidate.root is None:
            total += rungs[reached]
        else:
            whole = rungs[-1] if reached == standing.last else 0
            total += rungs[min(reached, standing.last - 1)] - rungs[0] + whole
    return total


def run_one(planted: Planted, seed: int, budget: dict, folder: Path) -> dict:
    """Search, and train plain attention beside it."""
    task = write_task(planted, seed, folder)
    metric, most = METRICS.get(planted.kind.name, WRITTEN)
    study = folder / "study"
    options = Options(**budget, metric=metric, seed=seed)
    result: Result = customise(task, study, options, resume=(study / "task.yaml").is_file())
    if result.best is None:
        raise SystemExit(f"{planted.name}: {budget} was too little to compare anything")
    run = result.folder.run_of(result.best)
    finished = run.metrics.is_file()
    mode = result.mode
    steps, all_steps = result.ground.steps, steps_of(result)
    return {
        "task": planted.name,
        "seed": seed,
        **budget,
        "seconds": round(result.spent_s, 1),
        "candidates": len(result.standing.candidates),
        "mode": "plain" if mode is None else mode.name,
        "of family": mode is not None and is_of_family(mode, planted.role, planted.family),
        "found": share_right(run.path, metric, most) if finished else None,
        "plain, same steps": plain_for(task, steps, folder / "plain", metric, most),
        "plain, all steps": plain_for(task, all_steps, folder / "plain-long", metric, most),
        "steps": steps,
        "steps of all candidates": all_steps,
        "floor": planted.floor,
        "ceiling": planted.ceiling,
    }


def reached(row: dict, which: str = "found") -> bool:
    """Tell whether a share counts as the ceiling."""
    return row[which] is not None and row[which] >= ENOUGH * row["ceiling"]


def told(row: dict) -> str:
    """Return a row of the table."""
    shares = {"found": "found", "same": "plain, same steps", "long": "plain, all steps"}
    shown = {k: "–" if row[name] is None else f"{row[name]:.3f}" for k, name in shares.items()}
    family = "yes" if row["of family"] else "no"
    return NAME.format(task=row["task"], seed=row["seed"], family=family, mode=row["mode"], **shown)


def main() -> None:
    """Run what is not done yet, and print everything."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("tasks", nargs="*", default=list(PLANTED), metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="of each search; 5 unless trials are given")
    parser.add_argument("--trials", type=int, help="candidates of each search")
    parser.add_argument("--folder", type=Path, default=Path("runs/planted"))
    parser.add_argument("--json", type=Path, default=Path(__file__).with_suffix(".json"))
    asked = parser.parse_args()
    minutes = 5.0 if asked.minutes is None and asked.trials is None else asked.minutes
    seconds = None if minutes is None else 60 * minutes
    budget = {"budget_s": seconds, "trials": asked.trials}
    rows = json.loads(asked.json.read_text())["rows"] if asked.json.is_file() else []
    done = {(row["task"], row["seed"]) for row in rows}
    heads = {"found": "found", "same": "plain", "long": "longer", "family": "family"}
    print(NAME.format(task="task", seed="seed", mode="mode", **heads))
    for seed in range(asked.seeds):
        for name in asked.tasks:
            if (name, seed) not in done:
                folder = asked.folder / f"{name}-{seed}"
                rows.append(run_one(PLANTED[name], seed, budget, folder))
                text = json.dumps({"machine": machine(), "rows": rows}, indent=1)
                asked.json.write_text(text + "\n", encoding="utf-8")
                print(told(rows[-1]), flush=True)
    both = [row for row in rows if row["of family"] and reached(row)]
    same = [row for row in rows if reached(row, "plain, same steps")]
    easy = [row for row in rows if reached(row, "plain, all steps")]
    print(
        f"right family and ceiling: {len(both)} of {len(rows)}; plain attention reaches the ceiling"
    )
    print(f"in {len(same)} in as many steps, in {len(easy)} in as many as all candidates together")


if __name__ == "__main__":
    main()
