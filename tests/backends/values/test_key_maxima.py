"""Maxima over keys that read other maxima, in tiles and kernels."""

import pytest
import torch

import regard as rg
from regard.backends.tiled.kernel import force_tile


@rg.program
def halfway(pair):
    """Take the largest of each channel away, and then the largest of what is near it."""
    low = pair.k - rg.max_over_keys(pair.k)
    tops = rg.max_over_keys(rg.cos(3 * low) - rg.max_over_keys(low * low))
    return rg.output(rg.softmax(rg.dot(pair.q, low + tops)), values=pair.v - rg.sum(tops))


@pytest.mark.parametrize("backend", ["reference", "tiled", "cpu"])
def test_largest_of_what_reads_a_largest_is_found_after_it(backend):
    given = [
        torch.randn(2, 2, rows, 6, dtype=torch.float64).requires_grad_() for rows in (9, 11, 11)
    ]
    received = torch.randn(2, 2, 9, 6, dtype=torch.float64)
    with force_tile(4, 3):
        found = rg.attend(halfway, *given, backend=backend)
    q, k, v = given
    low = k - k.detach().amax(2, keepdim=True)
    tops = torch.cos(3 * low) - (low * low).amax(2, keepdim=True)
    tops = tops.detach().amax(2, keepdim=True)
    expected = torch.softmax(q @ (low + tops).mT, -1) @ (v - tops.sum(-1, keepdim=True))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    slopes = (torch.autograd.grad(x, given, received) for x in (found, expected))
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
