"""Train the tasks of `tasks/` with several seeds, plain and otherwise, and write down the results.

    python scripts/results.py                        # everything; what was trained is kept
    python scripts/results.py news intents --seeds 3 --set training.bfloat16=true
    python scripts/results.py --table                # only the table, from what was trained

Runs lie in `runs/results/TASK/VARIANT-SEED`; one that was stopped goes on. The table goes to
`docs/results.md` by hand, its figures to `benchmarks/results.json`. What a variant gains on the
first is judged over seeds and test rows alike, as `regard verdict` does, and needs two seeds.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from regard.customise.verdict.statistics import gain_of, row_values
from regard.metrics.measure import Measure
from regard.metrics.records import measures_of
from regard.train.examples import read_records

HOME = Path(__file__).parents[1]
RUNS = HOME / "runs" / "results"
# For each task, what its variants change; the first is what the others are compared with.
TUNINGS = {
    "lora": ["tuning.method=lora"],
    "adalora": ["tuning.method=adalora"],
    "houlsby": ["tuning=null", "tuning.method=houlsby"],
    "pfeiffer": ["tuning=null", "tuning.method=pfeiffer"],
    "full": ["tuning=null", "training.lr=1e-4"],
}
PLAIN = "mode={encoder: scaled_dot_product, decoder: causal, cross: scaled_dot_product}"
VARIANTS: dict[str, dict[str, list[str]]] = {
    "addresses": {"plain": [], "reader": ["mode={encoder: reader}"]},
    "addresses-minilm": {"plain": [], "reader": ["mode={encoder: reader}"]},
    "intents": {"plain": [], "hierarchical": ["mode={encoder: hierarchical}"]},
    "news": {"plain": [], "selective": ["mode={encoder: selective}"]},
    "movies": {"plain": [], "selective": ["mode={encoder: selective}"]},
    "news-tuning": TUNINGS,
    "novels": {"plain": ["mode={decoder: causal}"], "sequential": ["mode={decoder: sequential}"]},
    "verses": {"plain": [PLAIN], "aligned": [PLAIN, "mode.cross=aligned"]},
    "interface": {"plain": [], "reader": ["mode.encoder=reader"]},
}


def train(task: str, variant: str, seed: int, more: list[str]) -> Path:
    """Train once, or go on with what was begun, or leave what is done.

    Args:
        task: A key of `VARIANTS`.
        variant: One of its variants.
        seed: Of the weights and the batches.
        more: Further changes of the task file.

    Returns:
        The run folder.
    """
    run = RUNS / task / f"{variant}-{seed}"
    if (run / "metrics.json").is_file():
        return run
    file = HOME / "tasks" / f"{task.removesuffix('-tuning')}.yaml"
    resume = ["--resume"] if (run / "task.yaml").is_file() else []
    asked = ["train", str(file), *VARIANTS[task][variant], *more, f"training.seed={seed}"]
    command = [sys.executable, "-m", "regard", *asked, "--run", str(run), *resume]
    if subprocess.run(command, check=False).returncode or not (run / "metrics.json").is_file():
        raise SystemExit(f"{run} did not end; its message stands above")
    return run


def finished(task: str, variant: str) -> dict[int, Path]:
    """Return the runs of a variant that came to their end, by seed."""
    runs = (RUNS / task).glob(f"{variant}-[0-9]*")
    ended = (one for one in runs if (one / "metrics.json").is_file())
    return {int(one.name.rpartition("-")[2]): one for one in sorted(ended)}


def measured(run: Path) -> Measure:
    """Return the first metric of a run."""
    options, records = read_records(run)
    ((first, *_),) = measures_of(options.task, [records], options.options)
    return first


def gained(task: str, variant: str) -> dict[str, Any] | None:
    """Return what a variant gains on the first, or None with fewer than two seeds in common."""
    first = next(iter(VARIANTS[task]))
    own, others = finished(task, variant), finished(task, first)
    seeds = sorted(own.keys() & others.keys())
    if variant == first or len(seeds) < 2:
        return None
    pairs = [(measured(own[one]), measured(others[one])) for one in seeds]
    sign = 1 if pairs[0][0].higher_is_better else -1
    table = np.stack([sign * (row_values(one) - row_values(other)) for one, other in pairs])
    gain = gain_of(table, 0.95)
    shown = "better" if gain.low > 0 else "worse" if gain.high < 0 else "no gain shown"
    return {"value": gain.value, "low": gain.low, "high": gain.high, "seeds": seeds, "shown": shown}


def row(task: str, variant: str) -> dict[str, Any] | None:
    """Return what a variant reached with each seed, or None if it was never trained."""
    runs = finished(task, variant).values()
    found = [json.loads((run / "metrics.json").read_text("utf-8")) for run in runs]
    if not found:
        return None
    name = next(iter(found[0]["test"]["scores"]))
    values = [one["test"]["scores"][name] for one in found]
    return {
        "task": task, "variant": variant, "metric": name, "seeds": len(values), "values": values,
        "mean": statistics.fmean(values),
        "spread": statistics.stdev(values) if len(values) > 1 else None,
        "gain": gained(task, variant),
        "trained": found[0]["training"]["share"],
        "minutes": statistics.median(one["training"]["seconds"] for one in found) / 60,
    }  # fmt: skip


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()


def table() -> None:
    """Write the figures of all that was trained, and print them."""
    rows = [row(task, one) for task, variants in VARIANTS.items() for one in variants]
    found = [one for one in rows if one is not None]
    machine = {"processor": processor(), "cores": os.cpu_count(), "torch": version("torch"),
               "date": date.today().isoformat()}  # fmt: skip
    text = json.dumps({"machine": machine, "rows": found}, indent=1) + "\n"
    (HOME / "benchmarks" / "results.json").write_text(text, encoding="utf-8")
    print("| task | variant | metric | seeds | mean | gain, 95 % | shown | trained | minutes |")
    print("|---|---|---|---|---|---|---|---|---|")
    for one in found:
        spread = "" if one["spread"] is None else f" ± {one['spread']:.2g}"
        gain, shown = "", ""
        if one["gain"] is not None:
            gain = "{value:+.2g} [{low:.2g}, {high:.2g}]".format(**one["gain"])
            shown = one["gain"]["shown"]
        cells = (one["task"], one["variant"], one["metric"], one["seeds"],
                 f"{one['mean']:.4g}{spread}", gain, shown, f"{one['trained']:.3g}",
                 f"{one['minutes']:.1f}")  # fmt: skip
        print("|", " | ".join(map(str, cells)), "|")


def main() -> None:
    """Train what is asked for, and show the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=", ".join(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change the task files"
    )
    parser.add_argument("--table", action="store_true", help="train nothing")
    asked = parser.parse_args()
    unknown = [one for one in asked.tasks if one not in VARIANTS]
    if unknown:
        parser.error(f"there is no task '{unknown[0]}'; known: {', '.join(VARIANTS)}")
    for seed in range(0 if asked.table else asked.seeds):
        for task in asked.tasks or VARIANTS:
            for variant in VARIANTS[task]:
                train(task, variant, seed, asked.set)
    table()


if __name__ == "__main__":
    main()
