"""The same small translator trained with each of many attention mechanisms, on real pairs.

English interface strings into French, embedded in examples/translation. Every mechanism gets the
same few learning rates, the best one on the dev part is kept, and further seeds follow with that
one. Ctrl-C keeps the runs that are done; the next start goes on from them.
Writes mechanisms.json beside this file. Leaves to others: the model (`examples/mechanisms`).
"""

import argparse
import json
import math
import multiprocessing
import signal
import statistics
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from _measure import cores, report

import regard as rg

EXAMPLE = Path(__file__).parents[1] / "examples" / "mechanisms"
sys.path.insert(0, str(EXAMPLE))
import translator  # noqa: E402

from regard.metrics.translation import score  # noqa: E402

RESULTS = Path(__file__).with_suffix(".json")
RATES = (0.005, 0.01)
SEEDS, STEPS = range(3), 600
# The least share of plain attention's gain that is a sensible distance from it.
BAR = 0.8
TITLE = "one translator, many mechanisms: English to French, 600 held-out pairs"


class Run(NamedTuple):
    """One training run to make; all that decides its numbers.

    Attributes:
        mechanism: By name.
        rate: The largest learning rate.
        seed: Of the first weights and of the order of batches.
        steps: How many batches.
        backend: What `rg.attend` is asked for.
    """

    mechanism: str
    rate: float
    seed: int
    steps: int
    backend: str


@cache
def _data() -> translator.Data:
    return translator.load_data()


