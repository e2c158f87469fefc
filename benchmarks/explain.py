"""Predicted times beside measured ones: programs, sizes and backends on a grid.

The machine is measured anew first, as `rg.measure_machine()` does once, from calls of which none is
in the grid. Bar: within a factor of 1.5 at nine cells of ten. Writes explain.json beside this file.
"""

import argparse
import math
from itertools import product
from pathlib import Path

import torch
from _cpu_cases import additive, alibi, causal, full, soft_cap, t5_bias, window
from _measure import report
from torch import Tensor

import regard as rg
from regard.errors import UnsupportedError
from regard.ops.imagine_call import random_rows
from regard.ops.measure_machine import measure_machine, prepare_call, time_calls, work_of
from regard.ops.predict import Prices

FACTOR, SHARE = 1.5, 0.9
BACKENDS = ("cpu", "sdpa", "tiled")
SECONDS = 0.6


@rg.program
def chunks(pair):
    """Chunks of 200 rows, and a sink."""
    sink = rg.parameter("sink", per="head", init=rg.init.zeros)
    score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)
    return rg.softmax(score, where=pair.i // 200 == pair.j // 200, sink=sink)


@rg.program
def gated(pair):
    """No normaliser."""
    return rg.weigh(rg.sigmoid(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width) - 4))


PROGRAMS = (full, causal, alibi, t5_bias, soft_cap, window, chunks, gated, additive)
# B, H, N, D.
SIZES = ((1, 8, 512, 64), (1, 8, 2048, 64), (4, 4, 640, 32), (1, 2, 3000, 128))
ADDITIVE_SIZES = ((1, 4, 256, 32), (1, 2, 500, 64))


def cells(quick: bool) -> list[tuple]:
    """Return program, sizes, whether gradients are wanted, and backend of each cell."""
    found = []
    for run, trained, backend in product(PROGRAMS, (False, True), BACKENDS):
        for sizes in ADDITIVE_SIZES if run is additive else SIZES[:1] if quick else SIZES:
            # Seconds a call, in tiles.
            if backend != "tiled" or sizes[2] < 2000:
                found.append((run, sizes, trained, backend))
    return found


def inputs(sizes: tuple[int, int, int, int], trained: bool) -> list[Tensor]:
    """Return q, k and v."""
    b, h, rows, width = sizes
    return [random_rows(torch.empty(b, h, rows, width)).requires_grad_(trained) for _ in range(3)]


def measure(cell: tuple, prices: dict[str, Prices]) -> dict[str, object] | None:
    """Return a line of the table, or None if the backend cannot run it."""
    run, sizes, trained, backend = cell
    q, k, v = inputs(sizes, trained)
    try:
        predicted = 1e3 * prices[backend].seconds(work_of(run, q, k, v, backend))
        measured = 1e3 * time_calls([prepare_call(run, q, k, v, backend)], SECONDS)[0]
    except UnsupportedError:
        return None
    ratio = predicted / measured
    return {
        "program": run.name,
        "B H N D": " ".join(map(str, sizes)),
        "what": "training" if trained else "forward",
        "backend": backend,
        "measured ms": round(measured, 2),
        "predicted ms": round(predicted, 2),
        "predicted / measured": round(ratio, 2),
        "within": abs(math.log(ratio)) <= math.log(FACTOR),
    }


def main() -> None:
    """Measure the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="One size a program.")
    quick = parser.parse_args().quick
    prices = measure_machine(BACKENDS, again=True)
    for name, price in prices.items():
        print(f"{name}: {price}")
    rows = [row for cell in cells(quick) if (row := measure(cell, prices)) is not None]
    share = sum(bool(row["within"]) for row in rows) / len(rows)
    report("predicted times", rows, Path(__file__).with_suffix(".json"))
    verdict = "reached" if share >= SHARE else "not reached"
    print(f"within a factor of {FACTOR}: {share:.0%} of {len(rows)} (bar {SHARE:.0%}): {verdict}")


if __name__ == "__main__":
    main()
