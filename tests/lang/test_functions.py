"""What a person writes becomes the node it should: operators, functions, leaves, weights."""

import math
import operator

import pytest
import torch

import regard as rg
from regard.ir import nodes as n
from regard.ir.operators import OPERATORS
from regard.lang.pair import Pair

I, J = n.Index("i"), n.Index("j")  # noqa: E741
Q, K, V = n.Vector("query", "q"), n.Vector("key", "k"), n.Vector("key", "v")
PAIR = Pair()


def c(value):
    return n.Const(value)


def call(op, *args):
    return n.Call(op, args)


BINARY = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
}  # fmt: skip
MIRRORED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le", "eq": "eq", "ne": "ne"}


@pytest.mark.parametrize("op", BINARY)
def test_python_operator_builds_its_node_from_either_side(op):
    apply = BINARY[op]
    assert apply(PAIR.i, PAIR.j).node is call(op, I, J)
    assert apply(PAIR.i, 2).node is call(op, I, c(2))
    # Python turns 2 < x into x > 2.
    mirrored = call(MIRRORED[op], I, c(2)) if op in MIRRORED else call(op, c(2), I)
    assert apply(2, PAIR.i).node is mirrored


def test_logic_and_signs_build_their_nodes():
    a, b = PAIR.i < PAIR.j, PAIR.j < 3
    assert (a & b).node is call("and", a.node, b.node)
    assert (a | b).node is call("or", a.node, b.node)
    assert (True & a).node is call("and", c(True), a.node)
    assert (False | a).node is call("or", c(False), a.node)
    assert (~a).node is call("not", a.node)
    assert (-PAIR.i).node is call("neg", I)
    assert (+PAIR.i).node is I
    assert abs(PAIR.i).node is call("abs", I)
    assert (PAIR.i**2).node is call("pow", I, c(2))
    assert (2.0**PAIR.i).node is call("pow", c(2.0), I)


UNARY = [name for name, op in OPERATORS.items() if op.arity == 1 and hasattr(rg, name)]


@pytest.mark.parametrize("name", UNARY)
def test_function_builds_its_node(name):
    assert getattr(rg, name)(PAIR.i).node is call(name, I)
    assert getattr(rg, name)(2.0).node is call(name, c(2.0))
    assert getattr(rg, name).__doc__.startswith("Return ")
    assert getattr(rg, name).__name__ == name


def test_every_scalar_operator_can_be_written():
    assert set(OPERATORS) - set(UNARY) - set(BINARY) == {
        "and", "or", "not", "neg", "abs", "pow", "min", "max", "where"
    }  # fmt: skip


def test_several_smallest_and_largest_are_taken_in_pairs():
    assert rg.min(PAIR.i, PAIR.j, 3).node is call("min", call("min", I, J), c(3))
    assert rg.max(PAIR.i, 0).node is call("max", I, c(0))
    assert rg.clip(PAIR.i, 0, 5).node is call("min", call("max", I, c(0)), c(5))
    assert rg.where(PAIR.i < 3, 1.0, PAIR.j).node is call("where", call("lt", I, c(3)), c(1.0), J)


def test_channel_functions_build_their_nodes():
    product = call("mul", Q, K)
    assert rg.dot(PAIR.q, PAIR.k).node is rg.sum(PAIR.q * PAIR.k).node is n.Reduce(product, "c")
    assert PAIR.q[:3].node is n.Slice(Q, 0, 3)
    assert PAIR.q[2:].node is n.Slice(Q, 2, None)
    assert PAIR.q[2:5].node is PAIR.q[2:5:1].node is n.Slice(Q, 2, 5)
    assert rg.rotate(PAIR.q, PAIR.i).node is n.Rotate(Q, I, "halves")
    matrix = rg.parameter("m", per=("channel", "channel"))
    assert rg.project(PAIR.q, matrix, width=4).node is n.Project(Q, matrix.node, 4)
    assert rg.max_over_keys(PAIR.v).node is n.KeyMax(V)
    assert rg.running_sum(PAIR.j).node is n.Running(J, None, False, False)
    backward = rg.running_sum(1.0, PAIR.j < PAIR.i, reverse=True, exclusive=True)
    assert backward.node is n.Running(c(1.0), call("lt", J, I), True, True)


def test_leaves_build_their_nodes():
    assert PAIR.visible.node is n.Visible()
    assert PAIR.heads.node is n.Index("heads")
    assert rg.query_feature("f").node is n.Feature("query", "f")
    assert rg.key_feature("f").node is n.Feature("key", "f")
    assert rg.query_vector("f").node is n.Vector("query", "f")
    assert rg.key_vector("v").node is V
    assert rg.pair_input("f").node is n.PairInput("f")
    assert rg.scalar("f").node is n.Scalar("f", None)
    assert rg.scalar("f", 2).node is n.Scalar("f", 2.0)
    assert rg.channel.node is n.Channel()


@pytest.mark.parametrize(
    ("per", "axes"),
    [(None, ()), ("head", ("head",)), (5, (5,)), (("head", 5), ("head", 5)), (["head"], ("head",))],
)
def test_axes_of_a_parameter_may_be_written_alone_or_together(per, axes):
    assert rg.parameter("p", per=per).node is n.Array("parameter", "p", axes, n.Init("zeros"))