def _begin() -> None:
    """Set up a worker: one thread, and Ctrl-C is for the parent to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


def perform(run: Run) -> dict[str, Any]:
    """Train and score."""
    data = _data()
    pad = data.tokenizer.pad_token_id
    mechanism = translator.MECHANISMS[run.mechanism]
    torch.manual_seed(run.seed)
    model = translator.Translator(mechanism, len(data.tokenizer), run.backend)
    # Kernels are built before the clock starts.
    translator.train(model, data.train, pad, 0.0, 2, run.seed)
    started, worked = time.perf_counter(), time.process_time()
    losses = translator.train(model, data.train, pad, run.rate, run.steps, run.seed)
    worked = time.process_time() - worked
    scores = translator.score_translations(model, data)
    return {
        **run._asdict(),
        "ran on": _backend_of(mechanism, run.backend),
        "train loss": statistics.mean(losses[-50:]),
        "dev perplexity": translator.perplexity(model, data.dev, pad),
        "test perplexity": translator.perplexity(model, data.test, pad),
        "chrF": scores.chrf,
        "BLEU": scores.bleu,
        "seconds": time.perf_counter() - started,
        "ms a step": 1e3 * worked / run.steps,
    }


def _backend_of(mechanism: translator.Mechanism, backend: str) -> str:
    heads, widths = mechanism.settings["heads"], mechanism.settings.get("widths", {})
    shape = (60, heads, 10, translator.WIDTH // heads)
    free = {name: torch.zeros(width) for name, width in widths.items()}
    return rg.explain(mechanism.make(0), shape, training=True, backend=backend, **free).backend


def complete(wanted: list[Run], done: dict[Run, dict[str, Any]], workers: int) -> None:
    """Make the runs that are not done yet, and write each as soon as it is."""
    left = [run for run in wanted if run not in done]
    if not left:
        return
    with multiprocessing.get_context("spawn").Pool(min(workers, len(left)), _begin) as pool:
        for one in pool.imap_unordered(perform, left):
            done[_run_of(one)] = one
            _write(done)
            print(
                f"{sum(run in done for run in wanted)} of {len(wanted)}: {one['mechanism']}, "
                f"rate {one['rate']:g}, seed {one['seed']}: dev perplexity "
                f"{one['dev perplexity']:.2f}, chrF {one['chrF']:.1f}, {one['seconds']:.0f} s",
                flush=True,
            )


def _run_of(record: dict[str, Any]) -> Run:
    return Run(*(record[field] for field in Run._fields))


def _read() -> dict[Run, dict[str, Any]]:
    if not RESULTS.exists():
        return {}
    return {_run_of(one): one for one in json.loads(RESULTS.read_text())["runs"]}


def _write(done: dict[Run, dict[str, Any]]) -> None:
    # Replaced in one go, so that no interruption leaves half a file.
    unfinished = RESULTS.with_suffix(".part")
    unfinished.write_text(json.dumps({"runs": list(done.values())}, indent=1) + "\n")
    unfinished.replace(RESULTS)


def best_rate(own: list[dict[str, Any]]) -> float:
    """Return the learning rate with the lowest perplexity on the dev part, of the first seed."""
    first = [one for one in own if one["seed"] == SEEDS[0]]
    return min(first, key=lambda one: one["dev perplexity"])["rate"]


def table(done: list[dict[str, Any]]) -> list[dict[str, object]]:
    """Return a row for each mechanism, with the mean over its seeds and their least and most.

    The gain is in nats a subword: how far below the mean of everything a mechanism comes, as a
    share of how far plain attention comes.
    """
    kept = {}
    for name in translator.MECHANISMS:
        own = [one for one in done if one["mechanism"] == name]
        rate = best_rate(own)
        kept[name] = [one for one in own if one["rate"] == rate]
    nats = {
        name: statistics.mean(math.log(one["test perplexity"]) for one in own)
        for name, own in kept.items()
    }
    rows: list[dict[str, object]] = []
    for name, own in kept.items():
        gain = (nats["uniform"] - nats[name]) / (nats["uniform"] - nats["plain"])
        rows.append(
            {
                "mechanism": name,
                **_over_seeds("perplexity", [one["test perplexity"] for one in own]),
                "of plain's gain": gain,
                **_over_seeds("chrF", [one["chrF"] for one in own]),
                "BLEU": statistics.mean(one["BLEU"] for one in own),
                "rate": f"{own[0]['rate']:g}",
                "seeds": len(own),
                "ran on": own[0]["ran on"],
                "ms a step": statistics.mean(one["ms a step"] for one in own),
                "bar": BAR,
                "": "" if name == "uniform" else "reached" if gain >= BAR else "not reached",
            }
        )
    return rows


def _over_seeds(name: str, found: list[float]) -> dict[str, object]:
    spread = f"{min(found):.2f} … {max(found):.2f}"
    return {name: statistics.mean(found), f"{name} from … to": spread}


def markdown(rows: list[dict[str, object]]) -> str:
    """Return the table for a page."""
    names = [name for name in rows[0] if name not in ("ran on", "bar", "")]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for row in rows:
        cells = [f"{row[name]:.2f}" if isinstance(row[name], float) else row[name]
                 for name in names]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def make_all(done: dict[Run, dict[str, Any]], seeds: int, workers: int, **fixed: Any) -> None:
    """Search for the learning rates, then make the runs of further seeds."""
    search = {name: [Run(name, rate, SEEDS[0], **fixed) for rate in RATES]
              for name in translator.MECHANISMS}  # fmt: skip
    complete([run for own in search.values() for run in own], done, workers)
    chosen = {name: best_rate([done[run] for run in own]) for name, own in search.items()}
    more = [Run(name, rate, seed, **fixed)
            for seed in SEEDS[1:seeds] for name, rate in chosen.items()]  # fmt: skip
    complete(more, done, workers)


def main() -> None:
    """Make what is missing of the runs, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS, help="of each run")
    parser.add_argument("--backend", default="cpu", help="of rg.attend; auto for its own choice")
    parser.add_argument("--seeds", type=int, choices=(1, 2, 3), default=len(SEEDS), help="how many")
    parser.add_argument("--workers", type=int, default=cores(), help="runs at a time")
    parser.add_argument("--fresh", action="store_true", help="forget the runs that are done")
    parser.add_argument("--markdown", action="store_true", help="print the table for a page, too")
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = {} if options.fresh else _read()
    fixed = {"steps": options.steps, "backend": options.backend}
    try:
        make_all(done, options.seeds, options.workers, **fixed)
    except KeyboardInterrupt:
        print(f"stopped; {len(done)} runs are kept in {RESULTS.name}, the next start goes on")
        sys.exit(130)
    rows = table([one for run, one in done.items()
                  if (run.steps, run.backend) == (options.steps, options.backend)])  # fmt: skip
    data = _data()
    copied = score(data.sources, data.targets)
    print(f"copying the source: chrF {copied.chrf:.1f}, BLEU {copied.bleu:.1f}")
    report(TITLE, rows, RESULTS, copied=copied._asdict(), runs=[*done.values()])
    if options.markdown:
        print(markdown(rows))


if __name__ == "__main__":
    main()
