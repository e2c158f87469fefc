"""A program becomes sweeps: what each term sums, and what its row values stand for."""

import pytest

import regard as rg
from regard.ir import nodes as n
from regard.passes.build import select
from regard.passes.lower import lower
from regard.testing.programs import PROGRAMS


def call(op, *args):
    return n.Call(op, tuple(a if isinstance(a, n.Node) else n.Const(a) for a in args))


def hole(name):
    return n.Hole(name, "bhi")


SCORE = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k))).root.weights.score
CAUSAL = call("le", n.Index("j"), n.Index("i"))
SEEN = n.Hole("seen:a", "bhij", "bool")


def test_softmax_becomes_a_shifted_exponential_and_its_sum():
    # Before: softmax(q·k | j <= i) summed over v.
    # After: s = Σ_j exp(q·k - m), weight exp(q·k - m) · r, r = 1 / s or 0 for an empty row.
    lowered = lower(rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k), where=p.j <= p.i)).root)
    (term,) = lowered.terms
    num = call("exp", call("sub", SCORE, hole("m:a")))
    assert (term.where, term.score, term.exponents) == (CAUSAL, SCORE, (SCORE,))
    assert term.num is num
    assert term.sums == {"s:a": select(SEEN, num)}
    total = term.total
    empty = call("eq", total, 0)
    assert total is hole("s:a")
    safe = call("where", empty, 1.0, total)
    assert term.inverse is call("where", empty, 0.0, call("div", 1.0, safe))
    assert lowered.weights is call("mul", select(SEEN, num), hole("r:a"))
    assert lowered.seen is SEEN
    assert lowered.values is n.Vector("key", "v")
    assert lowered.single and lowered.finish is None


def test_sink_joins_the_sum_and_the_shift():
    (term,) = lower(PROGRAMS["softmax_one"].root).terms
    assert term.sink is n.Const(0.0)
    extra = call("exp", call("sub", n.Const(0.0), hole("m:a")))
    assert term.total is call("add", hole("s:a"), extra)


def test_weigh_has_nothing_to_normalise():
    (term,) = lower(PROGRAMS["gaussian"].root).terms
    assert (term.exponents, term.sums, term.total, term.inverse) == ((), {}, None, None)


def test_ratio_is_bounded_on_its_true_scale():
    root = rg.program(lambda p: rg.ratio(rg.exp(p.j), add=2.0, at_least=3.0)).root
    (term,) = lower(root).terms
    scale = call("exp", call("neg", hole("m:a")))
    added = call("add", hole("s:a"), call("mul", n.Const(2.0), scale))
    assert term.total is call("max", added, call("mul", n.Const(3.0), scale))
    # The offsets count as exp(0), or exp(-m) would overflow where all exponents are far below.
    assert term.floor_zero
    scaled = rg.program(lambda p: rg.ratio(rg.exp(p.j), add=2.0, scaled=True)).root
    (term,) = lower(scaled).terms
    assert not term.floor_zero
    assert call("add", hole("s:a"), n.Const(2.0)) in n.walk(term.total)


def test_ratio_without_exponentials_is_not_shifted():
    (term,) = lower(rg.program(lambda p: rg.ratio(rg.relu(p.j))).root).terms
    assert term.exponents == () and not term.floor_zero


@pytest.mark.parametrize("name", ["scalable", "query_sink", "exponential_ratio"])
def test_visible_becomes_a_count_wherever_a_term_reads_it(name):
    lowered = lower(PROGRAMS[name].root)
    counted = [term for term in lowered.terms if term.counted]
    assert counted
    for term in lowered.terms:
        parts = [term.score, term.sink, term.num, term.total, *term.sums.values(), *term.exponents]
        assert n.Visible() not in n.walk(*parts)
    count = n.Hole(f"n:{counted[0].name}", "bhi", "int")
    assert count in n.walk(counted[0].sink, counted[0].num, counted[0].total)


def test_only_weights_of_one_term_give_its_adjoint_from_the_summed_row():
    single = {name for name in PROGRAMS if lower(PROGRAMS[name].root).single}
    several = {"differential", "product_of_weights", "local_and_global", "clipped"}
    thresholds = {"entmax_per_head", "sparsemax_window", "sparse_difference"}
    several |= thresholds | {"exponential_ratio", "dropped_out"}
    assert several == set(PROGRAMS) - single


def test_draws_are_gone_without_a_seed():
    root = PROGRAMS["drop_key"].root
    (term,) = lower(root, seeded=False).terms
    assert term.where is CAUSAL
    (term,) = lower(root, seeded=True).terms
    assert any(isinstance(node, n.Keep) for node in n.walk(term.where))
    dropped = lower(PROGRAMS["dropped_out"].root, seeded=True)
    kept = [node for node in n.walk(dropped.weights) if isinstance(node, n.Keep)]
    assert [node.axes for node in kept] == ["bhij", "bhij"]
    assert not any(isinstance(node, n.Keep) for node in n.walk(dropped.clean_weights))


def test_observed_values_are_row_expressions():
    lowered = lower(PROGRAMS["softmax_one"].root, ("lse:a", "max:a", "sink:a", "entropy:a"))
    total = lowered.terms[0].total
    assert lowered.rows["lse:a"] is call("add", hole("m:a"), call("log", total))
    assert lowered.rows["max:a"] is hole("m:a")
    sunk = call("exp", call("sub", n.Const(0.0), hole("m:a")))
    assert lowered.rows["sink:a"] is call("mul", sunk, hole("r:a"))
    assert set(lowered.terms[0].sums) == {"s:a", "x:a"}, "the entropy needs one more sum"


def test_entmax_is_a_power_above_a_threshold_whose_row_sum_is_one():
    (term,) = lower(PROGRAMS["sparsemax_window"].root).terms
    (score,) = (node.score for node in n.walk(PROGRAMS["sparsemax_window"].root) if is_entmax(node))
    above = call("sub", call("sub", score, hole("z:a")), hole("t:a"))
    assert term.num is call("where", call("gt", above, 0), above, 0.0)
    assert term.gain is n.Const(1.0)
    assert term.inverse is None
    assert term.sums == {"s:a": select(SEEN, term.num)}


def is_entmax(node):
    return isinstance(node, n.Entmax)
