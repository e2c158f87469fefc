import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

import regard as rg
from regard.ir import nodes as n
from regard.lang import tracer
from regard.lang.pair import Pair
from regard.passes.build import call
from regard.passes.contracts.conditions import can_hold
from regard.passes.contracts.integers import Linear, at_most, below, variable

ROW, KEY = n.Index("i"), n.Index("j")
LATER = below(variable(ROW), variable(KEY))
START = at_most(Linear(), variable(ROW))


def reaches_later_keys(condition):
    with tracer.tracing():
        node = condition(Pair()).node
    return can_hold([(node, True)], [START, LATER])


@pytest.mark.parametrize(
    "condition",
    [
        lambda p: p.j <= p.i,
        lambda p: ~(p.j > p.i),
        lambda p: (p.i - p.j) >= 0,
        lambda p: p.j - p.i < 0.5,
        lambda p: rg.key_feature("real") & (p.j <= p.i),
        lambda p: rg.key_feature("real") & ~rg.key_feature("real"),
        lambda p: (p.j // 8 < p.i // 8) | (p.i == p.j),
        lambda p: (p.i - p.j) == abs(p.i - p.j),
        lambda p: rg.max(p.i, p.j) == p.i,
        lambda p: rg.where(p.i > 5, p.i - 5, p.i) >= p.j,
        lambda p: rg.where(rg.key_feature("real"), p.j < p.i, p.j <= p.i),
        lambda p: rg.relu(p.i - p.j) > 0,
        lambda p: rg.sign(p.i - p.j) >= 0,
        lambda p: 2 * p.j <= p.i,
        lambda p: (p.j <= p.i + 3) & ((p.j <= p.i) != (p.j > p.i + 3)),
    ],
)
def test_a_condition_that_never_meets_a_later_key_is_seen_through(condition):
    assert not reaches_later_keys(condition)


@pytest.mark.parametrize(
    "condition",
    [
        lambda p: p.j <= p.i + 1,
        lambda p: p.j - p.i < 1.5,
        lambda p: rg.key_feature("real") | (p.j <= p.i),
        lambda p: p.j // 8 <= p.i // 8,
        lambda p: (p.j - p.i) % 7 == 3,
        lambda p: p.i - (p.i - p.j) % 4 == p.j - 4,
        lambda p: p.j <= p.i + rg.floor(rg.scalar("reach")),
        # NaN is neither: both comparisons of floating-point numbers are false.
        lambda p: ~(rg.key_feature("x") <= 0.5) & ~(rg.key_feature("x") > 0.5),
        # Whole numbers above 2^24 round in single precision.
        lambda p: 1.0 * p.j <= p.i,
        lambda p: p.j <= p.i + 2.0**30,
    ],
)
def test_a_condition_that_may_meet_a_later_key_is_not_denied(condition):
    assert reaches_later_keys(condition)


def test_too_many_cases_are_given_up_and_not_denied():
    chain = call("lt", ROW, KEY)
    for step in range(3000):
        chain = call("or", call("eq", call("mod", ROW, 7), step), chain)
    assert can_hold([(chain, True)], [LATER])


# Expressions beside what they compute, so that conditions are tried on every small pair.
def _numbers():
    leaves = st.sampled_from(
        [(ROW, lambda i, j: i), (KEY, lambda i, j: j)]
        + [(n.Const(c), lambda i, j, c=c: c) for c in (-3, 0, 1, 2, 5)]
    )
    two = {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "min": min,
        "max": max,
    }
    one = {"neg": lambda x: -x, "abs": abs, "relu": lambda x: max(x, 0)}
    fixed = {"mul": lambda x, d: x * d, "floordiv": lambda x, d: x // d, "mod": lambda x, d: x % d}

    def grow(inner):
        return st.one_of(
            st.builds(_both, st.sampled_from(sorted(two.items())), inner, inner),
            st.builds(_one, st.sampled_from(sorted(one.items())), inner),
            st.builds(_fixed, st.sampled_from(sorted(fixed.items())), inner, st.integers(1, 5)),
        )

    return st.recursive(leaves, grow, max_leaves=4)


def _both(named, a, b):
    name, f = named
    return call(name, a[0], b[0]), lambda i, j: f(a[1](i, j), b[1](i, j))


def _one(named, a):
    name, f = named
    return call(name, a[0]), lambda i, j: f(a[1](i, j))


def _fixed(named, a, d):
    name, f = named
    return call(name, a[0], d), lambda i, j: f(a[1](i, j), d)


COMPARISONS = {
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x <= y,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: x != y,
}
comparisons = st.builds(_both, st.sampled_from(sorted(COMPARISONS.items())), _numbers(), _numbers())
conditions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds(_both, st.just(("and", lambda x, y: x and y)), inner, inner),
        st.builds(_both, st.just(("or", lambda x, y: x or y)), inner, inner),
        st.builds(_one, st.just(("not", lambda x: not x)), inner),
    ),
    max_leaves=3,
)


@given(conditions)
def test_what_holds_at_some_pair_can_hold(condition):
    node, holds = condition
    pairs = [(i, j) for i, j in itertools.product(range(9), range(-4, 12)) if j > i]
    if any(holds(i, j) for i, j in pairs):
        assert can_hold([(node, True)], [START, LATER])
    if not all(holds(i, j) for i, j in pairs):
        assert can_hold([(node, False)], [START, LATER])
