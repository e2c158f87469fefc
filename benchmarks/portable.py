"""The tiled backend beside eager PyTorch and torch's fused SDPA, forward and training, on this CPU.

Ratios above 1 mean that Regard's tiled backend is faster than the peer.
"""

import math
from functools import partial
from pathlib import Path

import torch
from _measure import interleaved_ms, report
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import regard as rg


@rg.program
def plain(pair):
    """Scaled dot product."""
    return rg.softmax(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width))


@rg.program
def local_alibi(pair):
    """ALiBi within a causal window of 256."""
    slope = rg.parameter("slope", per="head", init=rg.init.alibi)
    score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width) - slope * abs(pair.i - pair.j)
    return rg.softmax(score, where=(pair.j <= pair.i) & (pair.i - pair.j < 256))


@rg.program
def additive(pair):
    """Additive attention."""
    units = rg.parameter("units", per=("head", "channel"), init=rg.init.normal(1.0))
    return rg.softmax(rg.sum(units * rg.tanh(pair.q + pair.k)))


def eager_plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return plain attention with dense weights."""
    return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1) @ v


def eager_alibi(q: Tensor, k: Tensor, v: Tensor, slope: Tensor) -> Tensor:
    """Return local ALiBi attention with dense weights."""
    i, j = torch.arange(q.shape[2])[:, None], torch.arange(k.shape[2])
    score = q @ k.mT / math.sqrt(q.shape[-1]) - slope[:, None, None] * (i - j).abs()
    return torch.softmax(score.masked_fill((j > i) | (i - j >= 256), -torch.inf), -1) @ v


def eager_additive(q: Tensor, k: Tensor, v: Tensor, units: Tensor) -> Tensor:
    """Return additive attention with a dense (N, M, D) tensor."""
    score = (torch.tanh(q.unsqueeze(3) + k.unsqueeze(2)) * units[:, None, None]).sum(-1)
    return torch.softmax(score, -1) @ v


def make(heads: int, rows: int, width: int) -> list[Tensor]:
    """Return q, k and v that require gradients."""
    return [torch.randn(1, heads, rows, width, requires_grad=True) for _ in range(3)]


def trained(run, leaves: list[Tensor]):
    """Return a function that runs forward and backward."""
    return lambda: torch.autograd.grad(run().sum(), leaves)


def measure(
    name: str, rows: int, contenders: dict, leaves: list[Tensor]
) -> list[dict[str, object]]:
    """Return two lines of the table: forward, and forward with backward."""
    lines = []
    for what, wrap in (
        ("forward", lambda run: run),
        ("training", lambda run: trained(run, leaves)),
    ):
        with torch.set_grad_enabled(what == "training"):
            found = interleaved_ms({key: wrap(run) for key, run in contenders.items()})
        line: dict[str, object] = {
            "program": name,
            "N": rows,
            "what": what,
            "tiled ms": found["tiled"],
        }
        for peer in ("sdpa", "eager"):
            line[f"{peer} / tiled"] = found[peer] / found["tiled"] if peer in found else "-"
        lines.append(line)
    return lines


def main() -> None:
    """Measure and report."""
    torch.manual_seed(0)
    rows: list[dict[str, object]] = []
    for size in (512, 2048):
        q, k, v = leaves = make(8, size, 64)
        contenders = {
            "tiled": partial(rg.attend, plain, q, k, v, backend="tiled"),
            "sdpa": partial(scaled_dot_product_attention, q, k, v),
            "eager": partial(eager_plain, q, k, v),
        }
        rows += measure("plain", size, contenders, leaves)
        slope = torch.tensor([2.0 ** -(h + 1) for h in range(8)], requires_grad=True)
        contenders = {
            "tiled": partial(rg.attend, local_alibi, q, k, v, slope=slope, backend="tiled"),
            "eager": partial(eager_alibi, q, k, v, slope),
        }
        rows += measure("local_alibi", size, contenders, [*leaves, slope])
    q, k, v = leaves = make(8, 256, 64)
    units = torch.randn(8, 64, requires_grad=True)
    contenders = {
        "tiled": partial(rg.attend, additive, q, k, v, units=units, backend="tiled"),
        "eager": partial(eager_additive, q, k, v, units),
    }
    rows += measure("additive", 256, contenders, [*leaves, units])
    report("tiled backend, B1 H8 D64 float32", rows, Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    main()
