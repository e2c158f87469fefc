"""Plans of blocks beside torch's block masks: time, memory and, where it can be counted, tightness.

A plan is made from nothing in every round: what is remembered is forgotten first. torch's
`create_block_mask` evaluates every pair, in tens of seconds and gigabytes, so it runs twice and
where it would take more memory than a process is given here, it is said so. Writes plan.json
beside this file.
"""

import argparse
import ctypes
import platform
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import torch
from _measure import Bar, PeakMemory, Row, Table, interleaved_rounds
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

import regard as rg
from regard.backends.values import blocks
from regard.backends.values.blocks import classify_blocks
from regard.ir.bound import Bound
from regard.ops.bind import arange

GRANULARITIES = [(96, 64), (128, 64), (32, 64)]
WIDE, CELL, DOCUMENT = 256, 64, 700
# What torch may take for a mask.
MOST_BYTES = 18 << 30


@dataclass(frozen=True)
class Mask:
    """A mask, as ours and as torch's.

    Attributes:
        ours: The condition on a pair.
        torchs: torch's `mask_mod`, from data.
        data: The data of so many tokens.
    """

    ours: Callable
    torchs: Callable[[dict[str, Tensor]], Callable]
    data: Callable[[int], dict[str, Tensor]] = lambda length: {}


def documents(length: int) -> dict[str, Tensor]:
    """Return the document of each token."""
    found = torch.arange(length) // DOCUMENT
    return {"mine": found.view(1, 1, -1), "other": found.view(1, 1, -1)}


