"""Running sums over keys: what is added, in which order, and what hidden keys may hold."""

import math

import pytest
import torch

import regard as rg
from regard.backends.tiled.kernel import force_tile
from regard.errors import ProgramError, UnsupportedError

M = 7


@pytest.fixture(params=["reference", "tiled"], autouse=True)
def backend(request):
    with force_tile(2, 3):
        yield request.param


def rows(batch=1, queries=1, keys=M, heads=1):
    random = torch.Generator().manual_seed(5)
    shape = {"dtype": torch.float64, "generator": random}
    q = torch.randn(batch, heads, queries, 4, **shape)
    return {"q": q, "k": torch.randn(batch, heads, keys, 4, **shape)}


def sums(expression, backend, tensors=None, **options):
    """Return a number of every pair: weights without a normaliser, over one-hot values."""
    tensors = tensors or rows()
    keys = tensors["k"].shape[2]
    v = torch.eye(keys, dtype=torch.float64).expand(*tensors["k"].shape[:2], keys, keys)
    program = rg.program(lambda pair: rg.weigh(expression(pair)))
    return rg.attend(program, **tensors, v=v, backend=backend, **options)


@pytest.mark.parametrize(
    ("reverse", "exclusive", "expected"),
    [
        (False, False, [1, 3, 6, 10, 15, 21, 28]),
        (False, True, [0, 1, 3, 6, 10, 15, 21]),
        (True, False, [28, 27, 25, 22, 18, 13, 7]),
        (True, True, [27, 25, 22, 18, 13, 7, 0]),
    ],
)
def test_sums_run_from_either_end_with_or_without_their_key(backend, reverse, exclusive, expected):
    found = sums(lambda p: rg.running_sum(p.j + 1, None, reverse, exclusive), backend)
    assert found[0, 0, 0].tolist() == expected


def test_keys_are_added_in_the_order_of_their_rows_whatever_their_positions(backend):
    positions = torch.tensor([4, 2, 6, 0, 1, 5, 3])
    found = sums(lambda p: rg.running_sum(p.j), backend, key_positions=positions)
    assert found[0, 0, 0].tolist() == positions.cumsum(0).tolist()


def test_hidden_keys_add_nothing_and_have_a_sum_all_the_same(backend):
    found = sums(lambda p: rg.running_sum(p.j + 1, where=p.j % 2 == 0), backend)
    assert found[0, 0, 0].tolist() == [1, 1, 4, 4, 9, 9, 16]


def test_hidden_numbers_may_be_nan_and_infinite_ones_count_from_their_key_on(backend):
    gate = torch.tensor([1.0, math.nan, 2.0, math.inf, 3.0, math.nan, 4.0], dtype=torch.float64)

    def expression(p):
        even = rg.running_sum(rg.key_feature("gate"), where=p.j % 2 == 0)
        large = rg.running_sum(rg.key_feature("gate"), where=p.j == 3, exclusive=True)
        return rg.where(large > 1e9, -1.0, even)

    with_infinity = {**rows(), "gate": gate.view(1, 1, -1)}
    found = sums(expression, backend, with_infinity)[0, 0, 0]
    assert found.tolist() == [1.0, 1.0, 3.0, 3.0, -1.0, -1.0, -1.0]


def test_keys_beyond_their_length_add_nothing(backend):
    tensors = rows(batch=2)
    lengths = torch.tensor([3, 0])
    tensors["k"][0, :, 3:] = math.nan
    seen = {"key_lengths": lengths}

    def expression(p):
        return rg.running_sum(rg.dot(p.q, p.k) * 0 + 1, reverse=True)

    found = sums(expression, backend, tensors, **seen)
    assert found[0, 0, 0].tolist() == [3, 2, 1, 0, 0, 0, 0]
    assert not found[1].any()


def test_the_gradient_of_hidden_numbers_is_nothing_even_where_they_are_nan(backend):
    gate = torch.tensor([0.5, math.nan, 1.0, 2.0, math.nan, 0.1, 0.3], dtype=torch.float64)
    gate = gate.view(1, 1, -1).requires_grad_()

    def expression(p):
        kept = rg.log(rg.key_feature("gate"))
        return rg.running_sum(kept, where=p.j % 3 != 1, reverse=True)

    found = sums(expression, backend, {**rows(), "gate": gate})
    found.sum().backward()
    reached = torch.arange(1, M + 1) / gate.detach()[0, 0]
    expected = torch.where(torch.arange(M) % 3 == 1, 0.0, reached)
    torch.testing.assert_close(gate.grad[0, 0], expected)


def test_a_key_that_no_term_sees_may_matter_to_a_sum(backend):
    """Its tile is skipped by the weights, not by the sum, nor by its gradient."""
    tensors = rows(queries=3)
    gate = torch.rand(1, 1, M, dtype=torch.float64).requires_grad_()

    def last(p):
        total = rg.running_sum(rg.key_feature("gate") * (p.i + 1))
        return rg.weigh(total, where=p.j == M - 1)

    v = torch.ones(1, 1, M, 1, dtype=torch.float64)
    found = rg.attend(rg.program(last), **tensors, v=v, gate=gate, backend=backend)
    expected = gate.detach().sum() * torch.arange(1, 4)
    torch.testing.assert_close(found[0, 0, :, 0].detach(), expected)
    found.sum().backward()
    torch.testing.assert_close(gate.grad, torch.full_like(gate, 6.0))


@pytest.mark.parametrize("tile", [(2, 3), (3, 2)])
def test_sums_of_sums_have_the_gradient_that_differences_say(backend, tile):
    tensors = rows(batch=2, queries=3, keys=4)
    tensors = {name: x.requires_grad_() for name, x in tensors.items()}
    v = torch.randn(2, 1, 4, 1, dtype=torch.float64).requires_grad_()
    gate = torch.randn(2, 1, 4, dtype=torch.float64).requires_grad_()

    def nested(p):
        inner = rg.running_sum(rg.tanh(rg.dot(p.q, p.k)), where=p.j <= p.i + 1, exclusive=True)
        outer = rg.running_sum(inner * rg.key_feature("gate"), where=p.j != 2, reverse=True)
        return rg.softmax(outer, where=p.j <= p.i)

    program = rg.program(nested)
    lengths = {"query_lengths": torch.tensor([3, 2]), "key_lengths": torch.tensor([3, 4])}

    def output(q, k, v, gate):
        return rg.attend(program, q, k, v, gate=gate, backend=backend, query_offset=1, **lengths)

    with force_tile(*tile):
        assert torch.autograd.gradcheck(output, (tensors["q"], tensors["k"], v, gate))


@pytest.mark.parametrize("name", ["cpu", "sdpa"])
def test_kernels_without_ordered_keys_say_so(name):
    program = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k) + rg.running_sum(p.j)))
    with pytest.raises(UnsupportedError, match="a running sum over keys needs ordered keys"):
        rg.attend(program, **rows(), v=torch.ones_like(rows()["k"]), backend=name)


def test_a_sum_of_truth_values_or_outside_pairs_is_refused():
    with pytest.raises(ProgramError, match="must be a number, not a truth value"):
        _ = rg.program(lambda p: rg.softmax(rg.running_sum(p.j < p.i))).root
    with pytest.raises(ProgramError, match="a sink cannot vary over keys"):
        _ = rg.program(lambda p: rg.softmax(p.j * 1.0, sink=rg.running_sum(p.j))).root
