"""Layers in other precisions than float32: autocast, bfloat16 and float16 weights, float64."""

import pytest
import torch

import regard as rg
from tests.nn import programs as p

PROGRAMS = [p.plain, p.alibi, p.relative, p.additive]


def make(program):
    layer = rg.nn.Attention(program, 32, 4)
    exact = rg.nn.Attention(program, 32, 4).double()
    exact.load_state_dict(layer.state_dict())
    return layer, exact


@pytest.mark.parametrize("program", PROGRAMS)
def test_autocast_trains_in_bfloat16_and_learns_in_float32(program):
    layer, exact = make(program)
    x = torch.randn(2, 40, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.bfloat16
    expected = exact(x.double())
    # Measured: 0.4 % to 1.1 % of the largest output, as plain attention under autocast.
    worst = (found.double() - expected).abs().max() / expected.abs().max()
    assert worst < 0.03
    found.float().square().sum().backward()
    expected.square().sum().backward()
    for (name, one), other in zip(layer.named_parameters(), exact.parameters(), strict=True):
        assert one.grad.dtype == torch.float32
        largest = other.grad.abs().max()
        if largest > 1e-6:
            assert (one.grad.double() - other.grad).abs().max() < 0.1 * largest, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_whole_layer_may_be_of_another_precision(program, dtype):
    layer, exact = make(program)
    x = torch.randn(2, 40, 32, dtype=torch.float64)
    layer.to(dtype)
    assert {parameter.dtype for parameter in layer.parameters()} == {dtype}
    found = layer(x.to(dtype))
    assert found.dtype == dtype
    expected = exact(x)
    # Rounded are the weights of four projections, and what they give.
    worst = (found.double() - expected).abs().max() / expected.abs().max()
    assert worst < 16 * torch.finfo(dtype).eps + 1e-7
    found.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_a_cache_decodes_under_autocast():
    layer, _ = make(p.relative)
    layer.eval()
    x, cache = torch.randn(2, 6, 32), rg.nn.KeyValueCache()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = layer(x)
        steps = torch.cat([layer(x[:, i : i + 1], cache=cache) for i in range(6)], dim=1)
    assert steps.dtype == torch.bfloat16
    torch.testing.assert_close(steps, whole, rtol=0, atol=0.02)
