"""What is done to scores, dense, from the papers; `CALLS` says how those that read are called."""

import math

import torch

from tests.catalogue.oracles.calls import Call, Draw, Sizes
from tests.catalogue.oracles.dense import causal, heads, scaled, softmax


def soft_cap(q, k, v, cap=50.0):
    """Gemma 2 report 2024, section 2, logit soft-capping: cap · tanh(s/cap)."""
    k, v = heads(q, k, v)
    return softmax(cap * torch.tanh(scaled(q, k) / cap), causal(q, k)) @ v


def temperature(q, k, v, temperature):
    """Hinton et al. 2015, equation 1, on the scores of attention."""
    k, v = heads(q, k, v)
    return softmax(scaled(q, k) / temperature) @ v


def log_n(q, k, v, trained=512):
    """Chiang and Cholak 2022, section 5.3, and Su 2021: scores times log n to the trained base."""
    k, v = heads(q, k, v)
    return softmax(scaled(q, k) * math.log(k.shape[-2]) / math.log(trained)) @ v


def scalable_softmax(q, k, v, scale):
    """Nakanishi 2025, equation 3: n^(s·z) over their sum, n the keys that a query sees."""
    k, v = heads(q, k, v)
    seen = causal(q, k)
    n = seen.sum(-1, keepdim=True).to(q)  # (N, 1)
    weight = torch.where(seen, n ** (scale[:, None, None] * scaled(q, k)), 0.0)
    return weight / weight.sum(-1, keepdim=True) @ v


def forgetting(q, k, v, total_q, total_k):
    """Lin et al. 2025, equation 5: what the forget gates after the key have left of its weight."""
    k, v, total_k = heads(q, k, v, total_k)
    kept = total_q.unsqueeze(-1) - total_k.unsqueeze(-2)  # Σ_{l=j+1..i} log f_l
    return softmax(scaled(q, k) + kept, causal(q, k)) @ v


def laser(q, k, v):
    """Duvvuri and Dhillon 2024, section 4.2: log(softmax(s) exp(v)), shifted channel by channel."""
    k, v = heads(q, k, v)
    shift = v.max(dim=-2, keepdim=True).values
    return torch.log(softmax(scaled(q, k), causal(q, k)) @ torch.exp(v - shift)) + shift


def clipped_softmax(q, k, v, low=-0.03, high=1.0):
    """Bondarenko et al. 2023, equation 4: clip((ζ − γ)·softmax(s) + γ, 0, 1)."""
    k, v = heads(q, k, v)
    return torch.clamp((high - low) * softmax(scaled(q, k)) + low, 0, 1) @ v


def steered(q, k, v, kept, alpha=0.01):
    """Zhang et al. 2023 (PASTA), equation 2: other tokens weigh α times as much, renormalised."""
    k, v, kept = heads(q, k, v, kept)
    weight = softmax(scaled(q, k)) * torch.where(kept, torch.ones_like(v[..., 0]), alpha).unsqueeze(
        -2
    )
    return weight / weight.sum(-1, keepdim=True) @ v


def _running_totals(draw: Draw, grown):
    """Sum what each key head grows by over the tokens, (B, G, M), and read it from both sides."""
    total = grown.cumsum(-1)
    total_q = total.repeat_interleave(draw.sizes.H // draw.sizes.G, dim=1)
    return {"total_q": total_q.requires_grad_(), "total_k": total.requires_grad_()}


def _log_gates(draw: Draw):
    """Draw the logarithm of a forget gate per token and key head, summed."""
    s = draw.sizes
    return _running_totals(draw, torch.nn.functional.logsigmoid(draw.given(s.B, s.G, s.M) + 1))


def _some_kept(draw: Draw):
    """Draw a set of tokens for each batch row."""
    return {"kept": draw.truth(draw.sizes.B, 1, draw.sizes.M, chance=0.4)}


CALLS: dict[str, Call] = {
    # The published cap leaves scores of this size almost as they are.
    "soft_cap": Call(knobs={"cap": 1.5}),
    "temperature": Call(lambda d: {"temperature": d.given(low=0.4, high=0.8)}),
    "log_n": Call(knobs={"trained": 8}, sizes=Sizes(M=24)),
    "scalable_softmax": Call(lambda d: {"scale": d.learned(4, low=0.2, high=1.5)}),
    "forgetting": Call(_log_gates),
    "steered": Call(_some_kept),
}
