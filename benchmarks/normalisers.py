"""Scores and normalisers beside softmax, all in the kernels of the cpu backend."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _measure import interleaved_ms, report
from torch import Tensor

import regard as rg

SHAPE = (1, 8, 2048, 64)
ROUNDS = 7


def score(pair):
    """Return the scaled product."""
    return rg.dot(pair.q, pair.k) / 8


@rg.program
def softmax(pair):
    """What the others are compared with."""
    return rg.softmax(score(pair))


@rg.program
def sigmoid(pair):
    """Sigmoid of the score less the logarithm of the keys' number (Ramapuram et al. 2024)."""
    return rg.weigh(rg.sigmoid(score(pair) - 7.6))


@rg.program
def squared_relu(pair):
    """Squared relu by length (Wortsman et al. 2023)."""
    return rg.weigh(rg.relu(score(pair)) ** 2 / pair.keys)


@rg.program
def softpick(pair):
    """Rectified softmax (Zuhri et al. 2025)."""
    grown = rg.exp(score(pair)) - 1
    return rg.ratio(rg.relu(grown), abs(grown), add=1e-6)


@rg.program
def sink(pair):
    """A learned sink per head."""
    return rg.softmax(score(pair), sink=rg.parameter("sink", per="head"))


@rg.program
def entmax(pair):
    """Sparse weights (Peters et al. 2019)."""
    return rg.entmax(score(pair), 1.5)


@rg.program
def differential(pair):
    """The difference of two softmaxes (Ye et al. 2024)."""
    other = rg.dot(rg.query_vector("q2"), rg.key_vector("k2")) / 8
    return rg.softmax(score(pair)) - 0.5 * rg.softmax(other)


# The most times softmax's time: forward, and forward and backward; None is not bound.
BARS: dict[rg.AttentionProgram, tuple[float | None, float | None]] = {
    sigmoid: (1.1, 1.1),
    squared_relu: (1.1, 1.1),
    softpick: (1.1, 1.1),
    sink: (1.1, 1.1),
    entmax: (2.5, None),
    differential: (None, 1.9),
}


def inputs_of(program: rg.AttentionProgram) -> dict[str, Tensor]:
    """Return what a call takes."""
    inputs = {name: torch.randn(SHAPE) for name in "qkv"}
    if program is sink:
        inputs["sink"] = torch.zeros(SHAPE[1])
    if program is differential:
        inputs |= {name: torch.randn(SHAPE) for name in ("q2", "k2")}
    return inputs


def forward(program: rg.AttentionProgram, inputs: dict[str, Tensor]) -> Tensor:
    """Run forward."""
    return rg.attend(program, backend="cpu", **inputs)


def both(program: rg.AttentionProgram, inputs: dict[str, Tensor]) -> object:
    """Run forward and backward."""
    leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
    return torch.autograd.grad(forward(program, leaves).sum(), list(leaves.values()))


def main() -> None:
    """Measure, print and write."""
    rows: list[dict[str, object]] = []
    programs = [softmax, *BARS]
    inputs = {program.name: inputs_of(program) for program in programs}
    parts: dict[str, Callable] = {"forward": forward, "forward + backward": both}
    for place, (part, run) in enumerate(parts.items()):
        calls = {one.name: partial(run, one, inputs[one.name]) for one in programs}
        times = interleaved_ms(calls, ROUNDS)
        for program, bars in BARS.items():
            ratio, bar = times[program.name] / times["softmax"], bars[place]
            verdict = "" if bar is None else "reached" if ratio <= bar else "not reached"
            rows.append({"program": program.name, "part": part, "ms": times[program.name],
                         "times softmax": ratio, "bar": bar or "", "": verdict})  # fmt: skip
    title = "times the time of softmax, backend cpu, B 1, H 8, N 2048, D 64, float32"
    report(title, rows, Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    main()
