"""Rows of a table that pairs choose, in scores and values: as the reference, in all blocks.

What the papers say of three such programs is held in tests/testing/oracles.
"""

from functools import partial

import pytest
import torch

import regard as rg
from regard.backends.cpu.kernel import compile_kernel
from regard.errors import UnsupportedError
from regard.ops.bind import Options
from regard.ops.prepare import prepare
from regard.testing.accuracy import largest, worst_error
from tests.backends.cpu.ahead import build_ahead
from tests.backends.cpu.programs import rows, run, score

ROWS = 9


def step(pair):
    return pair.i - pair.j + 4


@rg.program
def relative(pair):
    """Rows chosen beside keys, beside queries and in values, by indices far out of range."""
    keys, queries = (rg.table(name, per=(ROWS, "channel")) for name in ("keys", "queries"))
    values = rg.parameter("values", per=("head", ROWS, "channel"))
    near = 1 / (1 + abs(pair.i - pair.j))
    found = rg.dot(pair.q + queries[-step(pair)], pair.k) + rg.dot(near * pair.q, keys[step(pair)])
    weights = rg.softmax(0.25 * found, where=pair.j <= pair.i + 7)
    return rg.output(weights, values=pair.v - 0.5 * values[step(pair)])


@rg.program
def two_terms(pair):
    """Weights that no one sweep spreads over a table, values that a number of the pair scales."""
    other = rg.softmax(rg.tanh(score(pair)), where=pair.i - pair.j < 200)
    weights = rg.softmax(score(pair)) - 0.5 * other
    values = rg.table("values", per=(ROWS, "channel"))[step(pair)]
    near = rg.where(pair.i >= pair.j, rg.log(pair.i - pair.j + 2), 0.25)
    return rg.output(weights, values=near * (pair.v + values / 4) - values)


@rg.program
def gated(pair):
    """Values that a number of the pair scales, beyond the conditions that hide the pair."""
    gate = rg.sqrt(pair.i - pair.j) * rg.parameter("gain", per="head")
    weights = rg.softmax(score(pair), where=pair.j <= pair.i)
    return rg.output(weights, values=pair.v * gate)


TABLES = {"relative": ("keys", "queries", "values"), "two_terms": ("values",), "gated": ("gain",)}
PROGRAMS = (relative, two_terms, gated)


def tensors_of(program, **sizes):
    found = rows(**sizes)
    heads, width = found["q"].shape[1], found["q"].shape[-1]
    for name in TABLES[program.name]:
        shape = (heads,) if name == "gain" else (ROWS, width)
        shape = (heads, *shape) if program is relative and name == "values" else shape
        found[name] = torch.randn(shape).to(found["q"].dtype)
    return found


@pytest.fixture(scope="module", autouse=True)
def built():
    build_ahead(partial(run, one, tensors_of(one), backend="cpu") for one in PROGRAMS)


def check(program, tensors, **options):
    found = run(program, tensors, backend="cpu", **options)
    expected = run(program, tensors, backend="reference", **options)
    assert found.keys() == expected.keys()
    scale = max(1.0, *map(largest, expected.values()))
    for name, value in expected.items():
        error = worst_error(found[name], value)
        assert error <= 2**12 * torch.finfo(torch.float64).eps * scale, f"{name}: {error:.2e}"


@pytest.mark.parametrize(("n", "m"), [(1, 1), (33, 63), (97, 257), (200, 300)])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_kernels_do_what_the_reference_does_in_all_blocks(program, n, m):
    check(program, tensors_of(program, b=2, h=4, g=2, n=n, m=m), query_offset=max(0, m - n))


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_rows_beyond_their_length_choose_nothing(program):
    tensors = tensors_of(program, b=2, n=97, m=300)
    for name, end in (("q", 60), ("k", 111), ("v", 111)):
        tensors[name][1, :, end:] = 1e30
    check(program, tensors, query_lengths=[97, 60], key_lengths=[300, 111])


def test_few_query_rows_choose_rows_too():
    tensors = tensors_of(relative, n=2, m=700)
    found = rg.attend(relative, **tensors, query_offset=698, backend="cpu")
    expected = rg.attend(relative, **tensors, query_offset=698, backend="reference")
    assert worst_error(found, expected) < 1e-12


