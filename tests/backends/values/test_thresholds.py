"""Thresholds and choices of keys in tiles and kernels: against NumPy and torch, row by row."""

import numpy as np
import pytest
import torch

import regard as rg
from regard.backends.tiled.kernel import force_tile
from regard.backends.tiled.thresholds import solve_threshold

BACKENDS = ("tiled", "cpu")


def qkv(keys=70, queries=33, dtype=torch.float64, spread=1.0):
    q, k, v = (torch.randn(2, 2, rows, 8, dtype=dtype) for rows in (queries, keys, keys))
    return q * spread, k, v


def by_halving(scores, alpha):
    """Normalise the last axis as the paper's definition says (Peters et al. 2019, equation 6)."""
    scaled = (alpha - 1) * scores
    low, high = scaled.max(-1, keepdims=True) - 1, scaled.max(-1, keepdims=True)
    for _ in range(100):
        middle = (low + high) / 2
        enough = (np.maximum(scaled - middle, 0) ** (1 / (alpha - 1))).sum(-1, keepdims=True) > 1
        low, high = np.where(enough, middle, low), np.where(enough, high, middle)
    return np.maximum(scaled - low, 0) ** (1 / (alpha - 1))


def entmax_of(alpha):
    @rg.program
    def sparse(pair):
        return rg.entmax(rg.dot(pair.q, pair.k), alpha)

    return sparse


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("alpha", [1.02, 1.3, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])
def test_every_alpha_agrees_with_halving(backend, alpha, spread):
    q, k, v = qkv(spread=spread)
    weights = by_halving((q @ k.mT).numpy(), alpha)
    with force_tile(5, 16):
        found = rg.attend(entmax_of(alpha), q, k, v, backend=backend)
    torch.testing.assert_close(found, torch.tensor(weights) @ v, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradient_above_alpha_two_is_that_of_the_reference(backend):
    given = [x.requires_grad_() for x in qkv()]
    received = torch.randn(2, 2, 33, 8, dtype=torch.float64)
    found, expected = (
        torch.autograd.grad(rg.attend(entmax_of(3.0), *given, backend=name), given, received)
        for name in (backend, "reference")
    )
    for one, other in zip(found, expected, strict=True):
        # At the edge of the support the derivative of the weights grows without bound.
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("gain", [0.1, 0.5, 1.0, 2.0])
def test_solved_thresholds_make_rows_add_up_to_one_from_below(gain):
    scaled = torch.randn(1, 2, 3, 40, 1, dtype=torch.float64)
    scaled -= scaled.amax(3, keepdim=True)
    scaled[0, 0, 0] = -torch.inf
    found = solve_threshold(scaled, torch.tensor(gain, dtype=torch.float64).view(1, 1, 1, 1, 1))
    total = (scaled - found).clamp_min(0).pow(1 / gain).sum((3, 4))
    assert found[0, 0, 0].item() == 0
    total[0, 0, 0] = 1
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-9)


def best(k, where=None):
    @rg.program
    def chosen(pair):
        score = rg.dot(pair.q, pair.k)
        return rg.softmax(score, where=rg.topk(score, k, None if where is None else where(pair)))

    return chosen


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [0, 1, 3, 64, 500])
def test_ties_take_the_lower_key_and_all_keys_if_there_are_fewer(backend, k):
    q, key, v = qkv(keys=300)
    q, key = q.round(), key.round()
    scores = q @ key.mT
    order = scores.sort(dim=-1, descending=True, stable=True).indices[..., :k]
    seen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, True)
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    expected = (weights.nan_to_num() if k == 0 else weights) @ v
    with force_tile(7, 32):
        found = rg.attend(best(k), q, key, v, backend=backend)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_calls_of_one_shape_may_choose_more_keys_or_fewer(backend):
    program = best(rg.query_feature("count"))
    q, key, v = qkv()
    for most in (2, 40, 3):
        count = torch.randint(0, most + 1, (2, 1, 33)).double()
        found, expected = (
            rg.attend(program, q, key, v, count=count, backend=name)
            for name in (backend, "reference")
        )
        torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("step", [1, 3, 300])
