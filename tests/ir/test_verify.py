"""Every rule of the grammar, by the message of what breaks it."""

import numpy as np
import pytest

from regard.errors import ProgramError
from regard.ir import nodes as n
from regard.ir.verify import verify, verify_program
from tests.ir import graphs
from tests.ir.graphs import CAUSAL, KJ, QI, K, Q, V, call, dot, parameter, scaled_score
from tests.ir.work import lines_run

SCORE = scaled_score()
WEIGHTS = n.Softmax(SCORE, CAUSAL, None, "a")
OTHER = n.Softmax(SCORE, None, None, "b")
TABLE = n.Array("table", "t", ("rows",))
ROWS = n.Array("table", "rel", ("rows", "channel"))
MATRIX = parameter("W", "channel", "channel")
PAIR = call("mul", Q, K)
P = n.Const(0.1)
ZERO = n.Const(0.0)


def ratio(num=SCORE, den=SCORE, where=None, add=ZERO, at_least=ZERO):
    return n.Ratio(num, den, where, add, at_least, False, "a")


def array(source="parameter", name="p", per=(), init=None):
    return n.Array(source, name, per, init)


BROKEN = [
    # Leaves
    (n.Const(float("nan")), "NaN is no number to compute with"),
    (n.Const(2**63), "0x8000000000000000 does not fit 64 bits"),
    (n.Const("1"), "a constant is a number or a truth value, not '1'"),  # type: ignore[arg-type]
    (n.Const(np.float64(1.5)), "a constant is a number or a truth value, not "),
    (n.Index("queriez"), "'queriez' is no position or size; did you mean 'queries'? known: "),
    (n.Vector("Query", "q"), "side must be query or key, not 'Query'"),
    (n.Feature("both", "f"), "side must be query or key, not 'both'"),
    (n.Vector("key", "q"), "'q' is a row of the query's side, not the key's"),
    (n.Vector("query", "v"), "'v' is a row of the key's side, not the query's"),
    (array("weights"), "an array is a parameter or a table, not 'weights'"),
    (array(per=("rows",)), "per='rows' of parameter 'p': known: a positive size, channel, head"),
    (array("table", per=("row",)), "per='row' of table 'p': did you mean 'rows'? known: a "),
    (array(per=(0,)), "per=0 of parameter 'p': known: a positive size, channel, head"),
    (array(per=(2**31,)), "per=2147483648 of parameter 'p': "),
    (array(per=(True,)), "per=True of parameter 'p': "),
    (array(per=("head", "head")), "per=('head', 'head') of 'p': at most one 'head', and 'channel'"),
    (array(per=("channel", 4)), "per=('channel', 4) of 'p': at most one 'head', and 'channel' las"),
    (array(per=("channel",) * 3), "per=('channel', 'channel', 'channel') of 'p': at most one "),
    (array(init=n.Init("constant", (float("nan"),))), "the initialiser of 'p' holds NaN"),
    (n.Scalar("s", float("nan")), "the default of 's' is NaN; leave it out to require a value"),
    (n.Hole("lse", "bhi"), "'lse' is no value a program can read"),
    (n.Hole("summed", "bhi"), "'summed' is no value a program can read"),
    # Operators
    (call("tanhh", 1, 2), "'tanhh' is no operator; did you mean 'tanh'? known: abs, add, "),
    (call("add", 1), "'add' takes 2 arguments, not 1"),
    (n.Call("neg", (QI, KJ)), "'neg' takes 1 arguments, not 2"),
    (call("floordiv", QI, 0), "'floordiv' by the constant 0 has no meaning"),
    (call("mod", QI, False), "'mod' by the constant 0 has no meaning"),
    (call("pow", QI, -1), "an integer to a power that may be negative is no integer; write a flo"),
    (call("pow", 2, KJ), "an integer to a power that may be negative is no integer; write a float"),
    (call("and", CAUSAL, QI), "an argument of 'and' must be a condition such as pair.j <= pair.i"),
    (call("not", WEIGHTS), "an argument of 'not' must be a condition such as pair.j <= pair.i"),
    (call("where", QI, 1, 2), "the first argument of where must be a condition such as pair.j"),
    (call("where", call("le", WEIGHTS, 1), 1, 2), "the first argument of where cannot read weight"),
    (call("add", n.Output(WEIGHTS, V, None), 1), "rg.output ends a program; nothing can be "),
    (call("add", TABLE, 1), "table 't' has 1 index axis (rows); index it, e.g. t[pair.i - pair.j]"),
    (call("add", array(per=(3, 4)), 1), "parameter 'p' has 2 index axes; index it, e.g. p["),
    (call("mul", MATRIX, Q), "parameter 'W' is a matrix; use it as rg.project(row, W)"),
    # Gather
    (n.Gather(Q, (QI,)), "only a parameter or a table can be indexed"),  # type: ignore[arg-type]
    (n.Gather(TABLE, (QI, KJ)), "table 't' takes 1 indices, not 2"),
    (n.Gather(TABLE, (SCORE,)), "an index of 't' must be an integer; use rg.floor(x)"),
    (n.Gather(TABLE, (n.Channel(),)), "an index of 't' cannot vary over channels"),
    (n.Gather(TABLE, (TABLE,)), "table 't' has 1 index axis (rows); index it"),
    (n.Gather(array(per=(4,)), (n.Const(4),)), "index 4 of 'p' is outside 0 … 3"),
    (n.Gather(array(per=(4,)), (n.Const(-1),)), "index -1 of 'p' is outside 0 … 3"),
    (n.Gather(array(per=("head",)), ()), "'p' has no rows to index; its axes are ('head',)"),
    (n.Gather(array(per=(4, "channel", "channel")), (QI,)), "'p' has no rows to index; its axes "),
    # Rows
    (n.Reduce(PAIR, "j"), "a program sums over channels, not over 'j'"),
    (n.Reduce(SCORE, "c"), "rg.sum needs something that varies over channels, e.g. pair.q * "),
    (n.Reduce(call("lt", Q, K), "c"), "what rg.sum adds must be a number, not a truth value; use "),
    (n.Reduce(call("mul", WEIGHTS, V), "c"), "what rg.sum adds cannot read weights; a program "),
    (n.Rotate(Q, QI, "half"), "pairs='half' of rg.rotate: did you mean 'halves'? known: halves, "),
    (n.Rotate(SCORE, QI, "halves"), "rg.rotate needs a row of channels, such as pair.q"),
    (n.Rotate(PAIR, QI, "halves"), "rg.rotate works on one row; this varies over queries and keys"),
    (n.Rotate(Q, KJ, "halves"), "the angle of rg.rotate must belong to the same row as what it "),
    (n.Slice(SCORE, 0, 4), "a slice needs a row of channels, such as pair.q"),
    (n.Slice(Q, 0.0, 4), "a slice of channels takes whole numbers"),  # type: ignore[arg-type]
    (n.Slice(Q, 4, 4), "channels 4:4 is an empty or negative slice"),
    (n.Slice(Q, -4, None), "channels -4:None is an empty or negative slice"),
    (n.Project(SCORE, MATRIX, None), "rg.project needs a row of channels, such as pair.q"),
    (n.Project(Q, parameter("w", "channel"), None), "rg.project takes a matrix: rg.parameter(name"),
    (n.Project(MATRIX, MATRIX, None), "parameter 'W' is a matrix; use it as rg.project(row, W)"),
    (n.Project(Q, MATRIX, 0), "width=0 of rg.project must be a positive whole number"),
    (n.Project(Q, MATRIX, True), "width=True of rg.project must be a positive whole number"),
    (n.KeyMax(Q), "what rg.max_over_keys reads cannot vary over queries"),
    # Draws and choices
    (n.Keep(QI, "bh", 0), "the probability p cannot vary over batch rows and queries"),
    (n.Keep(n.Const(True), "bh", 0), "the probability p must be a number, not a truth value; use"),
    (n.Keep(n.Const(1.5), "bh", 0), "probability 1.5 is outside 0 … 1"),
    (n.Keep(P, "bc", 0), "axes='bc' of rg.keep: choose from b, h, i, j"),
    (n.Keep(P, "bh", -1), "place -1 of a random draw is outside 0 … 2^32 - 1"),
    (n.TopK(CAUSAL, n.Const(4), None), "the score of rg.topk must be a number, not a truth value"),
    (n.TopK(PAIR, n.Const(4), None), "the score of rg.topk cannot vary over channels; reduce it"),
    (n.TopK(SCORE, n.Const(4.0), None), "k of rg.topk must be a whole number"),
    (n.TopK(SCORE, KJ, None), "k cannot vary over keys"),
    (n.TopK(SCORE, n.Const(4), QI), "where must be a condition such as pair.j <= pair.i, not a "),
    (n.TopK(SCORE, n.Const(4), call("lt", Q, K)), "where cannot vary over channels; reduce it "),
    (n.Running(CAUSAL, None, False, False), "what rg.running_sum adds must be a number, not a tr"),
    (n.Running(PAIR, None, False, False), "what rg.running_sum adds cannot vary over channels; "),
    (n.Running(OTHER, None, True, False), "what rg.running_sum adds cannot read weights; a pr"),
    (n.Running(SCORE, QI, False, True), "where must be a condition such as pair.j <= pair.i, not"),
    (n.Running(SCORE, call("lt", Q, K), True, True), "where cannot vary over channels; reduce it "),
    (n.Running(n.MAPPED, None, False, False), "rg.running_sum cannot read mapped weights; sum w"),
    # Terms
    (n.Softmax(SCORE, QI, None, "a"), "where must be a condition such as pair.j <= pair.i, not a"),
    (n.Softmax(SCORE, call("lt", WEIGHTS, 1), None, "a"), "where cannot read weights"),
    (n.Softmax(SCORE, call("lt", Q, K), None, "a"), "where cannot vary over channels; reduce it "),
    (n.Softmax(CAUSAL, None, None, "a"), "a score must be a number, not a truth value; use rg"),
    (n.Softmax(PAIR, None, None, "a"), "a score cannot vary over channels; reduce it with rg.sum"),
    (n.Softmax(OTHER, None, None, "a"), "a score cannot read weights; a program normalises once"),
    (n.Softmax(SCORE, None, CAUSAL, "a"), "a sink must be a number, not a truth value; use rg"),
    (n.Softmax(SCORE, None, KJ, "a"), "a sink cannot vary over keys"),
    (n.Weigh(PAIR, None, "a"), "a weight cannot vary over channels; reduce it with rg.sum or rg.d"),
    (ratio(num=PAIR), "num cannot vary over channels; reduce it with rg.sum or rg.dot"),
    (ratio(den=CAUSAL), "den must be a number, not a truth value; use rg.where(condition, 1.0, 0."),
    (ratio(add=KJ), "add cannot vary over keys"),
    (ratio(at_least=PAIR), "at_least cannot vary over keys and channels"),
    (n.Entmax(PAIR, n.Const(1.5), None, "a"), "a score cannot vary over channels; reduce it with"),
    (n.Entmax(SCORE, KJ, None, "a"), "alpha cannot vary over keys"),
    (n.Entmax(SCORE, n.Const(1), None, "a"), "alpha must be above 1; at 1 entmax is rg.softmax"),
    # Weights
    (call("exp", WEIGHTS), "weights can be added, subtracted, multiplied; to apply 'exp' write rg"),
    (call("add", WEIGHTS, 1.0), "only weights can be added to weights; write rg.weigh(expression)"),
    (call("div", 1.0, WEIGHTS), "weights cannot divide; normalise with rg.ratio"),
    (call("mul", WEIGHTS, Q), "a factor of weights cannot vary over channels; reduce it with rg.s"),
    (n.KeyMax(WEIGHTS), "what rg.max_over_keys reads cannot vary over queries"),
    (n.Gather(TABLE, (call("mul", WEIGHTS, 1),)), "an index of 't' must be an integer; use rg.flo"),
    (n.Dropout(SCORE, P, 0), "rg.dropout works on weights, such as rg.softmax(score)"),
    (n.Dropout(WEIGHTS, n.Const(2), 0), "probability 2 is outside 0 … 1"),
    (n.Dropout(WEIGHTS, QI, 0), "the probability p cannot vary over batch rows and queries"),
    (n.Dropout(WEIGHTS, P, 2**32), "place 4294967296 of a random draw is outside 0 … 2^32 - 1"),
    (n.Map(SCORE, n.MAPPED), "rg.map works on weights, such as rg.softmax(score)"),
    (n.Map(WEIGHTS, call("mul", n.MAPPED, Q)), "what rg.map gives back cannot vary over channels"),
    (n.Map(WEIGHTS, call("lt", n.MAPPED, 1)), "what rg.map gives back must be a number, not a "),
    (n.Map(WEIGHTS, OTHER), "what rg.map gives back cannot read weights; a program normalises onc"),
    # Output
    (n.Output(SCORE, V, None), "a program ends in weights; wrap the score, e.g. rg.softmax(score)"),
    (n.Output(WEIGHTS, SCORE, None), "values need channels, e.g. pair.v"),
    (n.Output(WEIGHTS, call("mul", call("mul", WEIGHTS, 1), V), None), "values cannot read weight"),
    (n.Output(WEIGHTS, V, K), "finish cannot vary over keys"),
    (n.Output(WEIGHTS, V, n.Reduce(n.SUMMED, "c")), "finish must give back a row of channels"),
]  # fmt: skip


