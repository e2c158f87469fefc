"""The tolerance lets rounding pass and nothing else."""

import math

import pytest
import torch

from regard.testing.accuracy import allowed_error, assert_as_good_as_eager, worst_error


def attention(q, k, v, scale):
    return torch.softmax(q @ k.mT * scale, -1) @ v


def rows(dtype, keys=17):
    drawn = [torch.randn(2, 3, n, 8).to(dtype) for n in (11, keys, keys)]
    return drawn, [x.double() for x in drawn]


WRONG = {
    "sign flipped": lambda q, k, v, s: -attention(q, k, v, s),
    "scale forgotten": lambda q, k, v, s: attention(q, k, v, 1.0),
    "last key dropped": lambda q, k, v, s: attention(q, k[..., :-1, :], v[..., :-1, :], s),
    "NaN": lambda q, k, v, s: attention(q, k, v, s).index_fill(0, torch.tensor([1]), math.nan),
    "infinite": lambda q, k, v, s: attention(q, k, v, s).index_fill(2, torch.tensor(3), math.inf),
    "one row swapped": lambda q, k, v, s: attention(q, k, v, s).roll(1, 2),
    "narrower sums": lambda q, k, v, s: attention(q, k, v, s).to(torch.float8_e4m3fn).to(q.dtype),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_answer_is_rejected(name, dtype):
    narrow, exact = rows(dtype)
    eager = attention(*narrow, 8**-0.5)
    if dtype == torch.float64:
        eager = attention(*(x.float() for x in narrow), 8**-0.5)
    right = attention(*exact, 8**-0.5)
    with pytest.raises(AssertionError, match=r"^the result: error \S+ exceeds \S+"):
        assert_as_good_as_eager(WRONG[name](*narrow, 8**-0.5), eager, right)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_another_order_of_the_sums_is_accepted(dtype):
    (q, k, v), exact = rows(dtype)
    order = torch.randperm(17)
    eager = attention(q, k, v, 8**-0.5)
    kernel = attention(q, k[..., order, :], v[..., order, :], 8**-0.5)
    if dtype == torch.float64:
        eager = attention(q.float(), k.float(), v.float(), 8**-0.5)
    assert_as_good_as_eager(kernel, eager, attention(*exact, 8**-0.5))


def test_shape_that_differs_is_rejected_and_not_broadcast():
    one = torch.zeros(3, 1)
    with pytest.raises(AssertionError, match=r"^row: shape \(1, 3\)"):
        assert_as_good_as_eager(torch.zeros(1, 3), one, one.double(), what="row")


def test_nan_of_eager_is_no_excuse():
    exact = torch.ones(3, dtype=torch.float64)
    with pytest.raises(AssertionError, match="plain PyTorch's own result is not finite"):
        assert_as_good_as_eager(torch.ones(3), torch.tensor([1.0, math.nan, 1.0]), exact)


def test_equal_infinities_are_no_error_and_others_are():
    empty = torch.tensor([-math.inf, 1.0])
    assert worst_error(empty, empty.double()) == 0
    assert worst_error(empty, torch.tensor([math.inf, 1.0])) == math.inf
    assert worst_error(empty, torch.tensor([0.0, 1.0])) == math.inf
    assert worst_error(torch.tensor([0.0, 1.0]), empty) == math.inf


def test_error_of_a_result_without_elements_is_zero():
    assert worst_error(torch.zeros(0), torch.zeros(0)) == 0


def test_float64_may_lose_as_many_digits_as_float32_did():
    exact = torch.tensor([1.0, 2.0], dtype=torch.float64)
    eager = torch.tensor([1.0, 2.0 + 2.0**-20])
    # Eager lost 8 units of rounding, so float64 may lose 2 · 8, and 2 for the size of the result.
    assert allowed_error(exact, eager, exact) == (2 * 8 + 2) * torch.finfo(torch.float64).eps


def test_terms_that_cancelled_count_by_the_precision_they_were_computed_in():
    zero = torch.zeros(1, dtype=torch.float64)
    for dtype in (torch.bfloat16, torch.float32):
        narrow = zero.to(dtype)
        assert allowed_error(narrow, narrow, zero, scale=8.0) == 8 * torch.finfo(torch.float32).eps
    with pytest.raises(AssertionError):
        assert_as_good_as_eager(torch.tensor([1e-4]), torch.zeros(1), zero, scale=8.0)
