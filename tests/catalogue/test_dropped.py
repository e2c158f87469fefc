"""What is dropped in training: by the law of the draw, over many seeds.

Without a seed nothing is dropped, and tests/catalogue/test_variants.py has the formula.
"""

import itertools
import math

import pytest
import torch

import regard as rg
from regard.catalogue import VARIANTS

P = 0.3
SEEDS = range(60)
NAMES = ["weight_dropout", "drop_key", "drop_head"]
backends = pytest.mark.parametrize("backend", ["reference", "tiled"])


def call(keys=8):
    """Return q, k and, as values, the number of the key: the output is then the weights."""
    draw = torch.Generator().manual_seed(0)
    q = torch.randn(3, 4, 8, 8, generator=draw, dtype=torch.float64, requires_grad=True)
    k = torch.randn(3, 2, keys, 8, generator=draw, dtype=torch.float64, requires_grad=True)
    v = torch.eye(keys, dtype=torch.float64).expand(3, 2, -1, -1)
    return q, k, v.clone().requires_grad_()


def softmax(q, k):
    score = q @ k.repeat_interleave(2, dim=1).mT / math.sqrt(8)
    return score.softmax(-1)


def attend(name, tensors, seed, backend, p=P):
    return rg.attend(VARIANTS[name](p=p), *tensors, seed=seed, backend=backend)


def dropped(name, kept, weights):
    """Return the weights that are left, as the paper has them, of those kept."""
    if name == "drop_key":
        left = weights * kept
        total = left.sum(-1, keepdim=True)
        return left / total.masked_fill(total == 0, 1.0)
    return weights * kept / (1 - P)


@backends
@pytest.mark.parametrize("name", NAMES)
def test_a_seed_is_one_draw(name, backend):
    tensors = call()
    first = attend(name, tensors, 1, backend)
    assert torch.equal(attend(name, tensors, 1, backend), first)
    assert not torch.equal(attend(name, tensors, 2, backend), first)
    assert torch.equal(first == 0, attend(name, tensors, 1, "reference") == 0)


@backends
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_dropped_without_a_seed_or_a_chance(name, backend):
    q, k, v = call()
    torch.testing.assert_close(attend(name, (q, k, v), None, backend), softmax(q, k))
    torch.testing.assert_close(attend(name, (q, k, v), 1, backend, p=0.0), softmax(q, k))


@backends
@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_is_scaled_as_in_the_paper(name, backend):
    tensors = call()
    q, k, _ = tensors
    found = attend(name, tensors, 5, backend)
    kept = found.detach() > 0
    assert kept.any() and not kept.all()
    wanted = dropped(name, kept, softmax(q, k))
    torch.testing.assert_close(found, wanted)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(1)).to(found)
    for got, grad in zip(
        torch.autograd.grad(found, (q, k), direction),
        torch.autograd.grad(wanted, (q, k), direction),
        strict=True,
    ):
        torch.testing.assert_close(got, grad)


@pytest.mark.parametrize("name", NAMES)
def test_as_much_is_dropped_as_it_says_and_each_on_its_own(name):
    tensors = call()
    kept = torch.stack([attend(name, tensors, seed, "tiled").detach() > 0 for seed in SEEDS])
    if name == "drop_head":
        assert torch.equal(kept, kept[..., :1, :1].expand_as(kept))
        kept = kept[..., 0, 0]
    slack = 5 * math.sqrt(P * (1 - P) / kept.numel())
    assert abs(kept.double().mean() - (1 - P)) < slack
    # Draws of their own agree with the next ones, along each axis and over seeds, by chance alone.
    for axis in range(kept.ndim):
        following = kept.roll(-1, axis).narrow(axis, 0, kept.shape[axis] - 1)
        agree = following == kept.narrow(axis, 0, kept.shape[axis] - 1)
        slack = 5 / math.sqrt(agree.numel())
        assert abs(agree.double().mean() - (P**2 + (1 - P) ** 2)) < slack, axis


@pytest.mark.parametrize("name", ["weight_dropout", "drop_head"])
def test_the_mean_over_seeds_is_attention_itself(name):
    q, k, v = call()
    mean = torch.stack([attend(name, (q, k, v), seed, "tiled") for seed in SEEDS]).mean(0)
    weights = softmax(q, k)
    slack = 5 * weights * math.sqrt(P / (1 - P) / len(SEEDS))
    assert ((mean - weights).abs() <= slack).all()


def test_the_mean_of_dropped_keys_is_that_over_all_sets_of_keys():
    q, k, v = call(keys=3)
    mean = torch.stack([attend("drop_key", (q, k, v), seed, "tiled") for seed in SEEDS]).mean(0)
    weights = softmax(q, k)
    wanted, square = torch.zeros_like(weights), torch.zeros_like(weights)
    for kept in itertools.product([False, True], repeat=3):
        chance = math.prod(1 - P if one else P for one in kept)
        left = dropped("drop_key", torch.tensor(kept), weights)
        wanted, square = wanted + chance * left, square + chance * left**2
    slack = 5 * ((square - wanted**2) / len(SEEDS)).sqrt()
    assert ((mean - wanted).abs() <= slack).all()
    # Not attention itself: what is kept takes the place of what is not.
    assert ((wanted - weights).abs() > 1e-3).any()