@rg.program
def placed(pair):
    """A sweep for few query rows, whose scores choose rows of either side."""
    keys, queries = (rg.table(name, per=(ROWS, "channel")) for name in ("keys", "queries"))
    found = rg.dot(pair.q, pair.k + keys[step(pair)]) + rg.dot(queries[step(pair)], pair.k)
    return rg.softmax(0.25 * found)


def test_sweep_for_few_query_rows_reads_chosen_rows():
    tensors = {**rows(n=2, m=700), "keys": torch.randn(ROWS, 8), "queries": torch.randn(ROWS, 8)}
    tensors = {name: x.double() for name, x in tensors.items()}
    request = prepare(placed, tensors["q"], tensors["k"], tensors["v"],
                      {name: tensors[name] for name in ("keys", "queries")},
                      Options(backend="cpu"))[0].request  # fmt: skip
    assert compile_kernel(request).reads_in_place(2, 700)
    found = rg.attend(placed, **tensors, query_offset=698, backend="cpu")
    expected = rg.attend(placed, **tensors, query_offset=698, backend="reference")
    assert worst_error(found, expected) < 1e-12


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_nothing_depends_on_the_number_of_threads(program):
    tensors = tensors_of(program, b=2, h=4, g=2, n=300, m=600, d=16, e=16)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(run(program, tensors, backend="cpu", query_offset=200))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in found[0])


# ── What kernels decline ─────────────────────────────────────────────────────────────────────
def chosen(size=9):
    return rg.table("t", per=(size, "channel"))


DECLINED = {
    "'t' holds rows that pairs choose, which kernels only multiply": lambda p: rg.softmax(
        rg.sum(rg.tanh(p.q + chosen()[step(p)]))
    ),
    "'t' holds rows that pairs choose, times no one row": lambda p: rg.softmax(
        rg.sum(p.q * p.k * chosen()[step(p)])
    ),
    "'t' holds 1025 rows that pairs choose; kernels take at most 1024": lambda p: rg.softmax(
        rg.dot(p.q, chosen(1025)[step(p)])
    ),
    "'t' holds rows that pairs choose by more than one index": lambda p: rg.softmax(
        rg.dot(p.q, rg.table("t", per=(3, 3, "channel"))[p.i % 3, p.j % 3])
    ),
    "kernels only multiply with rows of one side and add to rows of keys": lambda p: rg.output(
        rg.softmax(score(p)), values=p.v * chosen()[step(p)]
    ),
    "a kernel sums rows of keys; the values differ from pair to pair": lambda p: rg.output(
        rg.softmax(score(p)), values=rg.tanh(p.v + p.q)
    ),
}


@pytest.mark.parametrize("reason", DECLINED)
def test_what_kernels_cannot_do_is_declined_with_its_reason(reason):
    program, tensors = rg.program(DECLINED[reason]), rows()
    if any(leaf.name == "t" for leaf in program.inputs):
        sizes = next(leaf.per for leaf in program.inputs if leaf.name == "t")
        tensors["t"] = torch.randn([8 if axis == "channel" else axis for axis in sizes])
    with pytest.raises(UnsupportedError, match=reason):
        rg.attend(program, **tensors, backend="cpu")


@rg.program
def any_rows(pair):
    table = rg.table("t", per=("rows", "channel"))[step(pair)]
    return rg.output(rg.softmax(rg.dot(pair.q, pair.k + table)), values=pair.v + table)


def test_tables_of_any_size_are_declined_where_they_are_large():
    tensors = {**rows(n=3, m=5), "t": torch.randn(1025, 8, dtype=torch.float64)}
    with pytest.raises(UnsupportedError, match="'t' holds 1025 rows that pairs choose"):
        rg.attend(any_rows, **tensors, backend="cpu")
    tensors["t"] = tensors["t"][:1024]
    check(any_rows, tensors)


def test_rows_that_are_not_finite_are_declined():
    tensors = {**rows(n=3, m=5), "t": torch.randn(9, 8, dtype=torch.float64)}
    tensors["t"][8, 3] = torch.nan
    with pytest.raises(UnsupportedError, match="NaN or infinity"):
        rg.attend(any_rows, **tensors, backend="cpu")
