"""What an expression costs at a pair: every distinct operator once."""

from regard.ir import nodes as n
from regard.passes.build import call
from regard.passes.count_work import Work, count_scalars, visited

X = n.Hole("x", "bhij")
Y = n.Hole("y", "bhij")


def test_functions_and_operations_are_counted_apart():
    node = call("add", call("exp", X), call("mul", Y, 3.0))
    assert count_scalars([node]) == Work(functions=1.0, operations=2.0)


def test_what_is_shared_is_counted_once():
    e = call("exp", X)
    assert count_scalars([call("add", e, e), e]) == Work(functions=1.0, operations=1.0)


def test_dividing_by_a_number_is_a_simple_operation():
    assert count_scalars([call("div", X, 8.0)]).operations == 1.0
    assert count_scalars([call("div", X, Y)]).functions > 0


def test_what_is_skipped_is_not_looked_into():
    inner = call("exp", X)
    found = count_scalars([call("mul", inner, 2.0)], lambda node: node is inner)
    assert found == Work(operations=1.0)
    assert X not in visited([inner], lambda node: node is inner)


def test_work_adds_up_and_is_multiplied():
    one = Work(products=64, bytes=8)
    assert (one + one.times(2)) == Work(products=192, bytes=24)
