"""The ground conftest.py promises is really there."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import settings


def test_unfilled_memory_is_nan():
    assert torch.empty(64).isnan().all()
    assert torch.empty(64, dtype=torch.bfloat16).isnan().all()


def test_warnings_are_errors():
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", UserWarning, stacklevel=1)


@pytest.mark.parametrize("again", [1, 2])
def test_each_test_starts_from_the_same_seed(again):
    expected = torch.rand(3, generator=torch.Generator().manual_seed(1234))
    assert torch.equal(torch.rand(3), expected)
    assert np.random.rand() == np.random.RandomState(1234).rand()


def test_hypothesis_repeats_itself():
    assert settings().derandomize
    assert settings().deadline is None
    assert settings().max_examples in (30, 2000)
