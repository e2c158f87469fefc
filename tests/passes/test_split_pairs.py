"""Pair expressions are split into rows, products of rows, sums over channels and the rest."""

import pytest
import torch

import regard as rg
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.passes.build import call
from regard.passes.split_pairs import Split, row_kind

ROWS, KEYS, WIDTH = 5, 7, 4


def traced(score):
    return rg.program(lambda p: rg.softmax(score(p))).root.weights.score


def empty(diagonal=False, known=()):
    return Split(lambda hole: hole.name in known, diagonal)


def dot(p):
    return rg.dot(p.q, p.k)


def test_rows_are_told_from_the_pair():
    # Before: 5 · tanh(dot(rotate(q), rotate(k)) / 5) - slope · |i - j|.
    # After: rows rotate(q) and rotate(k), dot:0, and 5 · tanh(dot:0 / 5) - in:0 · |in:1 - in:2|.
    def score(p):
        turned = rg.dot(rg.rotate(p.q, p.i), rg.rotate(p.k, p.j))
        slope = rg.parameter("slope", per="head")
        return 5 * rg.tanh(turned / 5) - slope * abs(p.i - p.j)

    split, root = empty(), traced(score)
    found = split.pair(root)
    (one,) = split.dots.values()
    assert one.hole.name == "dot:0"
    assert (one.left.kind, one.right.kind) == ("query_row", "key_row")
    for side, index in ((one.left, "i"), (one.right, "j")):
        assert n.Index(index) in set(n.walk(side.node))
    capped, bias = found.args
    assert capped is call("mul", 5, call("tanh", call("div", one.hole, 5)))
    slope, distance = bias.args
    i, j = distance.args[0].args
    kinds = {item.hole: (item.kind, item.node) for item in split.inputs.values()}
    assert kinds[i] == ("query", n.Index("i")) and kinds[j] == ("key", n.Index("j"))
    assert kinds[slope][0] == "number" and kinds[slope][1].name == "slope"


@pytest.mark.parametrize(
    ("score", "kind"),
    [
        (lambda p: p.i * 1.5, "query"),
        (lambda p: rg.log(1 + rg.key_feature("f")), "key"),
        (lambda p: rg.parameter("a", per="head") ** 2, "number"),
        (lambda p: rg.sum(p.q * p.q), "query"),
        (lambda p: rg.pair_input("s"), "pair"),
        (lambda p: rg.dot(p.q, p.k), None),
        (lambda p: p.i - p.j, None),
    ],
)
def test_expression_of_one_side_is_one_input(score, kind):
    split, root = empty(), traced(score)
    found = split.pair(root)
    if kind is None:
        assert row_kind(root) is None and len(split.inputs) == 2
    else:
        assert [(item.node, item.kind) for item in split.inputs.values()] == [(root, kind)]
        assert found is next(iter(split.inputs.values())).hole


def test_same_row_is_one_input():
    split = empty()
    for score in (dot, lambda p: 2 * dot(p), lambda p: rg.dot(p.q, p.v)):
        split.pair(traced(score))
    assert [item.node.name for item in split.inputs.values()] == ["q", "k", "v"]
    assert len(split.dots) == 2


def test_factors_of_a_dot_go_to_their_side():
    def score(p):
        return rg.sum(p.q * rg.parameter("w", per="channel") * (p.k / rg.sqrt(p.width)) * 2)

    split = empty()
    split.pair(traced(score))
    (one,) = split.dots.values()
    assert not split.sums
    assert n.Vector("query", "q") in set(n.walk(one.left.node))
    assert n.Vector("key", "k") in set(n.walk(one.right.node))


def test_sum_over_channels_that_is_no_product_is_kept():
    split = empty()
    weight = rg.parameter
    found = split.pair(traced(lambda p: rg.sum(weight("w", per="channel") * rg.tanh(p.q + p.k))))
    (one,) = split.sums.values()
    assert found is one.hole and not split.dots
    assert sorted(item.kind for item in one.inputs) == ["channels", "key_row", "query_row"]
    assert {item.hole for item in one.inputs} < set(n.walk(one.body))


def test_costly_functions_of_the_distance_are_tabulated_where_rows_are_plain():
    root = traced(lambda p: dot(p) + rg.exp(-abs(p.i - p.j) / 3.0))
    for diagonal in (False, True):
        split = empty(diagonal)
        split.pair(root)
        kinds = [item.kind for item in split.inputs.values()]
        assert ("diagonal" in kinds) == diagonal
    # One operator takes less time than a table.
    cheap = empty(diagonal=True)
    cheap.pair(traced(lambda p: dot(p) - abs(p.i - p.j)))
    assert "diagonal" not in [item.kind for item in cheap.inputs.values()]


def test_row_values_are_inputs_once_they_are_known():
    hole = n.Hole("m:a", "bhi")
    root = call("sub", n.Index("j"), call("exp", hole))
    unknown, known = empty(), empty(known=("m:a",))
    assert hole in set(n.walk(unknown.pair(root)))
    assert hole not in set(n.walk(known.pair(root)))
    assert {item.kind for item in known.inputs.values()} == {"key", "query"}


