"""Thresholds and the largest of a row: equal scores, hidden rows, too many, and gradients."""

import pytest
import torch

import regard as rg

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def rows(levels=None, count=20):
    """Return q, k and v; products of whole numbers between few levels are often equal."""
    draw = torch.Generator().manual_seed(5)
    q, k, v = (torch.randn(1, 1, count, 8, generator=draw) for _ in "qkv")
    if levels:
        q, k = ((x * levels).round().clamp(-1, 1) for x in (q, k))
    return [x.to(DEVICE).requires_grad_() for x in (q, k, v)]


def same(program, levels=None, **given):
    """Check values and gradients against the reference; return the values."""
    found = []
    for backend in ("triton", "reference"):
        leaves = rows(levels)
        out = rg.attend(program, *leaves, backend=backend, **given)
        found.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    return found[0][0]


def chosen(count):
    @rg.program
    def made(pair):
        """See the best few of the keys before, none of the first query's."""
        score = rg.dot(pair.q, pair.k)
        return rg.softmax(score, where=rg.topk(score, count, where=pair.j < pair.i))

    return made


@pytest.mark.parametrize("count", [0, 1, 5, 1000])
def test_chosen_keys_are_the_reference_s_among_equal_scores(triton, count):
    same(chosen(count), levels=0.6)


def test_each_query_may_choose_its_own_number_of_keys(triton):
    @rg.program
    def made(pair):
        """Choose as many as the query says."""
        score = rg.dot(pair.q, pair.k)
        return rg.softmax(score, where=rg.topk(score, rg.query_feature("count")))

    same(made, count=torch.arange(20, device=DEVICE).view(1, 1, 20) % 7 - 1)


def entmax(alpha):
    @rg.program
    def made(pair):
        """See few keys."""
        return rg.entmax(rg.dot(pair.q, pair.k), alpha=alpha, where=pair.j != pair.i)

    return made


@pytest.mark.parametrize("alpha", [1.2, 1.5, 2.0, 3.0])
def test_thresholds_are_found_on_both_sides_of_two(triton, alpha):
    same(entmax(alpha))


def test_rows_of_entmax_that_see_nothing_are_zero(triton):
    @rg.program
    def later(pair):
        """The first query sees nothing."""
        return rg.entmax(rg.dot(pair.q, pair.k), alpha=1.5, where=pair.j < pair.i)

    out = same(later)
    assert bool((out[:, :, 0] == 0).all())


@rg.program
def weighed(pair):
    """No one softmax."""
    return rg.weigh(rg.sigmoid(rg.dot(pair.q, pair.k)), where=pair.j <= pair.i)


@pytest.mark.parametrize("program", [rg.catalogue.causal(), weighed], ids=lambda one: one.name)
def test_largest_weights_are_observed_and_pass_gradients_on(triton, program):
    found = []
    for backend in ("triton", "reference"):
        leaves = rows()
        _, seen = rg.attend(program, *leaves, observe=["top:5"], backend=backend)
        weights, keys = seen["top:5"]
        grads = torch.autograd.grad(weights.square().sum(), leaves[:2])
        found.append([weights, keys, *grads])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