def chosen_cells(length: int) -> dict[str, Tensor]:
    """Return three key cells chosen at random for each query cell."""
    cells = -(-length // CELL)
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(0, cells, (cells, 3), generator=generator)
    return {"cells": torch.zeros(cells, cells, dtype=torch.bool).scatter_(1, chosen, True)}


def bigbird(i, j, cell: Callable):
    """Say who sees whom: near cells, the first two, and some chosen."""
    near = abs(i // CELL - j // CELL) <= 1
    return near | (i < 2 * CELL) | (j < 2 * CELL) | cell(i // CELL, j // CELL)


def plane(i, j):
    """Say who sees whom in rows of 256 cells: 13 × 13 neighbours."""
    return (abs(i // WIDE - j // WIDE) <= 6) & (abs(i % WIDE - j % WIDE) <= 6)


MASKS = {
    "causal": Mask(lambda p: p.j <= p.i, lambda d: lambda b, h, i, j: j <= i),
    "window 256": Mask(
        lambda p: (p.j <= p.i) & (p.i - p.j < 256),
        lambda d: lambda b, h, i, j: (j <= i) & (i - j < 256),
    ),
    "documents": Mask(
        lambda p: (rg.query_feature("mine") == rg.key_feature("other")) & (p.j <= p.i),
        lambda d: lambda b, h, i, j: (d["mine"][0, 0][i] == d["mine"][0, 0][j]) & (j <= i),
        documents,
    ),
    "BigBird": Mask(
        lambda p: bigbird(p.i, p.j, lambda x, y: rg.table("cells", per=("rows", "rows"))[x, y]),
        lambda d: lambda b, h, i, j: bigbird(i, j, lambda x, y: d["cells"][x, y]),
        chosen_cells,
    ),
    "plane": Mask(lambda p: plane(p.i, p.j), lambda d: lambda b, h, i, j: plane(i, j)),
}


def call(length: int, data: dict[str, Tensor], queries: int = 0, offset: int = 0) -> Bound:
    """Return a call of so many tokens, with rows of a single channel."""
    rows = torch.zeros(1, 1, 1, 1)
    q, k = rows.expand(1, 8, queries or length, 1), rows.expand(1, 8, length, 1)
    positions = arange(queries or length, q.device)
    positions = positions + offset if offset else positions
    return Bound({"q": q, "k": k, "v": k, **data}, positions, arange(length, q.device))


def where_of(mask: Mask):
    """Return a mask's condition."""
    program = rg.program(lambda pair: rg.softmax(rg.dot(pair.q, pair.k), where=mask.ours(pair)))
    return program.root.weights.where


def plan_anew(condition, bound: Bound, rows: int, keys: int) -> Tensor:
    """Plan as if it were the first time."""
    blocks._same.clear()
    blocks._equal.clear()
    return classify_blocks(condition, bound, rows, keys)


def give_memory_back() -> None:
    """Have freed memory counted as free, so that using it again shows."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).malloc_trim(0)


def measure_plans(table: Table, length: int, bar_ms: float, bar_mb: float | None) -> None:
    """Measure the plans of all masks at a length."""
    for name, mask in MASKS.items():
        bound, condition = call(length, mask.data(length)), where_of(mask)
        for rows, keys in GRANULARITIES:
            plan = partial(plan_anew, condition, bound, rows, keys)
            plan()
            give_memory_back()
            with PeakMemory() as memory:
                plan()
            (times,) = interleaved_rounds({"ours": plan}, 15, most_seconds=4, least=3).values()
            case, grown = f"{name}, {rows} × {keys}", memory.grown_bytes / 1e6
            table.add(
                Row(
                    f"plans, N {length}",
                    case,
                    "",
                    "",
                    median(times),
                    "ms",
                    ours_ms=median(times),
                    quartiles=(min(times), max(times)),
                    bar=Bar("<=", bar_ms),
                    note=f"fastest {min(times):.1f} ms",
                )
            )
            bar = Bar("<=", bar_mb) if bar_mb else None
            table.add(Row(f"plans, N {length}", case, "memory", "", grown, "MB", bar=bar))


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let an allocation fail, rather than the machine, where a mask takes too much memory."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def measure_torch(table: Table, length: int) -> None:
    """Measure beside torch's block masks."""
    for name, mask in MASKS.items():
        data = mask.data(length)
        bound, condition = call(length, data), where_of(mask)
        ours = partial(plan_anew, condition, bound, 128, 128)
        theirs = partial(
            create_block_mask, mask.torchs(data), None, None, length, length, device="cpu"
        )
        contenders = {"ours": ours, "theirs": theirs}
        case = f"beside torch, N {length}, blocks of 128 × 128", name, "", "create_block_mask"
        try:
            with limited_memory():
                times = interleaved_rounds(contenders, 5, 0, most_seconds=8, least=2)
        except (RuntimeError, MemoryError):
            said = f"it needs more than {MOST_BYTES >> 30} GiB"
            table.add(Row(*case, None, "", note=said))
            continue
        ratios = [b / a for a, b in zip(times["ours"], times["theirs"], strict=True)]
        table.add(
            Row(
                *case,
                median(ratios),
                "× as fast",
                median(times["ours"]),
                median(times["theirs"]),
                (min(ratios), max(ratios)),
                Bar(">=", 300),
            )
        )


def measure_again(table: Table) -> None:
    """Measure plans that are known, and steps of decoding."""
    mask = MASKS["window 256"]
    condition, bound = where_of(mask), call(2048, {})
    steps = [call(8000 + at, {}, 1, 7999 + at) for at in range(320)]

    def warm() -> None:
        for _ in range(1000):
            classify_blocks(condition, bound, 96, 64)

    def decode() -> None:
        blocks._same.clear()
        blocks._equal.clear()
        for step in steps:
            classify_blocks(condition, step, 96, 64)

    for case, run, calls in (("the same call again", warm, 1000), ("a step, M 8000", decode, 320)):
        (times,) = interleaved_rounds({"ours": run}, 9).values()
        each = median(times) / calls * 1e3
        table.add(Row("plans made before", case, "", "", each, "µs", ours_ms=median(times) / calls))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--beside", type=int, default=32768, help="the length given to torch")
    parser.add_argument("--long", action="store_true", help="N 131072 as well")
    options = parser.parse_args()
    table = Table("plans of blocks")
    table.start()
    measure_plans(table, 32768, 30, 60)
    if options.long:
        measure_plans(table, 131072, 300, None)
    measure_torch(table, options.beside)
    measure_again(table)
    table.write(Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    with torch.no_grad():
        main()
