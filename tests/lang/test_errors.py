"""Each mistake of a program's author, by the whole message: what, the author's line, what to do."""

import inspect
import math

import numpy as np
import pytest
import torch

import regard as rg

BROKEN = []
# The message stands in the middle: what is wrong, then the author's line, then the hints.
LOGIC = (
    "a traced value has no truth value: `if`, `and`, `or`, `not` cannot see it",
    "write rg.where(condition, a, b), and & | ~ between conditions",
)
TENSOR = (
    "a tensor of shape (3,) stands in the program itself",
    "programs hold no data: read it with rg.table(name)[index], rg.key_feature(name) or "
    "rg.scalar(name)",
)
TORCH = "the functions of rg compute with these: rg.exp, rg.where, rg.sum, …"
PLACES = (
    "only rows can be sliced (pair.q[:32], without a step) and only tables indexed",
    'declare a table with rg.table(name) or rg.parameter(name, per=("head", size))',
)
MATRIX = 'rg.project takes a matrix: rg.parameter(name, per=("channel", "channel"))'


def says(what, *hints, source="return", line_shown=True):
    """Add a program that must fail with this message, at its line that starts with `source`."""

    def add(fn):
        BROKEN.append(pytest.param(fn, what, hints, source, line_shown, id=fn.__name__))
        return fn

    return add


def own_line(fn, source):
    """The number and text of the function's line that starts with `source`."""
    lines, first = inspect.getsourcelines(fn)
    for number, line in enumerate(lines, first):
        if line.strip().startswith(source):
            return number, line.strip()
    raise AssertionError(f"{fn.__name__} has no line that starts with {source}")


@pytest.mark.parametrize(("fn", "what", "hints", "source", "line_shown"), BROKEN)
def test_mistake_is_told_with_its_line(fn, what, hints, source, line_shown):
    with pytest.raises(rg.ProgramError) as caught:
        rg.program(fn)
    number, text = own_line(fn, source)
    place = f"  {fn.__name__} (test_errors.py:{number})" + (f":  {text}" if line_shown else "")
    assert str(caught.value).split("\n") == [what, place, *hints]


# ── Names ─────────────────────────────────────────────────────────────────────────────────────
KNOWN = "a pair has: batch, head, heads, i, j, k, keys, q, queries, v, visible, width"


@says("'quere' is not something a program can read", f"did you mean 'queries'? {KNOWN}")
def misspelt_leaf(pair):
    return rg.softmax(rg.dot(pair.quere, pair.k))


@says("'mask' is not something a program can read", KNOWN, source="seen")
def leaf_that_is_nothing(pair):
    seen = pair.mask
    return rg.softmax(rg.dot(pair.q, pair.k), where=seen)


@says("two terms of weights are named 'x'")
def two_terms_of_one_name(pair):
    return rg.softmax(pair.j, name="x") + rg.softmax(pair.i + pair.j, name="x")


@says("'x y' cannot name weights; use letters, digits and _")
def term_with_a_strange_name(pair):
    return rg.softmax(pair.j, name="x y")


@says("7 cannot name weights; use letters, digits and _")
def term_named_by_a_number(pair):
    return rg.softmax(pair.j, name=7)


@says(
    "'a' is declared twice, with different meanings; give each its own name",
    source="@says",
    line_shown=False,
)
def one_name_of_two_parameters(pair):
    return rg.softmax(rg.parameter("a") * rg.parameter("a", per="head") * pair.j)


@says(
    "'a' is declared twice, with different meanings; give each its own name",
    source="@says",
    line_shown=False,
)
def one_name_of_a_table_and_a_feature(pair):
    return rg.softmax(rg.table("a")[pair.j] + rg.key_feature("a"))


@says("'q' already names the q of attention; choose another name", source="@says", line_shown=False)
def parameter_named_like_a_row(pair):
    return rg.softmax(rg.parameter("q") * pair.j)


@says("3 cannot name an input; use letters, digits and _", source="@says", line_shown=False)
def scalar_named_by_a_number(pair):
    return rg.softmax(rg.scalar(3) * pair.j)


@says("'k' is a row of the key's side, not the query's")
def key_row_as_a_query_vector(pair):
    return rg.softmax(rg.dot(rg.query_vector("k"), pair.q))


# ── Arrays ────────────────────────────────────────────────────────────────────────────────────
@says("per='heads' of parameter 'a': did you mean 'head'? known: a positive size, channel, head")
def misspelt_axis(pair):
    return rg.softmax(rg.parameter("a", per="heads") * pair.j)


@says("per=('channel', 'head') of 'a': at most one 'head', and 'channel' last")
def axes_in_the_wrong_order(pair):
    return rg.softmax(rg.parameter("a", per=("channel", "head")) * pair.j)


@says("per='rows' of parameter 'a': known: a positive size, channel, head")
def parameter_of_any_size(pair):
    return rg.softmax(rg.parameter("a", per="rows")[pair.j])


@says("per=0 of parameter 'a': known: a positive size, channel, head")
def parameter_without_rows(pair):
    return rg.softmax(rg.parameter("a", per=0)[pair.j])


