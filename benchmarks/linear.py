"""Linear attention by state beside torch's softmax attention, over a long row on this CPU."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _measure import interleaved_ms, report
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import regard as rg

SHAPE = (1, 8, 16_384, 64)
# How many times as fast as softmax it is to be.
BAR = 30
ROUNDS = 3


def elu_plus_one(row):
    """Return elu(row) + 1, the feature map of Katharopoulos et al. 2020."""
    return rg.relu(row) + rg.exp(rg.min(row, 0.0))


@rg.program
def causal(pair):
    """Linear attention, causal."""
    return rg.linear(elu_plus_one(pair.q), elu_plus_one(pair.k), where=pair.j <= pair.i)


@rg.program
def bidirectional(pair):
    """Linear attention over all keys."""
    return rg.linear(elu_plus_one(pair.q), elu_plus_one(pair.k))


def trained(forward: Callable[..., Tensor], grad: Tensor, *tensors: Tensor) -> object:
    """Run forward and backward."""
    leaves = [tensor.detach().requires_grad_() for tensor in tensors]
    return torch.autograd.grad(forward(*leaves), leaves, grad)


def main() -> None:
    """Measure, print and write."""
    tensors = tuple(torch.randn(3, *SHAPE))
    grad, rows = torch.randn(SHAPE), []
    for program in (causal, bidirectional):
        ours = partial(rg.attend, program)
        softmax = partial(scaled_dot_product_attention, is_causal=program is causal)
        assert rg.explain(program, *tensors).backend == "linear"
        for part in ("forward", "forward + backward"):
            runs = {"ours": ours, "softmax": softmax}
            if part != "forward":
                runs = {name: partial(trained, run, grad) for name, run in runs.items()}
            calls = {name: partial(run, *tensors) for name, run in runs.items()}
            times = interleaved_ms(calls, ROUNDS)
            ratio = times["softmax"] / times["ours"]
            verdict = "reached" if ratio >= BAR else "not reached"
            rows.append({"program": program.name, "part": part, "linear ms": times["ours"],
                         "softmax ms": times["softmax"], "ratio": ratio,
                         f"bar {BAR}": verdict})  # fmt: skip
    title = "linear attention by state beside softmax, B 1, H 8, N 16384, D 64, float32"
    report(title, rows, Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    main()
