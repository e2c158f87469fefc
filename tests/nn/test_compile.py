"""Layers inside torch.compile: traced whole, with a mask and dropout, values and gradients."""

import pytest
import torch

import regard as rg
from regard.testing.programs import PROGRAMS


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_layer_is_traced_whole(masked, training):
    layer = rg.nn.Attention(PROGRAMS["alibi"], width=16, heads=2, dropout=0.25).train(training)
    rows = torch.randn(2, 5, 16)
    mask = torch.rand(2, 1, 5, 5) > 0.3 if masked else None
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")

    def run(call):
        torch.manual_seed(3)
        layer.zero_grad()
        out = call(rows, mask=mask)
        out.sum().backward()
        return out.detach(), [parameter.grad.clone() for parameter in layer.parameters()]

    expected, found = run(layer), run(compiled)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])
