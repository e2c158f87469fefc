"""Values and what becomes of their sum, dense, written from the papers.

Dropout is left out: without a seed nothing is dropped. `CALLS` says how the rest is called.
"""

import math

import torch

from tests.catalogue.oracles.calls import Call, Sizes
from tests.catalogue.oracles.dense import causal, heads, softmax
from tests.catalogue.oracles.rules import pairs


def _weights(q, k, seen=None):
    """Softmax of q·k / √D."""
    (k,) = heads(q, k)
    return softmax(q @ k.mT / math.sqrt(q.shape[-1]), seen)


def _attend(q, k, v, seen=None):
    return _weights(q, k, seen) @ heads(q, v)[0]


def multi_query(q, k, v):
    """Shazeer (1911.02150), section 3: all heads read the same keys and values; causal."""
    return _attend(q, k, v, causal(q, k))


def grouped_query(q, k, v):
    """Ainslie et al. (2305.13245), section 2.2: each group of heads reads its own; causal."""
    return _attend(q, k, v, causal(q, k))


def output_gate(q, k, v, gate):
    """Qiu et al. (2505.06708), gate at G1: the sum, times a sigmoid, by element; causal."""
    return _attend(q, k, v, causal(q, k)) * gate.sigmoid()


def value_residual(q, k, v, first, first_share, own):
    """ResFormer (2410.17897), learned shares: values λ₁ V₁ + λ₂ V; causal."""
    return _attend(q, k, first_share * first + own * v, causal(q, k))


def head_scale(q, k, v, gain):
    """NormFormer (2110.09456), HeadScale: each head's sum times its own number."""
    return _attend(q, k, v) * gain[:, None, None]


def head_norm(q, k, v, gain):
    """Differential Transformer (2410.05258): each head's sum over its own RMS; causal."""
    out = _attend(q, k, v, causal(q, k))
    return gain * out / (out.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def memory(q, k, v, memories=4):
    """Sukhbaatar et al. (1907.01470): leading, persistent keys that all see; the rest causal."""
    seen = pairs(q, k, lambda i, row: row < memories or row - memories <= i)
    return _attend(q, k, v, seen)


def weight_dropout(q, k, v, p=0.1):
    """Dropout of weights, evaluated: nothing is dropped."""
    return _attend(q, k, v)


def drop_key(q, k, v, p=0.1):
    """DropKey (2208.02646), evaluated: nothing is dropped."""
    return _attend(q, k, v)


def drop_head(q, k, v, p=0.1):
    """DropHead (2004.13342), evaluated: nothing is dropped."""
    return _attend(q, k, v)


CALLS: dict[str, Call] = {
    "multi_query": Call(sizes=Sizes(G=1)),
    "output_gate": Call(lambda draw: {"gate": draw.learned(2, 4, 16, 8)}),
    "value_residual": Call(
        lambda draw: {
            "first": draw.learned(2, 2, 16, 8),
            "first_share": draw.learned(),
            "own": draw.learned(),
        }
    ),
    "head_scale": Call(lambda draw: {"gain": draw.learned(4)}),
    "head_norm": Call(lambda draw: {"gain": draw.learned(8)}),
    "memory": Call(sizes=Sizes(M=20), options={"key_positions": torch.arange(-4, 16)}),
}
