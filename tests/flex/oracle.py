"""FlexAttention's own eager code, dense, as what Regard must compute."""

import math

import torch
from torch._higher_order_ops.flex_attention import math_attention
from torch.nn.attention.flex_attention import _identity, noop_mask


def flex_eager(q, k, v, score_mod=None, mask_mod=None, scale=None):
    """Return what FlexAttention computes without compiling: output, lse and largest score."""
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    # It keeps both statistics in bits.
    output, lse, largest = math_attention(
        q, k, v, score_mod or _identity, (None, mask_mod or noop_mask), scale, {}
    )
    return output, lse * math.log(2), largest * math.log(2)


def rows(B=2, H=4, G=None, N=18, M=None, D=8, E=None, dtype=torch.float64, grad=False):
    """Return random q, k and v."""
    G, M, E = G or H, M or N, E or D
    shapes = (B, H, N, D), (B, G, M, D), (B, G, M, E)
    return [torch.randn(shape, dtype=dtype).requires_grad_(grad) for shape in shapes]


def gradients(output, inputs):
    """Return the gradients of a sum in which no element counts like another."""
    weights = torch.arange(output.numel(), dtype=output.dtype).view(output.shape).sin()
    return torch.autograd.grad((output * weights).sum(), inputs)


def assert_same(found, wanted, tolerance=1e-6):
    """Fail unless tensors agree to a part of the largest number wanted."""
    for got, expected in zip(found, wanted, strict=True):
        largest = expected[expected.isfinite()].abs().max().item() if expected.numel() else 0.0
        torch.testing.assert_close(got, expected, atol=tolerance * max(1.0, largest), rtol=0)