def test_tables_take_one_index_or_several():
    one, two = rg.table("t"), rg.parameter("p", per=("head", 3, 4))
    assert one[PAIR.j].node is n.Gather(n.Array("table", "t", ("rows",), None), (J,))
    assert two[PAIR.i, PAIR.j].node is n.Gather(two.node, (I, J))


def test_initialisers_are_data():
    assert rg.init.constant(3) == n.Init("constant", (3.0,))
    assert rg.init.normal() == n.Init("normal", (0.02,))
    assert rg.init.uniform(-1, 1) == n.Init("uniform", (-1.0, 1.0))
    assert [rg.init.zeros.name, rg.init.ones.name, rg.init.alibi.name, rg.init.identity.name] == [
        "zeros", "ones", "alibi", "identity"
    ]  # fmt: skip


def test_weights_build_their_nodes():
    def several(pair):
        score = rg.dot(pair.q, pair.k)
        seen = pair.j <= pair.i
        soft = rg.softmax(score, seen, 0.0)
        share = rg.ratio(score, where=seen, add=1, at_least=2, scaled=True)
        best = rg.sparsemax(score, where=rg.topk(score, 3, seen))
        return rg.map(lambda w: w * 2, soft) + rg.dropout(share, 0.1) - best / 2

    score = rg.dot(PAIR.q, PAIR.k).node
    seen = call("le", J, I)
    soft = n.Softmax(score, seen, c(0.0), "a")
    share = n.Ratio(score, score, seen, c(1), c(2), True, "b")
    best = n.Entmax(score, c(2.0), n.TopK(score, c(3), seen), "c")
    doubled = n.Map(soft, call("mul", n.MAPPED, c(2)))
    left = call("add", doubled, n.Dropout(share, c(0.1), 0))
    assert rg.program(several).root.weights is call("sub", left, call("div", best, c(2)))


def test_linear_is_the_ratio_of_a_dot_product():
    def linear(pair):
        return rg.linear(rg.exp(pair.q), rg.exp(pair.k), where=pair.j <= pair.i)

    def ratio(pair):
        return rg.ratio(rg.dot(rg.exp(pair.q), rg.exp(pair.k)), where=pair.j <= pair.i)

    assert rg.program(linear).root is rg.program(ratio).root


def test_output_holds_values_and_finish():
    def whole(pair):
        weights = rg.softmax(pair.j)
        return rg.output(weights, values=2 * pair.v, finish=lambda row: row / rg.sum(row * row))

    root = rg.program(whole).root
    assert root.values is call("mul", c(2), V)
    norm = n.Reduce(call("mul", n.SUMMED, n.SUMMED), "c")
    assert root.finish is call("div", n.SUMMED, norm)


def test_rotary_angles_are_those_of_the_paper():
    angle = rg.rotary(PAIR.i, base=100.0).node
    speed = call(
        "exp",
        call(
            "div",
            call("mul", n.Channel(), c(-2.0 * math.log(100.0))),
            n.Index("width"),
        ),
    )
    assert angle is call("mul", I, speed)
    assert rg.rotary(base=100.0).node is speed
    # Channel pair c turns by base^(-2c/width) a step.
    q = torch.eye(6, dtype=torch.float64)[None, None, :1].expand(1, 1, 3, 6)

    @rg.program
    def first_channel(pair):
        return rg.output(rg.softmax(0.0), finish=lambda row: rg.rotate(pair.q, rg.rotary(pair.i)))

    out = rg.attend(first_channel, q, q, q)
    expected = torch.arange(3, dtype=torch.float64)
    torch.testing.assert_close(out[0, 0, :, 0], expected.cos(), rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(out[0, 0, :, 3], expected.sin(), rtol=1e-15, atol=1e-15)


def test_rotary_angles_of_a_slice_and_of_a_base_that_depends_on_the_width():
    stretched = rg.rotary(base=10.0 * 2 ** (PAIR.width / (PAIR.width - 2)))

    @rg.program
    def turned(pair):
        part = rg.rotate(pair.q[:4], rg.rotary(pair.i, base=100.0, width=4))
        whole = rg.rotate(pair.q, pair.i * stretched)
        return rg.output(rg.softmax(0.0), finish=lambda row: rg.sum(part) * 10 + whole)

    q = torch.zeros(1, 1, 3, 6, dtype=torch.float64)
    q[..., 1] = 1
    out = rg.attend(turned, q, q, q)
    step = torch.arange(3, dtype=torch.float64)
    # Channel 1 of 4 turns by 100^(-2/4) a step, channel 1 of 6 by (10 · 2^(6/4))^(-2/6).
    part, whole = step * 100**-0.5, step * (10 * 2**1.5) ** (-1 / 3)
    expected = 10 * (part.cos() + part.sin()) + whole.cos()
    torch.testing.assert_close(out[0, 0, :, 1], expected, rtol=1e-14, atol=1e-14)


def test_traced_value_shows_its_kind_and_axes():
    assert repr(PAIR.i - PAIR.j) == "<traced int over (b, i, j)>"
    assert repr(rg.scalar("heat")) == "<traced float over (nothing)>"


def test_builtin_sum_of_numbers_adds_no_zero():
    assert sum([PAIR.i, PAIR.j]).node is (PAIR.i + PAIR.j).node
    assert (0.0 + PAIR.i).node is not PAIR.i.node
    seen = PAIR.j <= PAIR.i
    assert (0 + seen).node is not seen.node
