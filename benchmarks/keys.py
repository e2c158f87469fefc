"""Attention to some keys alone: time with these gathered once, and with others hidden in place.

Both run in turn on the backend that "auto" chooses, whatever the rule of `ops/gather` says; the
note tells what it does say. Writes keys.json beside this file.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from unittest.mock import patch

import torch
from _measure import Row, Table, interleaved_rounds
from torch import Tensor

import regard as rg
from regard.ops import gather

DENSITIES = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
RUNS = (16, 64, 256)


@rg.program
def kept(pair):
    """Scaled dot product with some keys."""
    score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)
    return rg.softmax(score, where=rg.key_feature("keep"))


@rg.program
def causal(pair):
    """The same, looking back."""
    score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)
    return rg.softmax(score, where=(pair.j <= pair.i) & rg.key_feature("keep"))


@rg.program
def alibi(pair):
    """The same, with a slope, which is tabulated if keys stand at their rows."""
    score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)
    score = score - rg.parameter("slope", per="head", init=rg.init.alibi) * (pair.i - pair.j)
    return rg.softmax(score, where=(pair.j <= pair.i) & rg.key_feature("keep"))


@rg.program
def window(pair):
    """The same, at most 256 back."""
    score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)
    near = (pair.j <= pair.i) & (pair.i - pair.j < 256)
    return rg.softmax(score, where=near & rg.key_feature("keep"))


def masks(batch: int, keys: int) -> dict[str, Tensor]:
    """Return which keys are kept, (B, 1, M), by what is to be said of them."""
    generator = torch.Generator().manual_seed(0)

    def drawn(share: float, run: int = 1) -> Tensor:
        found = torch.rand(batch, 1, keys // run, generator=generator) < share
        return found.repeat_interleave(run, dim=2)

    found = {f"random, {share:.0%}": drawn(share) for share in DENSITIES}
    found |= {f"runs of {run}, 50%": drawn(0.5, run) for run in RUNS}
    return {**found, "the first half": torch.arange(keys).expand(batch, 1, keys) < keys // 2}


def call(program, tensors: dict[str, Tensor], backward: bool, share: float) -> Callable:
    """Return a call that gathers if it leaves less than a share of the keys."""

    def run() -> None:
        with patch.object(gather, "LARGEST_SHARE", share):
            output = rg.attend(program, **tensors)
        if backward:
            output.backward(output.detach())

    return run


def says_gather(keep: Tensor) -> bool:
    """Tell what the rule says of a mask."""
    return gather.gathered_size(keep[:, 0]) is not None


def measure(table: Table, program, shape: tuple[int, ...], rounds: int) -> None:
    """Measure all masks of a program."""
    batch, heads, length, width = shape
    group = f"{program.name}, B {batch}, H {heads}, N = M = {length}, D {width}"
    for name, keep in masks(batch, length).items():
        for backward in (False, True):
            made = torch.randn(3, *shape)
            rows = {letter: made[at].clone() for at, letter in enumerate("qkv")}
            tensors = {letter: x.requires_grad_(backward) for letter, x in rows.items()}
            run = partial(call, program, {**tensors, "keep": keep}, backward)
            contenders = {"gathered": run(2.0), "in place": run(0.0)}
            times = interleaved_rounds(contenders, rounds, 2, most_seconds=1.5, least=3)
            ratios = [b / a for a, b in zip(times["gathered"], times["in place"], strict=True)]
            low, _, high = quantiles(ratios, n=4)
            table.add(
                Row(
                    group,
                    name,
                    "forward + backward" if backward else "forward",
                    "hidden in place",
                    median(ratios),
                    "× as fast",
                    median(times["gathered"]),
                    median(times["in place"]),
                    (low, high),
                    note="gathers" if says_gather(keep) else "leaves it",
                )
            )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="one program alone, short")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    table = Table("keys gathered, beside keys hidden in place")
    table.start()
    measure(table, kept, (1, 4, 1024, 64), options.rounds)
    if not options.quick:
        for program in (kept, causal, alibi, window):
            measure(table, program, (2, 4, 2048, 64), options.rounds)
    table.write(Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    main()
