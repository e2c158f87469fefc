"""Weights become parts whose row numbers may be found after the pair's numbers were used."""

import pytest
import torch

import regard as rg
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.types import axes_of
from regard.passes.build import ONE, call, neg, select
from regard.passes.linear_weights import Part, linear_parts
from regard.passes.lower import lower

ROWS, KEYS = 5, 7


def score(p):
    return rg.dot(p.q, p.k)


def other(p):
    return rg.softmax(score(p) * 0.5, where=p.j <= p.i)


def lowered_parts(weights):
    """The lowered program of some weights, and its parts."""
    lowered = lower(rg.program(weights).root, seeded=True)
    atoms = {
        select(term.hole("seen"), term.num): term.name if term.exponents else ""
        for term in lowered.terms
    }
    return lowered, linear_parts(lowered.weights, atoms)


LINEAR = {
    "one softmax": (lambda p: rg.softmax(score(p)), 1),
    "difference": (lambda p: rg.softmax(score(p)) - rg.parameter("share") * other(p), 2),
    "negated sum": (lambda p: -(rg.softmax(score(p)) + other(p)), 2),
    "product": (lambda p: rg.softmax(score(p)) * other(p), 1),
    "product of sums": (lambda p: (rg.softmax(score(p)) + other(p)) * rg.weigh(rg.exp(-p.j)), 2),
    "row factors": (lambda p: rg.softmax(score(p)) * rg.query_feature("f") / 3.0, 1),
    "pair factors": (lambda p: rg.softmax(score(p)) * rg.exp(-abs(p.i - p.j)), 1),
    "weigh": (lambda p: rg.weigh(rg.sigmoid(score(p)), where=p.j <= p.i), 1),
    "ratio": (lambda p: rg.ratio(rg.relu(rg.exp(score(p)) - 1), add=1.0), 1),
    "dropout": (lambda p: rg.dropout(rg.softmax(score(p)), 0.5) - other(p), 2),
}
NEVER = {
    "clipped": lambda p: rg.map(lambda w: rg.clip(w, 0.1, 0.5), rg.softmax(score(p))),
    "clipped in a sum": lambda p: (
        other(p) + rg.map(lambda w: rg.relu(w - 0.1), rg.softmax(score(p)))
    ),
    "squared": lambda p: (lambda w: w * w)(rg.softmax(score(p))),
}


def values_of(lowered):
    """An evaluator in which every row value is a number that nothing else is."""
    torch.manual_seed(0)
    holes = {}
    for term in lowered.terms:
        for letter in "mrsx":
            holes[f"{letter}:{term.name}"] = torch.rand(1, 1, ROWS, 1, 1).double() + 0.5
        holes[f"seen:{term.name}"] = torch.rand(1, 1, ROWS, KEYS, 1) > 0.3
    q, k = torch.randn(1, 1, ROWS, 3).double(), torch.randn(1, 1, KEYS, 3).double()
    data = {"q": q, "k": k, "v": k, "share": torch.tensor(0.3).double()}
    data["f"] = torch.randn(1, 1, ROWS).double()
    positions = torch.arange(ROWS)[None], torch.arange(KEYS)[None]
    bound = Bound(data, *positions, total_heads=1, seed=3)
    return Evaluator(bound, Tile(0, ROWS, 0, KEYS), holes, Cache())


@pytest.mark.parametrize("name", LINEAR)
def test_sum_of_the_parts_is_the_weights(name):
    weights, count = LINEAR[name]
    lowered, parts = lowered_parts(weights)
    assert parts is not None and len(parts) == count
    at = values_of(lowered)
    found = sum(at.real(part.row) * at.real(part.pair) for part in parts)
    torch.testing.assert_close(found, at.real(lowered.weights).expand_as(found))


@pytest.mark.parametrize("name", LINEAR)
def test_rows_read_no_pair_and_pairs_no_row_value(name):
    for part in lowered_parts(LINEAR[name][0])[1]:
        assert "j" not in axes_of(part.row)
        holes = {node.name for node in n.walk(part.pair) if isinstance(node, n.Hole)}
        assert not {hole for hole in holes if hole[0] in "rsx" and hole[1] == ":"}


@pytest.mark.parametrize("name", NEVER)
def test_weights_that_need_a_row_sum_first_have_no_parts(name):
    assert lowered_parts(NEVER[name])[1] is None


def test_difference_is_split_as_documented():
    # Before: softmax a - share · softmax b.   After: (r:a, p:a) and (-share · r:b, p:b).
    share = n.Array("share", (), "parameter", None)
    p, r = (lambda x: n.Hole(f"p:{x}", "bhij")), (lambda x: n.Hole(f"r:{x}", "bhi"))
    product = [n.Call("mul", (p(x), r(x))) for x in "ab"]
    weights = n.Call("sub", (product[0], n.Call("mul", (share, product[1]))))
    first, second = linear_parts(weights, {p("a"): "a", p("b"): "b"})
    assert (first.row, first.pair, first.terms) == (r("a"), p("a"), ("a",))
    assert (second.pair, second.terms) == (p("b"), ("b",))
    assert second.row is neg(n.Call("mul", (r("b"), share)))


def test_powers_of_a_row_tell_which_normalisers_it_is_linear_in():
    def powers(row):
        return Part(row, ONE).powers

    a, b, x = n.Hole("r:a", "bhi"), n.Hole("r:b", "bhi"), n.Hole("x", "bhi")
    assert powers(ONE) == {}
    assert powers(neg(call("mul", a, x))) == {"a": 1}
    assert powers(call("mul", call("mul", a, b), a)) == {"a": 2, "b": 1}
    assert powers(call("div", a, x)) == {"a": 1}
    # No power of r: the gradient takes a sweep.
    assert powers(call("div", x, a)) is None and powers(call("add", a, x)) is None


def test_term_that_is_not_shifted_is_scaled_by_nothing():
    lowered, (part,) = lowered_parts(lambda p: rg.weigh(rg.sigmoid(score(p))))
    assert part.row is ONE and part.terms == ()
    assert part.pair is lowered.weights
