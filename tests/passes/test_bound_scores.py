"""Bounds that follow from the program, against values on a grid."""

import math

import pytest
import torch

import regard as rg
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.passes.bound_scores import UNKNOWN, bound_of
from regard.testing.programs import PROGRAMS

INF = math.inf


def traced(score):
    found = rg.program(lambda p: rg.softmax(score(p, rg.dot(p.q, p.k)) + p.i * 0.0)).root
    return found.weights.score.args[0]


BOUNDS = {
    "anything": (lambda p, s: s, UNKNOWN),
    "soft cap": (lambda p, s: 20 * rg.tanh(s / 20), (-20, 20)),
    "sigmoid": (lambda p, s: -3 * rg.sigmoid(s) + 1, (-2, 1)),
    "clip": (lambda p, s: rg.clip(s, -4, 5), (-4, 5)),
    "half clip": (lambda p, s: rg.min(s, 5), (-INF, 5)),
    "waves": (lambda p, s: rg.cos(s) - rg.sin(2 * s), (-2, 2)),
    "product": (lambda p, s: rg.tanh(s) * rg.clip(s, 2, 3), (-3, 3)),
    "square": (lambda p, s: rg.tanh(s) * rg.tanh(s), (0, 1)),
    "power": (lambda p, s: rg.clip(s, -2, 3) ** 2, (0, 9)),
    "odd power": (lambda p, s: rg.clip(s, -2, 3) ** 3, (-8, 27)),
    "inverse": (lambda p, s: (1 + rg.relu(s)) ** -1, (0, 1)),
    "root": (lambda p, s: rg.clip(s, 4, 9) ** 0.5, (2, 3)),
    "no root": (lambda p, s: rg.tanh(s) ** 0.5, UNKNOWN),
    "free exponent": (lambda p, s: rg.exp(s) ** s, (0, INF)),
    "gaussian": (lambda p, s: rg.exp(-rg.sum((p.q - p.k) * (p.q - p.k)) / p.width), (0, 1)),
    "exp of a cap": (lambda p, s: rg.exp(rg.clip(s, 0, 0)), (1, 1)),
    "huge": (lambda p, s: rg.exp(rg.clip(s, 0, 9999)), (1, INF)),
    "huge power": (lambda p, s: rg.clip(s, -1e200, 0) ** 3, (-INF, 0)),
    "logarithm": (lambda p, s: rg.log(rg.clip(s, 1, 1)), (0, 0)),
    "no logarithm": (lambda p, s: rg.log(rg.relu(s)), UNKNOWN),
    "sqrt": (lambda p, s: rg.sqrt(abs(rg.clip(s, -4, 1))), (0, 2)),
    "softplus": (lambda p, s: rg.softplus(s), (0, INF)),
    "erf": (lambda p, s: rg.erf(s), (-1, 1)),
    "relu": (lambda p, s: rg.relu(rg.clip(s, -4, 3)), (0, 3)),
    "sign": (lambda p, s: rg.sign(s), (-1, 1)),
    "floor": (lambda p, s: rg.floor(rg.clip(s, -0.5, 2.5)), (-1, 2)),
    "quotient": (lambda p, s: rg.tanh(s) / rg.clip(s, 2, 4), (-0.5, 0.5)),
    "by what may be zero": (lambda p, s: rg.tanh(s) / rg.relu(s), UNKNOWN),
    "whole quotient": (lambda p, s: rg.clip(p.i, -7, 7) // 2, (-4, 3)),
    "whole quotient of itself": (lambda p, s: p.i % 50 // 49, (0, 1)),
    "remainder": (lambda p, s: (p.i - p.j) % 7, (0, 6)),
    "negative remainder": (lambda p, s: (p.i - p.j) % -7, (-6, 0)),
    "real remainder": (lambda p, s: s % 1.5, (0, 1.5)),
    "remainder by anything": (lambda p, s: (p.i - p.j) % p.j, UNKNOWN),
    "choice": (lambda p, s: rg.where(s > 0, rg.tanh(s), 7), (-1, 7)),
    "hidden": (lambda p, s: rg.where(s > 0, rg.tanh(s), -INF), (-INF, 1)),
    "hidden twice": (lambda p, s: rg.where(s > 0, s, -INF) + rg.where(s > 0, 1, INF), UNKNOWN),
    "truth": (lambda p, s: rg.where(s > 0, 1, 0) + rg.keep(0.5, "bhij"), (0, 2)),
    "positions": (lambda p, s: p.i - p.j, UNKNOWN),
    "distance": (lambda p, s: -abs(p.i - p.j), (-INF, 0)),
    "sizes": (lambda p, s: rg.tanh(s) / p.width + p.head / p.heads, (-1, INF)),
    "parameter": (lambda p, s: rg.parameter("a", per="head") + rg.query_feature("f"), UNKNOWN),
    "tamed parameter": (lambda p, s: rg.sigmoid(rg.parameter("a")) * rg.tanh(s), (-1, 1)),
    "visible": (lambda p, s: 1 / (1 + rg.log(1 + p.visible)), (0, 1)),
    "larger": (lambda p, s: rg.max(rg.tanh(s), 0.5), (0.5, 1)),
}


@pytest.mark.parametrize("name", BOUNDS)
def test_bounds_follow_from_the_program(name):
    score, expected = BOUNDS[name]
    assert bound_of(traced(score)) == pytest.approx(expected)


# How many keys are visible is known to a sweep alone.
@pytest.mark.parametrize("name", [name for name in BOUNDS if name != "visible"])
def test_no_value_lies_outside_its_bounds(name):
    node = traced(BOUNDS[name][0])
    values = torch.linspace(-4, 4, 12, dtype=torch.float64)
    q, k = values.view(1, 1, -1, 1), values.flip(0).view(1, 1, -1, 1)
    data = {"q": q, "k": k, "v": k, "a": torch.tensor([3.0]), "f": torch.zeros(1, 1, 12)}
    positions = torch.arange(12)[None] - 4
    bound = Bound(data, positions, positions, total_heads=1)
    at = Evaluator(bound, Tile(0, 12, 0, 12), {}, Cache())
    found = at.number(node).double()
    lo, hi = bound_of(node)
    slack = 1e-9
    assert ((found >= lo - slack) & (found <= hi + slack) | found.isnan()).all()


def test_weights_and_rows_are_bounded():
    weights = PROGRAMS["causal"].root.weights
    assert bound_of(weights) == (0, 1)
    assert bound_of(n.Vector("query", "q")) == UNKNOWN
    assert bound_of(n.Slice(n.Call("tanh", (n.Vector("query", "q"),)), 0, 2)) == (-1, 1)
    assert bound_of(n.Reduce(n.Call("neg", (n.Channel(),)), "c")) == (-INF, 0)
    for op, expected in (("tanh", UNKNOWN), ("sigmoid", (0, INF))):
        assert bound_of(n.Reduce(n.Call(op, (n.Vector("key", "k"),)), "c")) == expected


def test_deep_expressions_are_bounded():
    node = n.Call("tanh", (n.Index("i"),))
    for _ in range(5000):
        node = n.Call("tanh", (node,))
    lo, hi = bound_of(node)
    assert -1 < lo < hi < 1
