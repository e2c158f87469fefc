"""Which programs are scaled dot-product attention, and why the others are not."""

import math
from operator import neg

import pytest

import regard as rg
from regard.ir import nodes as n
from regard.passes.recognise_sdpa import number_of, recognise_sdpa


def parts(fn, width=16):
    return recognise_sdpa(rg.program(fn).root, width)


def score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


SCALES = {
    "divided by the root": (score, 0.25),
    "keys first": (lambda p: rg.dot(p.k, p.q) * 0.5, 0.5),
    "twice": (lambda p: rg.dot(p.q, p.k) + rg.dot(p.q, p.k) / 2, 1.5),
    "less a part": (lambda p: rg.dot(p.q, p.k) - 0.25 * rg.dot(p.q, p.k), 0.75),
    "two factors": (lambda p: 2 * (rg.dot(p.q, p.k) * 3.0) / p.width, 0.375),
    "a power of the width": (lambda p: rg.dot(p.q, p.k) * p.width**-0.5, 0.25),
    "a run-time scalar": (lambda p: rg.dot(p.q, p.k) / rg.scalar("heat"), 0.5),
    "minus minus": (lambda p: neg(neg(rg.dot(p.q, p.k))), 1.0),
}


@pytest.mark.parametrize("name", SCALES)
def test_scale_is_recognised_however_it_is_written(name):
    fn, expected = SCALES[name]
    found = parts(lambda p: rg.softmax(fn(p)))
    assert not isinstance(found, str)
    assert number_of(found.scale, 16, {"heat": 2.0}) == expected
    assert (found.bias, found.where, found.causal) == (None, None, False)


def test_bias_where_and_causality_are_taken_apart():
    # Before: softmax(dot(q, k) / sqrt(width) - slope · |i - j|, j <= i) summed over v.
    # After: scale 1/√D, bias -slope · |i - j|, causal.
    def alibi(pair):
        slope = rg.parameter("slope", per="head")
        return rg.softmax(score(pair) - slope * abs(pair.i - pair.j), where=pair.i >= pair.j)

    found = parts(alibi)
    slope = n.Array("parameter", "slope", ("head",), n.Init("zeros"))
    i_minus_j = n.Call("sub", (n.Index("i"), n.Index("j")))
    product = n.Call("mul", (slope, n.Call("abs", (i_minus_j,))))
    assert found.bias is n.Call("neg", (product,))
    assert found.causal and found.where is n.Call("ge", (n.Index("i"), n.Index("j")))
    assert not parts(lambda p: rg.softmax(score(p), where=p.j < p.i)).causal


REASONS = {
    "its weights are not one softmax": lambda p: rg.weigh(score(p)),
    "torch's kernels have no sink": lambda p: rg.softmax(score(p), sink=0.0),
    "torch's kernels sum v itself and finish nothing": (
        lambda p: rg.output(rg.softmax(score(p)), values=2 * p.v)
    ),
    "its score is not a multiple of dot(q, k) plus a bias": (
        lambda p: rg.softmax(score(p) + rg.dot(p.q, p.q))
    ),
    "its score is not a multiple of dot(q, k)": lambda p: rg.softmax(-abs(p.i - p.j)),
    "it counts, selects or draws keys per row": (
        lambda p: rg.softmax(score(p) + rg.log(p.visible))
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_program_that_is_something_else_gets_the_reason(reason):
    assert parts(REASONS[reason]) == reason


OTHERS = {
    "a gate on the weights": lambda p: rg.softmax(score(p)) * 2.0,
    "a finish": lambda p: rg.output(rg.softmax(score(p)), finish=lambda row: 2 * row),
    "a soft cap": lambda p: rg.softmax(rg.tanh(score(p))),
    "a scale per head": lambda p: rg.softmax(score(p) * rg.parameter("g", per="head")),
    "a scale per row": lambda p: rg.softmax(score(p) * rg.query_feature("g")),
    "a product of parts of the rows": lambda p: rg.softmax(rg.dot(p.q[:4], p.k[:4])),
    "a product of scores": lambda p: rg.softmax(score(p) * score(p)),
    "dropped keys": lambda p: rg.softmax(score(p), where=rg.keep(0.1)),
    "best keys": lambda p: rg.softmax(score(p), where=rg.topk(score(p), 3)),
    "dropped weights": lambda p: rg.dropout(rg.softmax(score(p)), 0.1),
    "a hidden score": lambda p: rg.softmax(rg.where(p.j < 3, score(p), -math.inf)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_similar_program_is_not_mistaken(name):
    assert isinstance(parts(OTHERS[name]), str)


def test_scale_that_has_no_value_is_not_a_number():
    found = parts(lambda p: rg.softmax(rg.dot(p.q, p.k) / (p.width - p.width)))
    assert math.isnan(number_of(found.scale, 16, {}))
    root = parts(lambda p: rg.softmax(rg.dot(p.q, p.k) * rg.sqrt(p.width - 20)))
    assert math.isnan(number_of(root.scale, 16, {}))
