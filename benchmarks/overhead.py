"""What a warm call of `attend` costs over its kernel, on this CPU.

The backend "nothing" returns a tensor it made before, so that what is left is Regard. Torch's fused
attention, and an autograd Function that does nothing, stand beside it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from _measure import interleaved_ms, report
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

import regard as rg
from regard.backends.base import register
from regard.testing.programs import causal

# Calls in a row, so that reading the clock and leaving the caches do not count.
CALLS = 500
SHAPE = (1, 1, 16, 16)


class Nothing:
    """A backend that computes nothing."""

    name = "nothing"
    differentiable = False

    def __init__(self) -> None:
        self.output = torch.zeros(SHAPE)

    def supports(self, request):
        """Return None: nothing is always possible."""
        return None

    def compile(self, request):
        """Return no kernel."""
        return None

    def forward(self, kernel, bound):
        """Return the tensor made before."""
        return {"output": self.output.detach()}, {}

    def backward(self, kernel, bound, saved, grads):
        """Return what was received, for every tensor."""
        return {name: grads["output"] for name in bound.tensors}


class Identity(torch.autograd.Function):
    """Keeps three tensors and returns one made before."""

    @staticmethod
    def forward(ctx, output, *tensors):
        """Return the output."""
        ctx.save_for_backward(*tensors)
        return output.detach()

    @staticmethod
    def backward(ctx, grad):
        """Return what was received, for every tensor."""
        return None, grad, grad, grad


def many(run: Callable[[], object]) -> None:
    """Call a function many times."""
    for _ in range(CALLS):
        run()


def main() -> None:
    """Measure and report."""
    nothing = Nothing()
    register(nothing)
    rows: list[Tensor] = [torch.randn(SHAPE) for _ in "qkv"]
    learned = [row.clone().requires_grad_() for row in rows]
    contenders = {
        "sdpa": partial(scaled_dot_product_attention, *rows, is_causal=True),
        "autograd Function": partial(Identity.apply, nothing.output, *learned),
        "attend": partial(rg.attend, causal, *rows, backend="nothing"),
        "attend, gradients": partial(rg.attend, causal, *learned, backend="nothing"),
    }
    found = interleaved_ms({name: partial(many, run) for name, run in contenders.items()}, 21)
    lines: list[dict[str, object]] = [
        {"call": name, "µs": spent / CALLS * 1e3} for name, spent in found.items()
    ]
    report("warm calls, B1 H1 N16 D16 float32", lines, Path(__file__).with_suffix(".json"))


if __name__ == "__main__":
    main()