@pytest.mark.parametrize(("node", "message"), BROKEN)
def test_a_node_without_meaning_is_refused(node, message):
    with pytest.raises(ProgramError) as caught:
        verify(node)
    assert str(caught.value).startswith(message)


def test_weights_are_read_in_the_last_line_alone():
    with pytest.raises(
        ProgramError, match=r"weights cannot be read inside rg\.widen; combine them"
    ):
        verify(n.Widen(WEIGHTS, Q))


@pytest.mark.parametrize("name", graphs.SAMPLES)
def test_every_sample_has_a_meaning(name):
    for node in n.walk(graphs.SAMPLES[name]):
        assert verify(node) is node
    verify_program(graphs.SAMPLES[name])


# ── What only the whole program shows ────────────────────────────────────────────────────────
def softmax(score: n.Node, where: n.Node | None = None, name: str = "a") -> n.Softmax:
    return n.Softmax(score, where, None, name)


VISIBLE_SCORE = call("mul", SCORE, call("log", n.Visible()))
SUMMED_SCORE = call("add", SCORE, n.Reduce(n.SUMMED, "c"))
MAPPED_SCORE = call("add", SCORE, n.MAPPED)
BROKEN_PROGRAMS = [
    (WEIGHTS, "a program ends in weights, e.g. rg.softmax(score), or rg.output(weights, …)"),
    (n.Output(softmax(call("mul", SCORE, n.Scalar("a b"))), V, None),
     "'a b' cannot name an input; use letters, digits and _"),
    (n.Output(softmax(call("mul", SCORE, n.Scalar("q"))), V, None),
     "'q' already names the q of attention; choose another name"),
    (n.Output(softmax(call("mul", n.Scalar("x"), n.Feature("key", "x"))), V, None),
     "'x' is declared twice, with different meanings; give each its own name"),
    (n.Output(softmax(dot(n.Vector("query", "x"), n.Vector("key", "x"))), V, None),
     "'x' is declared twice, with different meanings; give each its own name"),
    (n.Output(softmax(call("mul", n.Scalar("x"), n.Scalar("x", 1.0))), V, None),
     "'x' is declared twice, with different meanings; give each its own name"),
    (n.Output(softmax(SCORE, name="a b"), V, None),
     "'a b' cannot name weights; use letters, digits and _"),
    (n.Output(call("add", softmax(SCORE), softmax(QI)), V, None),
     "two terms of weights are named 'a'"),
    (n.Output(softmax(SCORE, call("lt", n.Visible(), 4)), V, None),
     "pair.visible counts what `where` admits, so `where` cannot read it"),
    (n.Output(softmax(SCORE, n.TopK(VISIBLE_SCORE, n.Const(4), None)), V, None),
     "pair.visible counts what `where` admits, so `where` cannot read it"),
    (n.Output(call("mul", softmax(VISIBLE_SCORE), n.Visible()), V, None),
     "pair.visible belongs inside a score, not outside the weights"),
    (n.Output(n.Map(WEIGHTS, call("mul", n.MAPPED, n.Visible())), V, None),
     "pair.visible belongs inside a score, not outside the weights"),
    (n.Output(WEIGHTS, call("mul", V, n.Visible()), None),
     "pair.visible belongs inside a score, not in values"),
    (n.Output(WEIGHTS, V, call("mul", n.SUMMED, n.Visible())),
     "pair.visible belongs inside a score, not in `finish`"),
    (n.Output(call("mul", WEIGHTS, n.Reduce(n.SUMMED, "c")), V, None),
     "the summed row can be read in `finish` alone"),
    (n.Output(softmax(SUMMED_SCORE), V, None), "the summed row can be read in `finish` alone"),
    (n.Output(WEIGHTS, call("add", V, n.SUMMED), None),
     "the summed row can be read in `finish` alone"),
    (n.Output(n.Map(WEIGHTS, call("add", n.MAPPED, n.Reduce(n.SUMMED, "c"))), V, None),
     "the summed row can be read in `finish` alone"),
    (n.Output(call("mul", WEIGHTS, n.MAPPED), V, None),
     "the mapped weights can be read inside rg.map alone"),
    (n.Output(softmax(MAPPED_SCORE), V, None),
     "the mapped weights can be read inside rg.map alone"),
    (n.Output(n.Map(softmax(MAPPED_SCORE), n.MAPPED), V, None),
     "the mapped weights can be read inside rg.map alone"),
    (n.Output(WEIGHTS, call("mul", V, n.MAPPED), None),
     "the mapped weights can be read inside rg.map alone"),
]  # fmt: skip


