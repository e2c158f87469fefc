"""Real tasks, their attention customised within a budget: what of it holds on the test rows?

For each task: `regard customise` on its validation rows, then `regard verdict` on its test rows, of
as many steps and, but for what a mode itself learns, as many weights. The tasks are those of
`tasks/`, made small enough for an hour; `python scripts/data.py novels news` fetches two of them.

    python benchmarks/customised.py                      # all; what is done is kept
    python benchmarks/customised.py novels --random      # and a random search at equal budget
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from _measure import machine

from regard.customise import Options, Result, customise, judge_modes, parse_duration
from regard.customise.verdict.plan import Terms, VerdictFolder
from regard.tasks import load_task
from regard.tasks.kinds import Task

TASKS = Path(__file__).parents[1] / "tasks"
RESULT = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Real:
    """A task of `tasks/`, changed for this purpose.

    Attributes:
        file: Its name.
        budget: Of the search.
        settings: What is changed.
    """

    file: str
    budget: str
    settings: tuple[str, ...]


# Of addresses the recurrent layer goes, which would do what attention is to do.
REAL = {
    "addresses": Real("addresses", "8m", ("model.head=[]", "model.layers=3")),
    "novels": Real(
        "novels", "12m",
        ("training.steps=300", "training.bfloat16=true", "training.eval_every=0",
         "data.split.test=250", "data.split.valid=100"),
    ),
    "news": Real(
        "news", "6m",
        ("model.pretrained=null", "model.width=128", "model.layers=2", "model.heads=4",
         "model.ffn=256", "model.dropout=0.3", "tuning=null", "tokenizer.size=3000",
         "training.steps=300"),
    ),
    "translation": Real(
        "interface", "12m",
        ("mode=null", "model={width: 128, layers: 2, heads: 4, ffn: 512, dropout: 0.1}",
         "data.test_pairs=400", "training.steps=600", "training.batch_tokens=2000",
         "training.warmup=100", "training.lr=2e-3", "training.eval_every=0"),
    ),
}  # fmt: skip


def found_by(task: Task, real: Real, folder: Path, method: str) -> Result:
    """Search, or read the search that is done."""
    options = Options(parse_duration(real.budget), method=method)
    study = folder / method
    return customise(task, study, options, resume=(study / "task.yaml").is_file())


def run_one(name: str, folder: Path, seeds: int, random: bool) -> dict:
    """Customise one task, and judge what was found."""
    real = REAL[name]
    task = load_task(TASKS / f"{real.file}.yaml", real.settings)
    found = found_by(task, real, folder, "halving")
    told = {
        "task": name, "settings": real.settings, "budget": real.budget,
        "candidates": len(found.standing.candidates), "seconds": round(found.spent_s),
    }  # fmt: skip
    if found.mode is None:
        return told | {"mode": None, "sentence": "the search found nothing better than plain"}
    drawn = found_by(task, real, folder, "random").mode if random else None
    path = folder / "verdict"
    resume = VerdictFolder(path).plan.is_file()
    given = task, [found.mode], path, Terms(seeds=seeds)
    verdict = judge_modes(*given, random=drawn, resume=resume, say=print)
    if verdict is None:
        raise SystemExit(f"{name}: stopped; the same command goes on")
    print(*(one.sentence for one in verdict.comparisons), sep="\n", flush=True)
    return told | {"mode": found.mode.name, **verdict.as_dict()}


def main() -> None:
    """Run what is not done yet, and write everything."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(REAL))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--random", action="store_true", help="search at random as well")
    parser.add_argument("--folder", type=Path, default=Path("runs/customised"))
    asked = parser.parse_args()
    known = json.loads(RESULT.read_text())["rows"] if RESULT.is_file() else []
    rows = {row["task"]: row for row in known}
    for name in asked.tasks or REAL:
        if name not in rows:
            rows[name] = run_one(name, asked.folder / name, asked.seeds, asked.random)
            text = json.dumps({"machine": machine(), "rows": list(rows.values())}, indent=1)
            RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
