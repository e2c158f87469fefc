import itertools

from hypothesis import given
from hypothesis import strategies as st

from regard.passes.contracts.integers import Linear, at_most, below, impossible, variable

X, Y, Z = (variable(name) for name in "xyz")
BOX = range(-4, 5)
factors = st.integers(-3, 3)
rows = st.builds(lambda x, y, c: Linear({"x": x, "y": y}, c), factors, factors, st.integers(-6, 6))


def number(value):
    return Linear(constant=value)


def test_two_constraints_that_contradict_are_impossible():
    assert impossible([below(X, Y), at_most(Y, X)])


def test_a_chain_of_constraints_is_followed():
    assert impossible([below(X, Y), below(Y, Z), below(Z, X)])
    assert not impossible([below(X, Y), below(Y, Z), at_most(X, Z)])


def test_whole_numbers_have_nothing_between_two_neighbours():
    assert impossible([below(number(2), X.times(2)), below(X.times(2), number(4))])
    assert not impossible([below(number(2), X.times(2)), below(X.times(2), number(5))])


def test_nothing_is_asked_of_no_constraints():
    assert not impossible([])


@given(st.lists(rows, max_size=6))
def test_what_some_numbers_satisfy_is_not_impossible(constraints):
    def holds(x, y):
        at = {"x": x, "y": y}
        return all(
            sum(f * at[k] for k, f in r.terms.items()) + r.constant <= 0 for r in constraints
        )

    if any(holds(x, y) for x, y in itertools.product(BOX, BOX)):
        assert not impossible(constraints)
