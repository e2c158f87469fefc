"""Truth values, narrow whole numbers and bits compute as torch's do."""

import pytest
import torch

from tests.flex.test_from_flex import N, assert_as_flex


def test_truth_values_alone_give_truth_values():
    flags = torch.rand(N) < 0.5

    def mod(score, b, h, q_idx, kv_idx):
        known = (q_idx > kv_idx) + flags[kv_idx]
        return score * known + torch.maximum(flags[q_idx], known) * 2 - flags[kv_idx] * known * 3

    assert_as_flex(mod)
    assert_as_flex(None, lambda b, h, q, k: (q >= k) * (k < 9) + (q == k))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16])
def test_narrow_whole_numbers_start_again_beyond_their_range(dtype):
    range_of = torch.iinfo(dtype)
    held = torch.randint(range_of.min, range_of.max + 1, (N,), dtype=dtype)

    def mod(score, b, h, q_idx, kv_idx):
        total = held[q_idx] + held[kv_idx] - held[h] * 3
        return score + (total + -held[q_idx] + (q_idx * 999).to(dtype)) * (2 / range_of.max)

    assert_as_flex(mod)
    assert_as_flex(None, lambda b, h, q, k: (held[q] - held[k] < 9) | (q == k))


def test_bits_are_shared_with_negative_numbers():
    assert_as_flex(None, lambda b, h, q, k: (q & ~k) < 5)
    assert_as_flex(None, lambda b, h, q, k: (q & -4) == (k & -4))
    assert_as_flex(None, lambda b, h, q, k: ((q - k) & k) < 3)
