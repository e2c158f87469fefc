"""Train the tasks of `tasks/` with several seeds, plain and otherwise, and write down the results.

    python scripts/results.py                        # everything; what was trained is kept
    python scripts/results.py news intents --seeds 3
    python scripts/results.py --table                # only the table, from what was trained

Runs lie in `runs/results/TASK/VARIANT-SEED`; one that was stopped goes on. The table goes to
`docs/results.md` by hand, its figures to `benchmarks/results.json`.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HOME = Path(__file__).parents[1]
RUNS = HOME / "runs" / "results"
# For each task, what its variants change; the first is what the others are compared with.
TUNINGS = {
    "lora": ["tuning.method=lora"],
    "adalora": ["tuning.method=adalora"],
    "houlsby": ["tuning={method: houlsby}", "training.lr=1e-3"],
    "pfeiffer": ["tuning={method: pfeiffer}", "training.lr=1e-3"],
    "full": ["tuning={method: full}", "training.lr=1e-4"],
}
VARIANTS: dict[str, dict[str, list[str]]] = {
    "addresses": {"plain": [], "reader": ["mode={encoder: reader}"]},
    "addresses-minilm": {"plain": [], "reader": ["mode={encoder: reader}"]},
    "intents": {"plain": [], "hierarchical": ["mode={encoder: hierarchical}"]},
    "news": {"plain": [], "selective": ["mode={encoder: selective}"]},
    "movies": {"plain": [], "selective": ["mode={encoder: selective}"]},
    "news-tuning": TUNINGS,
    "novels": {"plain": [], "sequential": ["mode={decoder: sequential}"]},
    "verses": {"plain": [], "aligned": ["mode={cross: aligned}"]},
    "interface": {"plain": [], "reader": ["mode.encoder=reader"]},
}


def train(task: str, variant: str, seed: int) -> Path:
    """Train once, or go on with what was begun, or leave what is done.

    Args:
        task: A key of `VARIANTS`.
        variant: One of its variants.
        seed: Of the weights and the batches.

    Returns:
        The run folder.
    """
    run = RUNS / task / f"{variant}-{seed}"
    if (run / "metrics.json").is_file():
        return run
    file = HOME / "tasks" / f"{task.removesuffix('-tuning')}.yaml"
    resume = ["--resume"] if (run / "task.yaml").is_file() else []
    asked = ["train", str(file), *VARIANTS[task][variant], f"training.seed={seed}"]
    command = [sys.executable, "-m", "regard", *asked, "--run", str(run), *resume]
    if subprocess.run(command, check=False).returncode or not (run / "metrics.json").is_file():
        raise SystemExit(f"{run} did not end; its message stands above")
    return run


def row(task: str, variant: str) -> dict[str, Any] | None:
    """Return what a variant reached with each seed, or None if it was never trained."""
    found = [
        json.loads((run / "metrics.json").read_text("utf-8"))
        for run in sorted((RUNS / task).glob(f"{variant}-[0-9]*"))
        if (run / "metrics.json").is_file()
    ]
    if not found:
        return None
    name = next(iter(found[0]["test"]["scores"]))
    values = [one["test"]["scores"][name] for one in found]
    return {
        "task": task, "variant": variant, "metric": name, "seeds": len(values), "values": values,
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "trained": found[0]["training"]["share"],
        "minutes": statistics.median(one["training"]["seconds"] for one in found) / 60,
    }  # fmt: skip


def table() -> None:
    """Write the figures of all that was trained, and print them."""
    rows = [row(task, one) for task, variants in VARIANTS.items() for one in variants]
    found = [one for one in rows if one is not None]
    text = json.dumps(found, indent=1) + "\n"
    (HOME / "benchmarks" / "results.json").write_text(text, encoding="utf-8")
    print("| task | variant | metric | seeds | mean | spread | trained | minutes |")
    print("|---|---|---|---|---|---|---|---|")
    for one in found:
        spread = "" if one["spread"] is None else f"{one['spread']:.4g}"
        cells = (one["task"], one["variant"], one["metric"], one["seeds"], f"{one['mean']:.4g}",
                 spread, f"{one['trained']:.2%}", f"{one['minutes']:.1f}")  # fmt: skip
        print("|", " | ".join(map(str, cells)), "|")


def main() -> None:
    """Train what is asked for, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="train nothing")
    asked = parser.parse_args()
    unknown = [one for one in asked.tasks if one not in VARIANTS]
    if unknown:
        parser.error(f"there is no task '{unknown[0]}'; known: {', '.join(VARIANTS)}")
    for seed in range(0 if asked.table else asked.seeds):
        for task in asked.tasks or VARIANTS:
            for variant in VARIANTS[task]:
                train(task, variant, seed)
    table()


if __name__ == "__main__":
    main()