def test_scores_that_are_equal_or_infinite_are_ranked_by_their_keys(backend, step):
    @rg.program
    def boosted(pair):
        score = rg.dot(pair.q, pair.k)
        ranked = rg.topk(score + rg.key_feature("boost"), rg.query_feature("count"))
        return rg.weigh(rg.sigmoid(score), where=ranked)

    q, key, v = qkv(keys=300)
    boost = torch.zeros(2, 1, 300, dtype=torch.float64)
    boost[..., ::step] = torch.inf
    count = torch.arange(33.0).expand(2, 1, 33)
    found, expected = (
        rg.attend(boosted, q.round(), key.round(), v, boost=boost, count=count, backend=name)
        for name in (backend, "reference")
    )
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinitely_many_keys_are_all_and_nan_of_them_none(backend):
    q, key, v = qkv()
    count = torch.tensor([torch.inf, -torch.inf, torch.nan, 2.5]).repeat(9)[:33].view(1, 1, 33)
    program = best(rg.query_feature("count"))
    found, expected = (
        rg.attend(program, q, key, v, count=count, backend=name) for name in (backend, "reference")
    )
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    everything = rg.attend(best(70), q, key, v, backend="reference")
    torch.testing.assert_close(found[:, :, ::4], everything[:, :, ::4], rtol=1e-11, atol=1e-12)
    assert not found[:, :, 1::4].any() and not found[:, :, 2::4].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_choice_ranks_keys_that_the_weights_do_not_see(backend):
    """What is chosen among all keys and then hidden leaves fewer, in hidden blocks too."""

    @rg.program
    def late(pair):
        score = rg.dot(pair.q, pair.k)
        return rg.softmax(score, where=rg.topk(score, 40) & (pair.j <= pair.i))

    q, k, v = qkv(keys=300, queries=300)
    scores = q @ k.mT
    order = scores.sort(dim=-1, descending=True, stable=True).indices[..., :40]
    seen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, order, True).tril()
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).nan_to_num()
    found = rg.attend(late, q, k, v, backend=backend)
    torch.testing.assert_close(found, weights @ v, rtol=1e-11, atol=1e-12)


def test_kernels_refuse_more_choices_than_they_have_room_for():
    @rg.program
    def many(pair):
        score = rg.dot(pair.q, pair.k)
        chosen = rg.topk(score, 1)
        for k in range(2, 7):
            chosen = chosen | rg.topk(-score, k)
        return rg.softmax(score, where=chosen)

    reason = "a kernel reads at most 4 choices of keys"
    found = rg.attend(many, *qkv())
    assert found.shape == (2, 2, 33, 8)
    with pytest.raises(rg.UnsupportedError, match=reason):
        rg.attend(many, *qkv(), backend="cpu")


def test_scores_that_read_running_sums_are_ranked_in_tiles():
    @rg.program
    def ordered(pair):
        score = rg.dot(pair.q, pair.k)
        total = rg.running_sum(rg.sigmoid(score), where=pair.j <= pair.i)
        return rg.entmax(total - score, 1.5, where=rg.topk(score + 0.3 * total, 20))

    given = [x.requires_grad_() for x in qkv()]
    received = torch.randn(2, 2, 33, 8, dtype=torch.float64)
    with force_tile(8, 16):
        found = rg.attend(ordered, *given, backend="tiled")
        slopes = torch.autograd.grad(found, given, received)
    expected = rg.attend(ordered, *given, backend="reference")
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    for one, other in zip(slopes, torch.autograd.grad(expected, given, received), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_that_no_key_changes_share_equally_and_give_no_gradient(backend):
    @rg.program
    def level(pair):
        alpha = 1 + rg.sigmoid(rg.parameter("alpha", per="head"))
        return rg.entmax(0.5 * rg.query_feature("height"), alpha, where=pair.j <= pair.i)

    q, k, v = qkv()
    given = [
        x.requires_grad_() for x in (v, torch.randn(2, 1, 33).double(), torch.zeros(2).double())
    ]
    found = rg.attend(level, q, k, v, height=given[1], alpha=given[2], backend=backend)
    means = v[:, :, :33].cumsum(2) / torch.arange(1, 34)[:, None]
    torch.testing.assert_close(found, means, rtol=1e-11, atol=1e-12)
    _, *others = torch.autograd.grad(found.sum(), given)
    for slope in others:
        torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-11)