@says("parameter 'a' has 1 index axis (5); index it, e.g. a[pair.i - pair.j]")
def table_without_an_index(pair):
    return rg.softmax(rg.parameter("a", per=5) * pair.j)


@says("table 'a' has 2 index axes; index it, e.g. a[pair.i - pair.j]")
def table_of_two_axes_without_an_index(pair):
    return rg.softmax(rg.table("a", per=(3, "rows")) * pair.j)


@says("parameter 'a' takes 1 indices, not 2")
def too_many_indices(pair):
    return rg.softmax(rg.parameter("a", per=5)[pair.i, pair.j])


@says("an index of 'a' must be an integer; use rg.floor(x)")
def index_that_is_no_integer(pair):
    return rg.softmax(rg.parameter("a", per=5)[pair.j / 2])


@says("index 7 of 'a' is outside 0 … 4")
def index_outside(pair):
    return rg.softmax(rg.parameter("a", per=5)[7] * pair.j)


@says(
    "init=0.3 of parameter 'a' is no initialiser; use rg.init.zeros, rg.init.normal(0.02), …",
    source='wrong = rg.parameter("a"',
)
def number_as_an_initialiser(pair):
    wrong = rg.parameter("a", init=0.3)
    return rg.softmax(wrong * pair.j)


@says(MATRIX)
def projection_by_a_row(pair):
    return rg.softmax(rg.sum(rg.project(pair.q, rg.parameter("m", per="channel"))))


@says(MATRIX)
def projection_by_a_number(pair):
    return rg.softmax(rg.sum(rg.project(pair.q, 3)))


@says("parameter 'm' is a matrix; use it as rg.project(row, m)")
def matrix_as_a_row(pair):
    return rg.softmax(rg.sum(pair.q * rg.parameter("m", per=("channel", "channel"))))


# ── Python that tracing cannot see ────────────────────────────────────────────────────────────
@says(*LOGIC, source="if")
def an_if(pair):
    if pair.i < pair.j:
        return rg.softmax(pair.j)
    return rg.softmax(pair.i + pair.j)


@says(*LOGIC)
def an_and(pair):
    return rg.softmax(pair.j, where=pair.i > pair.j and pair.j > 2)


@says(*LOGIC)
def a_chain(pair):
    return rg.softmax(pair.j, where=0 < pair.j < pair.i)


@says(*LOGIC)
def a_not(pair):
    return rg.softmax(pair.j, where=not pair.j < pair.i)


@says(*LOGIC)
def builtin_max(pair):
    return rg.softmax(max(pair.i, pair.j))


@says("a traced value is no Python integer; rg.floor(x) gives one")
def builtin_int(pair):
    return rg.softmax(int(pair.j / 2))


@says(
    "a traced value is no Python number; the functions of rg (rg.exp, rg.sqrt, …) compute with it"
)
def function_of_math(pair):
    return rg.softmax(math.sqrt(pair.j))


@says("a traced value cannot index a Python list; use rg.table(name)[index]")
def index_of_a_list(pair):
    return rg.softmax([1.0, 2.0][pair.j])


@says("a traced value cannot be looped over; reduce channels with rg.sum or rg.dot")
def builtin_sum(pair):
    return rg.softmax(sum(pair.q))


@says("a traced value has no length; pair.width, pair.keys and pair.queries are sizes")
def builtin_len(pair):
    return rg.softmax(pair.j / len(pair.q))


@says("@ has no meaning for traced rows; write rg.dot(u, w), or rg.project(u, matrix)")
def matrix_product(pair):
    return rg.softmax(pair.q @ pair.k)


@says("torch.exp computes with tensors, not with traced values", TORCH)
def function_of_torch(pair):
    return rg.softmax(torch.exp(pair.j))


@says("torch.silu computes with tensors, not with traced values", TORCH)
def function_of_torch_written_in_python(pair):
    return rg.softmax(torch.nn.functional.silu(pair.j))


@says("torch.where computes with tensors, not with traced values", TORCH)
def where_of_torch(pair):
    return rg.softmax(torch.where(pair.j < pair.i, 0.0, 1.0))


@says(*TENSOR)
def tensor_in_the_program(pair):
    return rg.softmax(pair.j + torch.zeros(3))


@says(*TENSOR)
def tensor_on_the_left(pair):
    return rg.softmax(torch.zeros(3) * pair.j)


@says(*TENSOR)
def array_of_numpy(pair):
    return rg.softmax(np.zeros(3) + pair.j)


@says("'a' is no number, condition or traced value")
def text_in_the_program(pair):
    return rg.softmax(pair.j + "a")


@says(*PLACES)
def one_channel(pair):
    return rg.softmax(pair.q[3])


@says(*PLACES)
def slice_with_a_step(pair):
    return rg.softmax(rg.sum(pair.q[::2]))


@says("channels -2:None is an empty or negative slice")
def slice_from_the_end(pair):
    return rg.softmax(rg.sum(pair.q[-2:]))


