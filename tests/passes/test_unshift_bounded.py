"""A running maximum is left out where exponents are bounded, and nowhere else."""

import math

import pytest

import regard as rg
from regard.ir import nodes as n
from regard.passes.build import ZERO, select
from regard.passes.lower import lower
from regard.passes.unshift_bounded import unshift_bounded


def capped(p, cap=20):
    return cap * rg.tanh(rg.dot(p.q, p.k) / cap)


def after(weights, *observe):
    return unshift_bounded(lower(rg.program(weights).root, observe), observe)


def shifts(weights, *observe):
    return [bool(term.exponents) for term in after(weights, *observe).terms]


def test_bounded_softmax_needs_no_maximum():
    # Before: num = exp(20 · tanh(q·k / 20) - m).   After: num = exp(20 · tanh(q·k / 20)).
    root = rg.program(lambda p: rg.softmax(capped(p), where=p.j <= p.i)).root
    (before,) = lower(root).terms
    lowered = unshift_bounded(lower(root))
    (term,) = lowered.terms
    seen, num = n.Hole("seen:a", "bhij", "bool"), n.Call("exp", (before.score,))
    assert before.num is n.Call("exp", (n.Call("sub", (before.score, before.hole("m"))),))
    assert (term.num, term.exponents, term.score) == (num, (), None)
    assert term.sums == {"s:a": select(seen, num)}
    assert term.total is term.hole("s") and term.where is before.where
    assert lowered.weights is n.Call("mul", (select(seen, num), term.hole("r")))


def test_observed_rows_and_sinks_read_no_maximum():
    lowered = after(lambda p: rg.softmax(capped(p), sink=1.0), "lse:a", "sink:a")
    (term,) = lowered.terms
    sunk = n.Call("exp", (n.Const(1.0),))
    assert term.sink is None and term.total is n.Call("add", (term.hole("s"), sunk))
    assert lowered.rows["lse:a"] is n.Call("log", (term.total,))
    assert lowered.rows["sink:a"] is n.Call("mul", (sunk, term.hole("r")))
    everything = [lowered.weights, *lowered.rows.values(), *term.sums.values(), term.num]
    for root in everything:
        assert term.hole("m") not in set(n.walk(root))


SHIFTED = {
    "bounded": (lambda p: rg.softmax(capped(p)), [False]),
    "at the limit": (lambda p: rg.softmax(capped(p, 40)), [False]),
    "beyond it": (lambda p: rg.softmax(capped(p, 41)), [True]),
    "bounded on one side": (lambda p: rg.softmax(rg.min(rg.dot(p.q, p.k), 5)), [True]),
    "hidden by its score": (lambda p: rg.softmax(rg.where(p.j < 2, capped(p), -math.inf)), [True]),
    "learned cap": (lambda p: rg.softmax(rg.parameter("c") * rg.tanh(rg.dot(p.q, p.k))), [True]),
    "learned sink": (lambda p: rg.softmax(capped(p), sink=rg.parameter("s")), [True]),
    "tamed sink": (lambda p: rg.softmax(capped(p), sink=rg.tanh(rg.parameter("s"))), [False]),
    "ratio": (lambda p: rg.ratio(rg.exp(capped(p))), [False]),
    "ratio with something added": (lambda p: rg.ratio(rg.exp(capped(p)), add=1.0), [True]),
    "ratio at least": (lambda p: rg.ratio(rg.exp(capped(p)), at_least=1.0), [True]),
    "weigh": (lambda p: rg.weigh(rg.exp(capped(p))), [False]),
    "one of two": (
        lambda p: rg.softmax(capped(p)) - rg.softmax(rg.dot(p.q, p.k)),
        [False, True],
    ),
    # Their exponents would add up.
    "product": (lambda p: rg.softmax(capped(p)) * rg.softmax(2 * capped(p)), [True, True]),
}


@pytest.mark.parametrize("name", SHIFTED)
def test_only_bounded_terms_are_unshifted(name):
    weights, expected = SHIFTED[name]
    assert shifts(weights) == expected


@pytest.mark.parametrize(
    ("observed", "shifted"), [("lse", False), ("max", True), ("entropy", True)]
)
def test_observed_maximum_or_entropy_keeps_the_shift(observed, shifted):
    assert shifts(lambda p: rg.softmax(capped(p)), f"{observed}:a") == [shifted]


def test_numbers_of_the_program_itself_stay_as_they_are():
    # Subtracting 0.0 makes an index a real number.
    (term,) = after(lambda p: rg.softmax(rg.tanh(p.j - 0.0))).terms
    assert n.Call("sub", (n.Index("j"), ZERO)) in set(n.walk(term.num))
