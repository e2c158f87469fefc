"""Time of masked attention on the cpu backend against the share of blocks its plan visits.

Causal windows from narrow to all, documents from short to one, and keys chosen at random by blocks;
forward and training. Writes density.json beside this file.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from _measure import interleaved_rounds, report
from torch import Tensor

import regard as rg
from regard.ir.program import AttentionProgram
from regard.ops.explain import explain
from regard.ops.measure_machine import prepare_call

WINDOWS = (64, 256, 512, 1024, 2048, 4096, 8192)
DOCUMENTS = (128, 512, 1024, 2048, 4096, 8192)
CELL, DENSITIES = 256, (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)


@rg.program
def window(pair):
    """Causal, so many keys back."""
    back = pair.i - pair.j
    return rg.softmax(rg.dot(pair.q, pair.k) / 8, where=(back >= 0) & (back < rg.scalar("width")))


@rg.program
def documents(pair):
    """Both in one document."""
    same = rg.query_feature("mine") == rg.key_feature("other")
    return rg.softmax(rg.dot(pair.q, pair.k) / 8, where=same)


@rg.program
def cells(pair):
    """Cells of 256 by 256 pairs, chosen by a table."""
    chosen = rg.table("chosen", per=("rows", "rows"))
    return rg.softmax(rg.dot(pair.q, pair.k) / 8, where=chosen[pair.i // CELL, pair.j // CELL])


@dataclass(frozen=True)
class Case:
    """A program at a density.

    Attributes:
        run: The program.
        name: Of the mask.
        given: Its inputs.
    """

    run: AttentionProgram
    name: str
    given: dict[str, Tensor | int]


def cases(rows: int) -> Iterator[Case]:
    """Yield masks from sparse to dense."""
    for width in WINDOWS:
        if width <= rows:
            yield Case(window, "causal window", {"width": width})
    for length in DOCUMENTS:
        if length <= rows:
            which = (torch.arange(rows) // length).view(1, 1, -1)
            yield Case(documents, "documents", {"mine": which, "other": which})
    count = -(-rows // CELL)
    for share in DENSITIES:
        drawn = torch.rand(count, count, generator=torch.Generator().manual_seed(0)) < share
        yield Case(cells, "random cells", {"chosen": drawn | torch.eye(count, dtype=torch.bool)})


def measure(rows: int, heads: int) -> list[dict[str, object]]:
    """Return a line for each mask, forward and training."""
    found = []
    for case in cases(rows):
        q, k, v = torch.randn(3, 1, heads, rows, 64).unbind()
        plan = explain(case.run, q, k, v, backend="cpu", **case.given).plan
        assert plan is not None
        wanted = [x.clone().requires_grad_() for x in (q, k, v)]
        calls: dict[str, Callable[[], None]] = {
            "forward": prepare_call(case.run, q, k, v, "cpu", **case.given),
            "training": prepare_call(case.run, *wanted, "cpu", **case.given),
        }
        for what, times in interleaved_rounds(calls, 7, most_seconds=6, least=3).items():
            found.append(
                {
                    "mask": case.name,
                    "what": what,
                    "visited": round(plan.visited, 4),
                    "ms": round(median(times), 2),
                }
            )
    for row in found:
        whole = max(x["visited"] for x in found if x["mask"] == row["mask"])
        full = next(
            x["ms"]
            for x in found
            if (x["mask"], x["what"], x["visited"]) == (row["mask"], row["what"], whole)
        )
        row["ms per share / densest"] = round(row["ms"] / row["visited"] / (full / whole), 2)
    return found


def draw(rows: list[dict], title: str, path: Path) -> None:
    """Draw time against share, a panel each for forward and training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for place, what in enumerate(("forward", "training")):
        axes = figure.add_subplot(1, 2, place + 1)
        for mask, mark in (("causal window", "o-"), ("documents", "s-"), ("random cells", "^-")):
            own = [row for row in rows if (row["mask"], row["what"]) == (mask, what)]
            own.sort(key=lambda row: row["visited"])
            axes.plot([r["visited"] for r in own], [r["ms"] for r in own], mark, label=mask)
        axes.set(title=what, xlabel="share of blocks visited", xlim=(0, None), ylim=(0, None))
        axes.set_ylabel("ms")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure, report and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8192, help="N")
    parser.add_argument("--heads", type=int, default=2, help="H")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it; needs matplotlib")
    options = parser.parse_args()
    found = measure(options.rows, options.heads)
    report("time over density", found, Path(__file__).with_suffix(".json"))
    if options.plot:
        size = f"B1 H{options.heads} N{options.rows} D64, float32"
        draw(found, f"Backend cpu, {size}", options.plot)


if __name__ == "__main__":
    main()
