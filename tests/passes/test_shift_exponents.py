"""A ratio of exponentials is computed times exp(-m) exactly when that changes nothing."""

import math

import pytest
import torch

import regard as rg
from regard.ir import nodes as n
from regard.passes.build import ZERO, mul
from regard.passes.shift_exponents import has_exponentials, shift_exponents

M = n.Hole("m:a", "bhi")
S, T, KEY = n.PairInput("s"), n.PairInput("t"), n.Feature("key", "f")
ONE = n.Const(1)
UNIT = n.Call("exp", (n.Call("neg", (M,)),))
HIDDEN = n.Const(-math.inf)


def call(op, *args):
    return n.Call(op, args)


def exp(x):
    return call("exp", x)


def shifted(x):
    return exp(call("sub", x, M))


def where(condition, yes, no):
    return call("where", condition, yes, no)


SEEN = call("lt", KEY, n.Const(0))
CASES = {
    "an exponential": (exp(S), shifted(S), [S]),
    "softpick": (
        call("relu", call("sub", exp(S), ONE)),
        call("relu", call("sub", shifted(S), mul(ONE, UNIT))),
        [S, ZERO],
    ),
    "a sum": (call("add", exp(S), exp(T)), call("add", shifted(S), shifted(T)), [S, T]),
    "a factor": (call("mul", KEY, exp(S)), call("mul", shifted(S), KEY), [S]),
    "a quotient": (call("div", exp(S), KEY), call("div", shifted(S), KEY), [S]),
    "zero needs no shift": (call("max", exp(S), n.Const(0.0)), None, [S]),
    "a choice": (
        where(SEEN, exp(S), ONE),
        where(SEEN, shifted(S), mul(ONE, UNIT)),
        [where(SEEN, S, HIDDEN), where(call("not", SEEN), ZERO, HIDDEN)],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_homogeneous_expression_is_shifted(name):
    # Before: CASES[name][0].   After: CASES[name][1], with the exponents m must not be below.
    before, after, exponents = CASES[name]
    found = shift_exponents(before, M)
    assert found is not None
    assert after is None or found.body is after
    assert {meaning(x) for x in found.exponents} == {meaning(x) for x in exponents}


def meaning(exponent):
    """An exponent in a choice, whichever branch it is written in."""
    if isinstance(exponent, n.Call) and exponent.op == "where":
        condition, yes, no = exponent.args
        if yes is HIDDEN:
            condition, yes = call("not", condition), no
        return condition, yes
    return exponent


NEVER = {
    "a product of two": call("mul", exp(S), exp(T)),
    "a square": call("pow", exp(S), n.Const(2)),
    "a quotient by one": call("div", ONE, exp(S)),
    "a tanh of one": call("tanh", exp(S)),
    "a sum with such": call("add", exp(S), call("mul", exp(S), exp(S))),
    "a choice with such": where(SEEN, exp(S), call("log", exp(S))),
    "one inside an index": n.Reduce(call("mul", n.Vector("key", "k"), exp(S)), "c"),
}


@pytest.mark.parametrize("name", NEVER)
def test_other_expression_is_left_alone(name):
    assert has_exponentials(NEVER[name])
    assert shift_exponents(NEVER[name], M) is None


def ratios():
    def one(pair):
        return rg.exp(rg.pair_input("s"))

    return {
        "plain": lambda p: rg.ratio(one(p)),
        "softpick": lambda p: rg.ratio(rg.relu(one(p) - 1), abs(one(p) - 1)),
        "added": lambda p: rg.ratio(one(p), add=1.0),
        "at least": lambda p: rg.ratio(one(p), at_least=2.0),
        "chosen": lambda p: rg.ratio(rg.where(p.j < 3, one(p), rg.exp(-rg.pair_input("s")))),
        "learned": lambda p: rg.ratio(one(p), add=rg.exp(rg.parameter("a"))),
        "two terms": lambda p: rg.ratio(one(p) + 2 * rg.exp(-rg.pair_input("s"))),
    }


@pytest.mark.parametrize("backend", ["reference", "tiled"])
@pytest.mark.parametrize("offset", [0.0, 900.0, -900.0])
@pytest.mark.parametrize("name", ratios())
def test_exponents_beyond_all_floats_give_finite_weights_and_gradients(name, offset, backend):
    program = rg.program(ratios()[name])
    s = (torch.randn(1, 1, 4, 5, dtype=torch.float64) + offset).requires_grad_()
    q, k = torch.zeros(1, 1, 4, 2, dtype=torch.float64), torch.zeros(1, 1, 5, 2).double()
    v = torch.randn(1, 1, 5, 3, dtype=torch.float64, requires_grad=True)
    named = {"a": torch.tensor(0.5, dtype=torch.float64, requires_grad=True)}
    named = named if any(leaf.name == "a" for leaf in program.inputs) else {}
    output = rg.attend(program, q, k, v, s=s, backend=backend, **named)
    assert output.isfinite().all()
    assert output.any() or offset < 0
    for grad in torch.autograd.grad(output.sum(), [s, v, *named.values()]):
        assert grad.isfinite().all()


def test_unchosen_exponent_does_not_drown_the_chosen_ones():
    program = rg.program(
        lambda p: rg.ratio(rg.where(p.j < 3, rg.exp(rg.pair_input("s")), 1e-3)), contracts=()
    )
    s = torch.zeros(1, 1, 1, 5)
    s[..., 3:] = 500.0  # never chosen
    v = torch.eye(5)[None, None]
    q = torch.zeros(1, 1, 1, 2)
    for backend in ("reference", "tiled"):
        weights = rg.attend(program, q, torch.zeros(1, 1, 5, 2), v, s=s, backend=backend)
        expected = torch.tensor([1, 1, 1, 1e-3, 1e-3]) / 3.002
        torch.testing.assert_close(weights[0, 0, 0], expected)
