"""Programs that the tests of kernels share, so that few kernels are built, and how they are run.

None reads the width of rows, which would stand in its kernel as a number.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import regard as rg

Tensors = dict[str, Tensor]
View = Callable[[Tensor], Tensor]


def score(pair):
    return 0.25 * rg.dot(pair.q, pair.k)


@rg.program
def near(pair):
    """Blocks that are hidden, mixed and whole, and a learned number per head."""
    slope = rg.parameter("slope", per="head", init=rg.init.alibi)
    return rg.softmax(score(pair) - slope * abs(pair.i - pair.j), where=pair.j <= pair.i)


@rg.program
def everything(pair):
    """Blocks that are all whole, also where the last is ragged."""
    return rg.softmax(score(pair))


@rg.program
def additive(pair):
    """A sum over channels that is no product."""
    direction = rg.parameter("direction", per="channel", init=rg.init.normal(0.5))
    return rg.softmax(rg.sum(direction * rg.tanh(pair.q + pair.k)))


@rg.program
def sinking(pair):
    """A largest exponent that does not start from nothing, and a feature of either side."""
    seen = rg.query_feature("part") == rg.key_feature("kind")
    return rg.softmax(score(pair), sink=rg.parameter("sink", per="head"), where=seen)


@rg.program
def difference(pair):
    """Two terms, whose largest exponents rise apart."""
    other = rg.softmax(rg.tanh(score(pair)), where=pair.i - pair.j < 200)
    return rg.softmax(score(pair)) - 0.5 * other


@rg.program
def share(pair):
    """Weights without exponentials, and a row of their own to look at."""
    return rg.ratio(rg.softplus(score(pair)), where=pair.j <= pair.i, add=0.5)


@rg.program
def striped(pair):
    """Query rows that see all keys on either side of rows that see none, in steps of 32."""
    return rg.softmax(score(pair), where=(pair.i // 32) % 2 == 0)


@rg.program
def dropping(pair):
    """Draws along all axes and along keys alone."""
    kept = rg.keep(0.3, "j")
    return rg.dropout(rg.softmax(score(pair), where=kept & (pair.j <= pair.i)), 0.4)


def rows(b=1, h=2, g=1, n=17, m=19, d=8, e=8, dtype=torch.float64) -> Tensors:
    """Return q, k and v."""
    shapes = {"q": (b, h, n, d), "k": (b, g, m, d), "v": (b, g, m, e)}
    return {name: torch.randn(shape).to(dtype) for name, shape in shapes.items()}


def run(program, tensors: Tensors, views: dict[str, View] | None = None, **options: Any) -> Tensors:
    """Attend to views of tensors, and return the output and what each tensor receives."""
    views = views or {}
    heads, channels = (views.get("q", lambda x: x)(tensors["q"]).shape[dim] for dim in (1, 3))
    parameters = {
        near: {"slope": torch.linspace(0.01, 0.2, heads).to(tensors["q"].dtype)},
        additive: {"direction": torch.linspace(-1, 1, channels).to(tensors["q"].dtype)},
    }
    tensors = {**parameters.get(program, {}), **tensors}
    leaves = {name: x.detach().clone() for name, x in tensors.items()}
    learned = {name: x.requires_grad_() for name, x in leaves.items() if x.is_floating_point()}
    given = {name: views.get(name, lambda x: x)(x) for name, x in leaves.items()}
    output = rg.attend(program, **given, **options)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(7))
    grads = torch.autograd.grad(
        output, list(learned.values()), weights.to(output.dtype), allow_unused=True
    )
    received = zip(learned, grads, strict=True)
    return {"output": output.detach(), **{name: x for name, x in received if x is not None}}
