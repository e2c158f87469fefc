"""The shapes of a program's arrays, and how parameters start."""

import pytest
import torch

import regard as rg
from regard.errors import InputError
from regard.ir import nodes as n
from regard.ops.parameters import alibi_slopes, initial_tensor, parameter_shapes, row_widths


@rg.program
def shaped(pair):
    one = rg.parameter("one") + rg.parameter("head", per="head")
    table = rg.parameter("table", per=("head", 5))[pair.i]
    row = rg.parameter("row", per="channel") * pair.q + rg.parameter(
        "both", per=("head", "channel")
    )
    wide = rg.project(row, rg.parameter("matrix", per=("head", "channel", "channel")), width=12)
    gain = rg.parameter("gain", per="channel")
    weights = rg.softmax(rg.dot(wide, rg.key_vector("far")) + one + table)
    return rg.output(weights, finish=lambda summed: gain * summed)


def test_shapes_follow_from_the_rows():
    assert parameter_shapes(shaped.root, 4, {"q": 8, "k": 8, "v": 6}) == {
        "row": (8,),
        "both": (4, 8),
        "matrix": (4, 8, 12),
        "one": (),
        "head": (4,),
        "table": (4, 5),
        "gain": (6,),
    }


def test_widths_follow_or_are_the_one_said():
    assert row_widths(shaped.root, {"q": 8, "v": 6}, 99)["far"] == 12
    free = rg.program(lambda p: rg.softmax(rg.dot(rg.query_vector("a"), rg.key_vector("b"))))
    assert row_widths(free.root, {"q": 8}, 10) == {"q": 8, "a": 10, "b": 10, "v": 10}


def test_row_that_nothing_decides_has_the_channels_that_slices_of_it_take():
    @rg.program
    def sliced(pair):
        rows = rg.query_vector("rows")
        return rg.softmax(rg.dot(rows[:4], pair.k[:4]) + rg.dot(rows[20:24], pair.k[4:]))

    assert row_widths(sliced.root, {"k": 8}, 10)["rows"] == 24
    assert row_widths(sliced.root, {"k": 8}, 30)["rows"] == 30


def test_width_that_nothing_decides_is_told():
    lost = rg.program(lambda p: rg.softmax(rg.sum(rg.parameter("a", per="channel")) + p.j))
    with pytest.raises(InputError) as caught:
        parameter_shapes(lost.root, 4, {"q": 8, "k": 8, "v": 8})
    assert str(caught.value) == (
        "nothing decides how many channels parameter 'a' has; combine it with a row, "
        "or give a layer widths={'a': …}"
    )
    with pytest.raises(InputError, match=r"; 'aa', whose width is given, is not read$"):
        parameter_shapes(lost.root, 4, {"q": 8, "k": 8, "v": 8, "aa": 3})


@pytest.mark.parametrize(
    ("heads", "first"),
    [
        (1, [2**-8]),
        (8, [2**-1, 2**-2, 2**-3, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8]),
        # Those of 8 heads, then every second one of 16.
        (12, [2**-n for n in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]),
    ],
)
def test_slopes_are_those_of_the_alibi_paper(heads, first):
    assert alibi_slopes(heads) == pytest.approx(first, rel=1e-15)


def start(init, shape, per=("head",)):
    array = n.Array("parameter", "p", per, init)
    return initial_tensor(array, shape, torch.Generator().manual_seed(3))


def test_parameters_start_as_their_initialisers_say():
    assert torch.equal(start(rg.init.zeros, (3,)), torch.zeros(3))
    assert torch.equal(start(rg.init.ones, (3,)), torch.ones(3))
    assert torch.equal(start(rg.init.constant(0.25), (2, 3)), torch.full((2, 3), 0.25))
    assert torch.equal(start(None, (3,)), torch.zeros(3))
    slopes = start(rg.init.alibi, (2, 3), ("head", 3))
    assert slopes.tolist() == [[2**-4] * 3, [2**-8] * 3]
    eyes = start(rg.init.identity, (2, 3, 3), ("head", "channel", "channel"))
    assert torch.equal(eyes, torch.eye(3).expand(2, 3, 3))


def test_random_parameters_have_the_spread_that_was_asked_for():
    drawn = start(rg.init.normal(0.5), (10_000,))
    # A mean of n numbers errs by spread / sqrt(n); five times that is as good as never.
    assert abs(drawn.mean()) < 5 * 0.5 / 100
    assert abs(drawn.std() - 0.5) < 5 * 0.5 / 100
    even = start(rg.init.uniform(-1.0, 3.0), (10_000,))
    assert -1 <= even.min() < -0.9 and 2.9 < even.max() <= 3
    assert torch.equal(drawn, start(rg.init.normal(0.5), (10_000,))), "drawn from the generator"


def test_initialiser_that_does_not_fit_is_told():
    with pytest.raises(InputError) as caught:
        start(rg.init.alibi, (5,), (5,))
    assert (
        str(caught.value) == "init.alibi gives a slope per head; parameter 'p' needs per=\"head\""
    )
    with pytest.raises(
        InputError, match=r"^init\.identity needs a square matrix; parameter 'p' is"
    ):
        start(rg.init.identity, (3, 4), ("channel", "channel"))


def test_parameters_not_given_start_anew_in_each_call():
    program = rg.program(
        lambda p: rg.softmax(
            rg.dot(p.q, p.k) + rg.parameter("a", per=7, init=rg.init.normal(9.0))[p.j]
        )
    )
    q = torch.randn(1, 1, 7, 4)
    torch.manual_seed(1)
    first, second = rg.attend(program, q, q, q), rg.attend(program, q, q, q)
    assert not torch.allclose(first, second)
