"""Channel expressions of the pair as rows of a side and rows that the pair chooses."""

import pytest

import regard as rg
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.lang import tracer
from regard.lang.pair import Pair
from regard.passes.build import ONE
from regard.passes.part_rows import holds_chosen_rows, part_products, part_values


def traced(expression):
    with tracer.tracing():
        return expression(Pair()).node


def table(pair, name="t"):
    return rg.table(name, per=("rows", "channel"))[pair.i - pair.j]


def test_rows_that_one_side_chooses_are_no_chosen_rows():
    of_queries = traced(lambda p: p.k * rg.table("t", per=("rows", "channel"))[p.i])
    assert not holds_chosen_rows(of_queries)
    assert holds_chosen_rows(traced(lambda p: p.k * table(p)))


def test_products_are_multiplied_out_around_chosen_rows_alone():
    def body(p):
        scale = 0.5 * abs(p.i - p.j)
        return scale * (p.q + p.q * 2) * (p.k - table(p) / p.width)

    plain, chosen = part_products(traced(body))
    assert plain.chosen is None and not holds_chosen_rows(plain.rows)
    assert plain.rows is traced(lambda p: (p.q + p.q * 2) * p.k)
    assert chosen.chosen is traced(table)
    # What the two sides of a sum share is left as it is.
    assert chosen.rows is traced(lambda p: p.q + p.q * 2)


def test_values_of_equal_scale_are_one_row():
    found = part_values(traced(lambda p: (p.i - p.j) * (p.v + table(p)) + (p.i - p.j) * p.k))
    assert found.scale is traced(lambda p: p.i - p.j)
    assert found.rows is traced(lambda p: p.v + p.k)
    assert [row for _, row in found.chosen] == [traced(table)]


def test_values_of_rows_alone_are_left_as_they_are():
    row = traced(lambda p: rg.tanh(p.v) + p.k)
    found = part_values(row)
    assert (found.rows, found.scale, found.chosen) == (row, ONE, ())


def test_table_that_is_added_twice_is_summed_once():
    found = part_values(traced(lambda p: p.v + table(p) + p.i * p.j * table(p)))
    assert len(found.chosen) == 1
    assert isinstance(found.chosen[0][0], n.Call) and found.chosen[0][0].op == "add"


@pytest.mark.parametrize(
    "values",
    [
        lambda p: p.q * p.v,
        lambda p: p.v * table(p),
        lambda p: p.v + rg.tanh(table(p)),
        lambda p: p.i * p.j * p.v + p.k,
        table,
    ],
)
def test_values_that_are_no_such_sum_are_refused(values):
    with pytest.raises(UnsupportedError, match=r"pair to pair|rows that pairs choose"):
        part_values(traced(values))
