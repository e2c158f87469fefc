"""Sparse weights in kernels beside the dense `entmax` package: time, and memory as rows grow.

The package is run on dense scores, as it is by default, which sorts whole rows: that is held to the
bar. Beside it stands its fastest setting, told how few of a row's keys have any weight.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import entmax
import torch
from _measure import PeakMemory, cores, interleaved_ms, report
from torch import Tensor

import regard as rg

HEADS, LENGTH, WIDTH = 8, 2048, 64
# How many times as fast as the package, forward and backward; others are not bound.
BARS = {"entmax15": 4}
ROUNDS = 7
# How many of a row's largest scores the package sorts first: at most 54 have weight here.
FIRST = 64
# Lengths at which memory is measured; the package's grows with their square.
OURS_AT, PACKAGE_AT = (2048, 4096, 8192), (2048, 4096)
# The most that memory per row may grow from the shortest row to the longest.
GROWTH = 1.25


def score(pair):
    """Return the scaled product."""
    return rg.dot(pair.q, pair.k) / 8


@rg.program
def entmax15(pair):
    """Weights of α 1.5 (Peters et al. 2019)."""
    return rg.entmax(score(pair), 1.5)


@rg.program
def sparsemax(pair):
    """Weights of α 2 (Martins and Astudillo 2016)."""
    return rg.sparsemax(score(pair))


PROGRAMS = {program.name: program for program in (entmax15, sparsemax)}
Attention = Callable[..., Tensor]


def ours(name: str) -> Attention:
    """Return a program in the kernels of backend cpu."""
    return partial(rg.attend, PROGRAMS[name], backend="cpu")


def package(name: str, first: int | None = None) -> Attention:
    """Return the same by the package, on dense scores."""
    normalise = getattr(entmax, name)
    return lambda q, k, v: normalise(q @ k.mT / 8, dim=-1, k=first) @ v


def rows(length: int) -> list[Tensor]:
    """Return q, k and v."""
    torch.manual_seed(0)
    return [torch.randn(1, HEADS, length, WIDTH) for _ in "qkv"]


def forward(attention: Attention, given: list[Tensor]) -> Tensor:
    """Run forward."""
    with torch.no_grad():
        return attention(*given)


def both(attention: Attention, given: list[Tensor]) -> object:
    """Run forward and backward."""
    leaves = [x.detach().requires_grad_() for x in given]
    output = attention(*leaves)
    return torch.autograd.grad(output, leaves, torch.ones_like(output))


def time_rows(name: str) -> list[dict[str, object]]:
    """Return one program's lines: times beside the package."""
    given, found = rows(LENGTH), []
    runs = {"ours": ours(name), "package": package(name), "told": package(name, FIRST)}
    worst = (ours(name)(*given) - package(name)(*given)).abs().max().item()
    for part, run in {"forward": forward, "forward + backward": both}.items():
        times = interleaved_ms({key: partial(run, one, given) for key, one in runs.items()}, ROUNDS)
        ratio, bar = times["package"] / times["ours"], BARS.get(name) if run is both else None
        verdict = "" if bar is None else "reached" if ratio >= bar else "not reached"
        found.append({"program": name, "part": part, "ours ms": times["ours"],
                      "package ms": times["package"], f"told {FIRST} ms": times["told"],
                      "times as fast": ratio, "as told": times["told"] / times["ours"],
                      "bar": bar or "", "": verdict, "differ by": f"{worst:.0e}"})  # fmt: skip
    return found


# ── Memory, in processes of their own ─────────────────────────────────────────────────────────
def memory_rows(name: str) -> list[dict[str, object]]:
    """Return one program's lines: peak memory of forward and backward, by length."""
    found: list[dict[str, object]] = []
    for whose, lengths in (("ours", OURS_AT), ("package", PACKAGE_AT)):
        grown = {length: grown_bytes(name, whose, length) for length in lengths}
        least = grown[lengths[0]] / lengths[0]
        for length, size in grown.items():
            per_row = size / length / least
            judged = whose == "ours" and length == lengths[-1]
            verdict = ("reached" if per_row <= GROWTH else "not reached") if judged else ""
            found.append({"program": name, "whose": whose, "N": length, "MB": size / 1e6,
                          "per row, times the shortest": per_row,
                          "bar": GROWTH if judged else "", "": verdict})  # fmt: skip
    return found


def grown_bytes(name: str, whose: str, length: int) -> int:
    """Return how far one training step raises the memory of a new process."""
    command = [sys.executable, __file__, name, whose, str(length)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def child(name: str, whose: str, length: int) -> None:
    """Measure one step and print by how much memory grew."""
    torch.set_num_threads(cores())
    run = ours(name) if whose == "ours" else package(name)
    both(run, rows(64))
    given = rows(length)
    with PeakMemory() as peak:
        kept = both(run, given)
    assert kept is not None
    print(json.dumps(peak.grown_bytes))


def main() -> None:
    """Measure, print and write."""
    if len(sys.argv) > 1:
        child(sys.argv[1], sys.argv[2], int(sys.argv[3]))
        return
    here = Path(__file__)
    title = f"sparse weights beside the entmax package, B 1, H {HEADS}, D {WIDTH}, float32"
    times = [row for name in PROGRAMS for row in time_rows(name)]
    report(f"{title}, N {LENGTH}", times, here.with_suffix(".json"))
    memory = [row for name in PROGRAMS for row in memory_rows(name)]
    path = here.with_name(f"{here.stem}_memory.json")
    report(f"{title}: memory of forward and backward", memory, path)


if __name__ == "__main__":
    main()
