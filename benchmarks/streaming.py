"""A novel through SmolLM2-135M with a bounded cache: perplexity block by block, and memory.

`python benchmarks/streaming.py NOVEL` takes some ten minutes on two cores, where NOVEL is a text
file or the folder `_weights.novel` describes. `--plot` draws what was measured before.
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
from _measure import report
from _weights import novel, smollm

import regard as rg

# Sinks and window of each contender.
CACHES = {"4 sinks + window 1020": (4, 1020), "window 1024 alone": (0, 1024)}
TOKENS, BLOCK, CHUNK = 20_000, 1000, 250
# After the cache began to drop tokens no block is so many times worse than the mean, and no cache
# so many times larger than the smallest.
FLAT, CONSTANT = 1.5, 1.3
RESULT = Path(__file__).with_suffix(".json")
PLOT = Path(__file__).parents[1] / "docs/images/streaming.png"


def resident() -> float:
    """Return the memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def held(cache: rg.hf.StreamingCache) -> float:
    """Return the memory of a cache in MB."""
    return sum(2 * one.keys.nbytes for one in cache.layers) / 1e6


@torch.no_grad()
def stream(model, ids: torch.Tensor, sizes: tuple[int, int]) -> list[dict[str, float]]:
    """Read a text piece by piece.

    Args:
        model: The model.
        ids: (1, TOKENS + 1).
        sizes: Sinks and window.

    Returns:
        A row a block: perplexity, seconds, memory.
    """
    cache = rg.hf.StreamingCache(model, *sizes)
    rows = []
    for block in range(0, TOKENS, BLOCK):
        begun, total = time.perf_counter(), 0.0
        for start in range(block, block + BLOCK, CHUNK):
            logits = model(input_ids=ids[:, start : start + CHUNK], past_key_values=cache).logits[0]
            wanted = ids[0, start + 1 : start + CHUNK + 1]
            total += float(torch.nn.functional.cross_entropy(logits, wanted, reduction="sum"))
        rows.append({
            "tokens": block + BLOCK, "perplexity": math.exp(total / BLOCK),
            "seconds": time.perf_counter() - begun, "cache MB": held(cache),
            "process MB": resident(),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def plot(rows: list[dict]) -> None:
    """Draw perplexity by block."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 3.6), layout="constrained")
    for name, colour in zip(CACHES, ("#1b6ca8", "#c8553d"), strict=True):
        own = [row for row in rows if row["cache"] == name]
        axes.plot([row["tokens"] for row in own], [row["perplexity"] for row in own],
                  marker="o", markersize=3, color=colour, label=name)  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tokens read")
    axes.set_ylabel("perplexity of each 1000 tokens")
    axes.set_title("SmolLM2-135M reads Pride and Prejudice", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(PLOT, dpi=150)


def verdicts(rows: list[dict]) -> list[dict]:
    """Return the bars: flat with sinks, worse without in every block, memory constant."""
    full = [row for row in rows if row["tokens"] > 2 * BLOCK]
    ours, window = ([row for row in full if row["cache"] == name] for name in CACHES)
    mean = sum(row["perplexity"] for row in ours) / len(ours)
    memory = [row["cache MB"] for row in ours]
    times = [two["perplexity"] / one["perplexity"] for one, two in zip(ours, window, strict=True)]
    worst = max(row["perplexity"] for row in ours) / mean
    grown = max(memory) / min(memory)
    facts = (
        ("sinks: worst block / mean", worst, f"≤ {FLAT}", worst <= FLAT),
        ("window alone / sinks: mean", sum(times) / len(times), "", None),
        ("window alone / sinks: best block", min(times), "> 1", min(times) > 1),
        ("sinks: largest / smallest cache", grown, f"≤ {CONSTANT}", grown <= CONSTANT),
    )
    said = {True: "reached", False: "not reached", None: ""}
    return [
        {"cache": what, "tokens": "", "perplexity": value, "seconds": "", "cache MB": bar,
         "process MB": said[good]}
        for what, value, bar, good in facts
    ]  # fmt: skip


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("novel", type=Path, nargs="?")
    parser.add_argument("--plot", action="store_true", help="only draw what was measured before")
    given = parser.parse_args()
    if given.plot:
        plot([row for row in json.loads(RESULT.read_text())["rows"] if row["tokens"]])
        return
    if given.novel is None:
        parser.error("name the novel")
    model, tokenizer = smollm()
    ids = tokenizer(novel(given.novel), return_tensors="pt")["input_ids"][:, : TOKENS + 1]
    rows = [
        {"cache": name, **row}
        for name, sizes in CACHES.items()
        for row in stream(model, ids, sizes)
    ]
    title = f"{TOKENS} tokens of a novel through SmolLM2-135M, {CHUNK} at a time, float32"
    report(title, [*rows, *verdicts(rows)], RESULT)
    plot(rows)


if __name__ == "__main__":
    main()