@pytest.mark.parametrize(("root", "message"), BROKEN_PROGRAMS)
def test_a_program_without_meaning_is_refused(root, message):
    with pytest.raises(ProgramError) as caught:
        verify_program(root)
    assert str(caught.value) == message


def test_integer_arithmetic_with_an_answer_is_allowed():
    for node in (call("pow", QI, 2), call("pow", QI, -1.0), call("mod", QI, 0.0)):
        assert verify(node) is node


def test_leaves_are_allowed_where_they_have_a_meaning():
    graphs.program(softmax(VISIBLE_SCORE, CAUSAL))
    mapped = n.Map(softmax(VISIBLE_SCORE), call("tanh", n.MAPPED))
    graphs.program(n.Map(mapped, call("exp", n.MAPPED)), V, call("tanh", n.SUMMED))


@pytest.mark.parametrize("kind", ["deep", "doubling", "maps", "terms"])
def test_checking_takes_work_linear_in_the_nodes(kind):
    def work(size: int) -> int:
        root = _large(kind, size)
        return lines_run(lambda: ([verify(node) for node in n.walk(root)], verify_program(root)))

    work(50)
    # Ten times the nodes; quadratic work would run a hundred times as many lines.
    assert work(500) < 15 * work(50)


def _large(kind: str, size: int) -> n.Output:
    if kind == "deep":
        return graphs.deep(4 * size)
    if kind == "doubling":
        return graphs.doubling(size)
    long = SCORE
    for number in range(size):
        long = call("add", long, number)
    if kind == "maps":
        weights: n.Node = WEIGHTS
        for _ in range(size):
            weights = n.Map(weights, call("mul", n.MAPPED, long))
        return n.Output(weights, V, None)
    seen = call("lt", long, 0)
    weights = softmax(SCORE, seen, "t")
    for number in range(size):
        weights = call("add", weights, softmax(long, seen, f"t{number}"))
    return n.Output(weights, V, None)
