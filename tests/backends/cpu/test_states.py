"""Causal sums by state are those of dense weights, at every border of a chunk, vector or head."""

import pytest
import torch

from regard.backends.base import Declined
from regard.backends.cpu import states
from regard.backends.cpu.library import load_library
from regard.backends.linear.sums import Keys, State, sum_causal

WIDTHS = [(3, 5), (8, 16), (17, 8), (64, 72)]


def dense(f, g, v, sums, totals):
    """The definition: every pair j <= i, and what the state adds."""
    weights = (f @ g.mT).tril()
    row_totals = after_totals = None
    if totals is not None:
        row_totals = weights.sum(-1) + (f * totals).sum(-1)
        after_totals = totals + g.sum(2, keepdim=True)
    return weights @ v + f @ sums, row_totals, sums + g.mT @ v, after_totals


def inputs(rows, widths, dtype, with_totals=True):
    width, across = widths
    f, g = torch.randn(2, 2, 3, rows, width, dtype=dtype)
    v = torch.randn(2, 3, rows, across, dtype=dtype)
    sums, totals = torch.randn(2, 3, width, across, dtype=dtype), None
    if with_totals:
        totals = torch.randn(2, 3, 1, width, dtype=dtype)
    return f, g, v, sums, totals


def same(found, exact, tolerance):
    for one, other in zip(found, exact, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 15, 16, 63, 64, 65, 150])
@pytest.mark.parametrize("widths", WIDTHS)
def test_sums_and_states_are_those_of_dense_weights(widths, rows, dtype):
    given = inputs(rows, widths, dtype)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-3
    same(states.sum_states(*given), dense(*given), tolerance)


@pytest.mark.parametrize("with_totals", [True, False])
@pytest.mark.parametrize("rows", [1, 64, 150])
@pytest.mark.parametrize("widths", WIDTHS)
def test_gradient_is_that_of_dense_weights(widths, rows, with_totals):
    given = inputs(rows, widths, torch.float64, with_totals)
    leaves = [None if one is None else one.requires_grad_() for one in given]
    results = dense(*leaves)
    received = [None if one is None else torch.randn_like(one) for one in results]
    kept = [one for one in leaves if one is not None]
    exact = torch.autograd.grad(
        [one for one in results if one is not None],
        kept,
        [one for one in received if one is not None],
    )
    plain = [None if one is None else one.detach() for one in given]
    found = states.spread_states(tuple(plain), tuple(received))
    same([one for one in found if one is not None], exact, 1e-9)


def test_rows_of_any_strides_are_read():
    given = inputs(70, (8, 8), torch.float64)
    turned = [one.transpose(1, 2).contiguous().transpose(1, 2) for one in given[:3]]
    same(states.sum_states(*turned, *given[3:]), dense(*given), 1e-10)


def test_hidden_keys_reach_no_row_before_them():
    f, g, v, sums, totals = inputs(64, (8, 8), torch.float32)
    before = states.sum_states(f, g, v, sums, totals)[0][:, :, :40].clone()
    g[:, :, 40:], v[:, :, 40:] = 3e30, -2e30
    after = states.sum_states(f, g, v, sums, totals)[0][:, :, :40]
    assert torch.equal(before, after)


def test_sums_by_torch_where_nothing_can_be_built(monkeypatch):
    f, g, v, sums, totals = inputs(130, (3, 5), torch.float64)
    keys, before = Keys(g, v, None, True), State(sums, totals, None)
    built, after = sum_causal(f, None, keys, before)
    monkeypatch.setattr(states, "find_compiler", lambda: "there is no compiler")
    states._library.cache_clear()
    assert not states.has_states(f)
    by_torch, after_torch = sum_causal(f, None, keys, before)
    states._library.cache_clear()
    exact = (built.values, built.totals, after.sums, after.totals)
    found = (by_torch.values, by_torch.totals, after_torch.sums, after_torch.totals)
    same(found, exact, 1e-10)


def test_whole_numbers_have_no_states():
    assert not states.has_states(torch.zeros(1, dtype=torch.int64))


def test_memory_that_runs_out_is_declined(monkeypatch):
    class Full:
        def regard_forward(self, words):
            return 2

    given = inputs(3, (8, 8), torch.float32)
    monkeypatch.setattr(states, "_library", lambda dtype: Full())
    with pytest.raises(Declined, match="got no memory"):
        states.sum_states(*given)


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("real", ["float", "double"])
def test_the_library_builds_for_vectors_of_any_size(real, size):
    lanes = (f"REGARD_REAL={real}", f"REGARD_BYTES={size}")
    assert load_library(states._SOURCE, "states", lanes).regard_forward