def test_draw_becomes_a_comparison_with_a_threshold():
    split = empty()
    split.pair(traced(lambda p: rg.where(rg.keep(0.5, "bhij"), 1.0, 0.0)))
    ((keep, threshold),) = split.draws.items()
    assert isinstance(keep, n.Keep) and threshold.kind == "threshold"


def test_table_is_read_at_the_pair():
    split = empty()
    found = split.pair(traced(lambda p: rg.table("t", per=("rows",))[p.i - p.j]))
    assert isinstance(found, n.Gather) and found.array.name == "t"
    assert [item.kind for item in split.inputs.values()] == ["query", "key", "table"]


def test_row_that_pairs_choose_is_tabulated_for_the_row_it_is_multiplied_with():
    split = empty()
    step = lambda p: rg.table("t", per=("rows", "channel"))[p.i - p.j]  # noqa: E731
    found = split.pair(traced(lambda p: rg.dot(p.q, p.k + step(p)) + rg.dot(p.k, step(p))))
    picks = [node for node in n.walk(found) if isinstance(node, n.Pick)]
    kinds = {item.hole: item.kind for item in split.inputs.values()}
    assert [kinds[pick.rows] for pick in picks] == ["query_table", "key_table"]
    assert len(split.dots) == 1 and not split.sums
    # What was split stays as it is when a derivative of it is split again.
    assert split.pair(found) is found


BOTH = call("add", n.Vector("query", "q"), n.Vector("key", "k"))
REFUSED = {
    "'t' holds rows that pairs choose": traced(
        lambda p: rg.sum(rg.tanh(p.q + rg.table("t", per=("rows", "channel"))[p.i - p.j]))
    ),
    "'t' holds rows that pairs choose, times no one row": traced(
        lambda p: rg.sum(p.q * p.k * rg.table("t", per=("rows", "channel"))[p.i - p.j])
    ),
    # The language itself lets probabilities differ from head to head alone.
    "the probability of a draw differs from pair to pair": call(
        "where", n.Keep(call("sub", n.Index("i"), n.Index("j")), "bhij", 0), 1.0, 0.0
    ),
    "no slice that differs from pair to pair": n.Slice(BOTH, 0, 2),
    "a sum over channels reads a slice of the pair": n.Reduce(n.Slice(BOTH, 0, 2), "c"),
    "adds up over channels and keys alone": n.Reduce(call("sub", n.Index("i"), n.Index("j")), "h"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_no_kernel_computes_is_refused_with_its_reason(message):
    with pytest.raises(UnsupportedError, match=message):
        empty().pair(REFUSED[message])


def test_only_rows_of_keys_can_be_summed():
    split = empty()
    assert split.summed(n.Vector("key", "v")).kind == "key_row"
    with pytest.raises(UnsupportedError, match="differ from pair to pair"):
        split.summed(n.Vector("query", "q"))


SAME = {
    "cap": lambda p: 5 * rg.tanh(dot(p) / 5) - rg.parameter("a") * abs(p.i - p.j),
    "masked dot": lambda p: rg.where(p.j < p.i, dot(p), 1.0) * rg.query_feature("f"),
    "two dots": lambda p: rg.dot(p.q, p.k) * rg.dot(p.q * 2, rg.tanh(p.k)),
    "additive": lambda p: rg.sum(rg.tanh(p.q + p.k) * rg.parameter("w", per="channel")),
    "distance": lambda p: -rg.sum((p.q - p.k) * (p.q - p.k)) / p.width,
    "scaled within": lambda p: rg.sum(p.q * p.k / rg.sqrt(1 + rg.sum(p.k * p.k))),
}


@pytest.mark.parametrize("name", SAME)
def test_parts_put_together_are_the_expression(name):
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, ROWS, WIDTH).double(), torch.randn(1, 1, KEYS, WIDTH).double()
    data = {"q": q, "k": k, "v": k, "a": torch.tensor(0.3).double()}
    data |= {"f": torch.randn(1, 1, ROWS).double(), "w": torch.randn(WIDTH).double()}
    positions = torch.arange(ROWS)[None], torch.arange(KEYS)[None]
    bound = Bound(data, *positions, total_heads=1)
    root = n.rewrite(
        traced(SAME[name]), lambda node: n.Const(WIDTH) if node is n.Index("width") else None
    )
    split = empty()
    found = split.pair(root)

    def at(holes):
        return Evaluator(bound, Tile(0, ROWS, 0, KEYS), holes, Cache())

    holes = {item.hole.name: at({})(item.node) for item in split.inputs.values()}
    for one in split.dots.values():
        left, right = holes[one.left.hole.name], holes[one.right.hole.name]
        holes[one.hole.name] = (left * right).sum(-1, keepdim=True)
    for one in split.sums.values():
        holes[one.hole.name] = at(holes).real(n.Reduce(one.body, "c"))
    torch.testing.assert_close(at(holes).real(found), at({}).real(root))