@says("rg.min takes two or more values")
def smallest_of_one(pair):
    return rg.softmax(rg.min(pair.j))


# ── Scores, weights and the end ───────────────────────────────────────────────────────────────
@says(
    "the program returned nothing (is a `return` missing?); return weights, e.g. rg.softmax(score)",
    source="@says",
    line_shown=False,
)
def forgotten_return(pair):
    rg.softmax(rg.dot(pair.q, pair.k))


@says(
    "the program returned a score, not weights",
    "wrap it: rg.softmax(score), or rg.weigh(score) to use it as it is",
    source="@says",
    line_shown=False,
)
def score_returned(pair):
    return rg.dot(pair.q, pair.k)


@says(
    "the program returned 3; return weights, e.g. rg.softmax(score)",
    source="@says",
    line_shown=False,
)
def number_returned(pair):
    return 3


@says("a score must be a number, not a truth value; use rg.where(condition, 1.0, 0.0)")
def condition_as_a_score(pair):
    return rg.softmax(pair.j < pair.i)


@says("where must be a condition such as pair.j <= pair.i, not a number")
def number_as_a_condition(pair):
    return rg.softmax(pair.j, where=pair.i - pair.j)


@says("a score cannot vary over channels; reduce it with rg.sum or rg.dot")
def score_with_channels(pair):
    return rg.softmax(pair.q * pair.k)


@says("a score cannot read weights; a program normalises once and combines weights afterwards")
def weights_inside_a_score(pair):
    return rg.softmax(rg.softmax(pair.j))


@says("weights can be added, subtracted, multiplied; to apply 'exp' write rg.map(f, weights)")
def function_of_weights(pair):
    return rg.exp(rg.softmax(pair.j))


@says("only weights can be added to weights; write rg.weigh(expression) for the other side")
def number_added_to_weights(pair):
    return rg.softmax(pair.j) + 1


@says("weights cannot divide; normalise with rg.ratio")
def division_by_weights(pair):
    return rg.softmax(pair.j) / rg.softmax(pair.i + pair.j)


@says("a sink cannot vary over keys")
def sink_per_key(pair):
    return rg.softmax(pair.j, sink=pair.j)


@says("probability 1.1 is outside 0 … 1")
def probability_above_one(pair):
    return rg.softmax(pair.j, where=rg.keep(1.1))


@says("axes='xb' of rg.keep: choose from b, h, i, j")
def keep_over_an_unknown_axis(pair):
    return rg.softmax(pair.j, where=rg.keep(0.1, "xb"))


@says("rg.dropout works on weights, such as rg.softmax(score)")
def dropout_of_a_score(pair):
    return rg.dropout(pair.j * 1.0, 0.1)


@says("finish cannot vary over keys")
def finish_that_reads_keys(pair):
    return rg.output(rg.softmax(pair.j), finish=lambda row: row * pair.j)


@says("values need channels, e.g. pair.v")
def values_without_channels(pair):
    return rg.output(rg.softmax(pair.j), values=pair.j)


@says("rg.output ends a program; nothing can be computed from it")
def output_inside(pair):
    return rg.softmax(rg.output(rg.softmax(pair.j)))


@says(
    "pair.visible counts what `where` admits, so `where` cannot read it",
    source="@says",
    line_shown=False,
)
def visible_in_where(pair):
    return rg.softmax(pair.j, where=pair.visible > 2)


@says(
    "pair.visible belongs inside a score, not outside the weights",
    source="@says",
    line_shown=False,
)
def visible_outside(pair):
    return rg.softmax(pair.j) * pair.visible


@says("the angle of rg.rotate must belong to the same row as what it turns")
def angle_of_the_other_row(pair):
    return rg.softmax(rg.dot(rg.rotate(pair.q, pair.j * 0.1), pair.k))


# ── Around the program ────────────────────────────────────────────────────────────────────────
def test_line_of_a_helper_outside_regard_is_the_one_shown():
    def helper(row):
        return rg.dot(row, 3 * rg.channel) + row[5]

    def outer(pair):
        return rg.softmax(helper(pair.q))

    with pytest.raises(rg.ProgramError) as caught:
        rg.program(outer)
    assert "  helper (test_errors.py:" in str(caught.value)
    assert ":  return rg.dot(row, 3 * rg.channel) + row[5]" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (3, "rg.program takes a function of one pair, not 3"),
        (
            lambda: 3,
            "<lambda> takes 0 arguments; a program takes one, the pair: def <lambda>(pair)",
        ),
        (lambda a, b: a, "<lambda> takes 2 arguments; a program takes one, the pair"),
    ],
)
def test_what_is_no_function_of_one_pair_is_refused(given, text):
    with pytest.raises(rg.ProgramError) as caught:
        rg.program(given)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("build", [lambda: rg.softmax(rg.channel), lambda: rg.keep(0.1)])
def test_term_or_draw_outside_a_program_is_refused(build):
    with pytest.raises(rg.ProgramError, match=r"^this belongs inside a program: a function of one"):
        build()
