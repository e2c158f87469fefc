"""Sums of products over a tile: right whatever varies along what, and blind to hidden NaN."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from regard.backends.values.contract import letters_of, sum_product

AXES = "bhijc"
SIZES = dict(zip(AXES, (2, 3, 4, 5, 6), strict=True))


def value(axes, seed):
    """Return whole numbers varying along some axes, so that every sum of products is exact."""
    shape = [SIZES[axis] if axis in axes else 1 for axis in AXES]
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-3, 4, shape, generator=generator).double()


def expected(factors, mask, axes, sizes):
    full = [sizes[axis] for axis in AXES]
    product = math.prod(factors[1:], start=factors[0]).expand(full)
    if mask is not None:
        product = torch.where(mask, product, 0.0)
    return product.sum([AXES.index(axis) for axis in axes], keepdim=True)


axes_sets = st.sets(st.sampled_from(AXES)).map(lambda axes: "".join(sorted(axes, key=AXES.index)))


@given(st.lists(axes_sets, min_size=1, max_size=4), st.none() | axes_sets, axes_sets.filter(len))
def test_sum_is_that_of_the_whole_product(varying, masked, axes):
    factors = [value(axis_set, seed) for seed, axis_set in enumerate(varying)]
    # Channels that nothing varies along are not counted: the caller does that.
    axes = "".join(a for a in axes if a != "c" or any("c" in v for v in varying)) or "i"
    mask = None if masked is None else value(masked.replace("c", ""), 9) > 0
    found = sum_product(factors, mask, axes, {axis: SIZES[axis] for axis in "bhij"})
    sizes = {**SIZES, "c": SIZES["c"] if any("c" in v for v in varying) else 1}
    assert torch.equal(
        found.expand(expected(factors, mask, axes, sizes).shape),
        expected(factors, mask, axes, sizes),
    )
    assert all(found.shape[AXES.index(axis)] == 1 for axis in axes)


@pytest.mark.parametrize("axes", ["j", "c", "ij", "bhi", "jc"])
@pytest.mark.parametrize("poisoned", [0, 1, 2])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_hidden_nan_does_not_reach_the_sum(axes, poisoned, poison):
    factors = [value("bhij", 1), value("bhjc", 2), value("ij", 3)]
    mask = torch.ones(1, 1, 4, 5, 1, dtype=torch.bool)
    mask[..., 3:, :] = False
    clean = sum_product(factors, mask, axes, SIZES)
    factors[poisoned] = factors[poisoned].clone()
    factors[poisoned][..., 3:, :] = poison
    found = sum_product(factors, mask, axes, SIZES)
    assert torch.equal(found, clean)


def test_factor_that_is_not_summed_makes_nothing_larger():
    peak = 0

    class Peak(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal peak
            result = function(*args, **(kwargs or {}))
            peak = max(peak, result.numel()) if isinstance(result, torch.Tensor) else peak
            return result

    weight, rows, keys = torch.rand(1, 1, 50, 40, 1), torch.rand(1, 1, 50, 1, 30), None
    keys = torch.rand(1, 1, 1, 40, 30)
    with Peak():
        sum_product([weight, rows, keys], None, "c", SIZES)
    assert peak <= 50 * 40


def test_axes_of_size_one_do_not_vary():
    assert letters_of(torch.zeros(2, 1, 4, 1, 6)) == "bic"
