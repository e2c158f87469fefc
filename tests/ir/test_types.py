"""Axes and kinds of every node."""

import pytest

from regard.ir import nodes as n
from regard.ir.types import Type, axes_of, index_axes, join_kinds, order_axes, type_of
from tests.ir import graphs
from tests.ir.graphs import CAUSAL, KJ, QI, K, Q, V, call, dot, parameter, scaled_score
from tests.ir.work import lines_run

TABLE = n.Array("table", "t", ("head", "rows", "channel"))
WEIGHTS = n.Softmax(scaled_score(), CAUSAL, None, "a")


@pytest.mark.parametrize(
    ("node", "axes", "kind"),
    [
        (n.Const(True), "", "bool"),
        (n.Const(1), "", "int"),
        (n.Const(1.0), "", "float"),
        (QI, "bi", "int"),
        (KJ, "bj", "int"),
        (n.Index("row_i"), "i", "int"),
        (n.Index("row_j"), "j", "int"),
        (n.Index("head"), "h", "int"),
        (n.Index("heads"), "", "int"),
        (n.Index("batch"), "b", "int"),
        (n.Index("queries"), "b", "int"),
        (n.Index("keys"), "b", "int"),
        (n.Index("width"), "", "int"),
        (n.Visible(), "bhi", "int"),
        (Q, "bhic", "float"),
        (K, "bhjc", "float"),
        (n.Feature("query", "f"), "bhi", "any"),
        (n.Feature("key", "f"), "bhj", "any"),
        (parameter("p"), "", "float"),
        (parameter("p", "head", "channel"), "hc", "float"),
        (TABLE, "hc", "any"),
        (n.Scalar("s"), "", "float"),
        (n.PairInput("m"), "bhij", "any"),
        (n.Channel(), "c", "int"),
        (n.SUMMED, "bhic", "float"),
        (n.MAPPED, "bhij", "float"),
        (n.Hole("count", "ib", "int"), "bi", "int"),
        (call("sub", QI, KJ), "bij", "int"),
        (call("div", QI, KJ), "bij", "float"),
        (call("add", n.Const(True), n.Const(True)), "", "int"),
        (call("add", n.Feature("key", "f"), QI), "bhij", "any"),
        (call("add", n.Feature("key", "f"), 1.0), "bhj", "float"),
        (call("floor", n.Scalar("s")), "", "int"),
        (call("le", QI, KJ), "bij", "bool"),
        (call("where", CAUSAL, QI, 2.0), "bij", "float"),
        (call("where", CAUSAL, QI, n.Const(True)), "bij", "int"),
        (call("where", CAUSAL, CAUSAL, n.Const(True)), "bij", "bool"),
        (n.Gather(TABLE, (call("sub", QI, KJ),)), "bhijc", "any"),
        (n.Gather(parameter("p", 8), (n.Index("head"),)), "h", "float"),
        (dot(Q, K), "bhij", "float"),
        (n.Reduce(n.Channel(), "c"), "", "int"),
        (n.Reduce(dot(Q, K), "ij"), "bh", "float"),
        (n.Rotate(K, call("mul", KJ, n.Channel()), "halves"), "bhjc", "float"),
        (n.Slice(K, 0, 4), "bhjc", "float"),
        (n.Project(Q, parameter("W", "head", "channel", "channel"), 8), "bhic", "float"),
        (n.Keep(n.Const(0.1), "hb", 0), "bh", "bool"),
        (n.TopK(scaled_score(), n.Const(4), None), "bhij", "bool"),
        (n.Running(dot(Q, K), None, False, False), "bhij", "float"),
        (n.Running(n.Const(1), CAUSAL, True, False), "bij", "int"),
        (n.Running(n.Feature("key", "f"), None, False, True), "bhij", "any"),
        (n.KeyMax(V), "bhc", "float"),
        (n.KeyMax(n.Feature("key", "f")), "bh", "any"),
        (n.KeyMax(n.Channel()), "bc", "int"),
    ],
)  # fmt: skip
def test_axes_and_kind(node, axes, kind):
    assert type_of(node) == Type(axes, kind)
    assert axes_of(node) == axes


@pytest.mark.parametrize(
    "node",
    [
        WEIGHTS,
        n.Weigh(QI, None, "a"),
        n.Ratio(QI, QI, None, n.Const(0), n.Const(0), False, "a"),
        n.Entmax(QI, n.Const(1.5), None, "a"),
        n.Dropout(WEIGHTS, n.Const(0.1), 0),
        n.Map(WEIGHTS, call("exp", n.MAPPED)),
        call("mul", WEIGHTS, n.Scalar("s")),
    ],
)
def test_what_holds_weights_says_so(node):
    assert type_of(node) == Type("bhij", "float", weights=True)


def test_an_output_holds_rows_and_no_weights():
    assert type_of(n.Output(WEIGHTS, V, None)) == Type("bhic", "float")


def test_index_axes_count_rows_and_sizes():
    assert index_axes(n.Array("table", "t", ("head", "rows", 4, "channel"))) == 2
    assert index_axes(parameter("p", "head")) == 0


def test_joined_kinds_are_the_widest_and_at_least_whole_numbers():
    assert [join_kinds(kinds) for kinds in (["bool"], ["int", "any"], ["any", "float"])] == [
        "int",
        "any",
        "float",
    ]


def test_axes_have_one_order():
    assert order_axes({"c", "j", "b"}) == "bjc"


def test_typing_a_program_node_by_node_takes_linear_work():
    graphs.deep(50)
    few, many = (lines_run(lambda depth=depth: graphs.deep(depth)) for depth in (200, 2_000))
    assert many < 15 * few


def test_a_deep_untyped_graph_is_typed_without_recursion():
    node = call("neg", n.Const(0.375))
    for _ in range(20_000):
        node = call("neg", node)
    assert type_of(node) == Type("", "float")


def test_a_shared_untyped_graph_is_typed_once_per_node():
    node = n.Const(0.4375)
    for _ in range(200):
        node = call("add", node, node)
    assert type_of(node) == Type("", "float")
