"""Weights that are not softmax, dense, written from the papers.

`CALLS` says how those that read more are called.
"""

import math

import torch
from torch.nn.functional import elu, layer_norm, logsigmoid, normalize, softplus

from tests.catalogue.oracles.calls import Call, Sizes
from tests.catalogue.oracles.dense import causal, heads
from tests.catalogue.oracles.rules import per_head


def _scaled(q, k):
    """q·k / √D, of every query with every key of its group."""
    (k,) = heads(q, k)
    return q @ k.mT / math.sqrt(q.shape[-1])


def _sum(weight, q, v):
    """The values, summed with weights as they are."""
    (v,) = heads(q, v)
    return weight @ v


def _mean(weight, q, v, seen=None):
    """The values, summed with weights divided by their row's sum; 0 where that is 0."""
    if seen is not None:
        weight = weight.masked_fill(~seen, 0.0)
    total = weight.sum(-1, keepdim=True)
    return _sum(weight / total.masked_fill(total == 0, 1.0), q, v)


def softmax_one(q, k, v):
    """Miller 2023, "Attention is off by one": exp(s) / (1 + Σ exp(s)), causal."""
    weight = _scaled(q, k).exp().masked_fill(~causal(q, k), 0.0)
    return _sum(weight / (1 + weight.sum(-1, keepdim=True)), q, v)


def learned_sink(q, k, v, sink):
    """gpt-oss (2508.10925): a learned number per head in the denominator, causal."""
    score = _scaled(q, k).masked_fill(~causal(q, k), float("-inf"))
    column = sink[None, :, None, None].expand(*score.shape[:-1], 1)
    return _sum(torch.cat([score, column], -1).softmax(-1)[..., :-1], q, v)


def sigmoid(q, k, v):
    """Ramapuram et al. (2409.04431): σ(s + b) with b = −log n."""
    return _sum((_scaled(q, k) - math.log(k.shape[-2])).sigmoid(), q, v)


def sparsemax(q, k, v):
    """Martins & Astudillo (1602.02068), algorithm 1: (s − τ)₊, τ from the sorted scores."""
    score = _scaled(q, k)
    ordered = score.sort(-1, descending=True).values
    count = torch.arange(1, k.shape[-2] + 1)
    support = (1 + count * ordered > ordered.cumsum(-1)).sum(-1, keepdim=True)
    threshold = (ordered.cumsum(-1).gather(-1, support - 1) - 1) / support
    return _sum((score - threshold).clamp(min=0), q, v)


def _entmax(score, alpha):
    """[(α − 1) s − τ]₊ ^ 1/(α − 1), τ such that they sum to 1 (1905.05702)."""
    scaled = score * (alpha - 1)
    power = 1 / (alpha - 1)

    def weigh(threshold):
        return (scaled - threshold).clamp(min=0) ** power

    with torch.no_grad():
        high = scaled.max(-1, keepdim=True).values
        low = high - 1
        for _ in range(60):
            middle = (low + high) / 2
            above = weigh(middle).sum(-1, keepdim=True) > 1
            low, high = middle.where(above, low), high.where(above, middle)
        rest = (scaled - low).clamp(min=0)
        slope = -(power * rest.where(rest > 0, 1.0) ** (power - 1) * (rest > 0)).sum(-1, True)
    # One step of Newton from the root: it changes no value, and carries the root's gradient.
    return weigh(low - (weigh(low).sum(-1, keepdim=True) - 1) / slope)


def entmax(q, k, v, alpha=1.5):
    """Peters, Niculae & Martins (1905.05702): α-entmax, α = 1.5."""
    return _sum(_entmax(_scaled(q, k), torch.tensor(alpha, dtype=q.dtype)), q, v)


def learned_entmax(q, k, v, alpha):
    """Correia et al. (1909.00015): α = 1 + sigmoid(a), one a per head."""
    return _sum(_entmax(_scaled(q, k), 1 + alpha.sigmoid()[:, None, None]), q, v)


def adaptive_entmax(q, k, v, beta_q, gamma_q, alpha=1.5, delta=1.0):
    """ASEntmax (2506.16640): entmax of (δ + β (log n)^γ) s, n the keys so far, causal."""
    size = torch.arange(1, q.shape[-2] + 1, dtype=q.dtype)
    scale = delta + beta_q * size.log() ** gamma_q
    score = (scale[..., None] * _scaled(q, k)).masked_fill(~causal(q, k), float("-inf"))
    return _sum(_entmax(score, torch.tensor(alpha, dtype=q.dtype)), q, v)


def rela(q, k, v, gain):
    """ReLA (2104.07012): relu(s), then the sum over its RMS, times a gain."""
    out = _sum(_scaled(q, k).relu(), q, v)
    return gain * out / (out.square().mean(-1, keepdim=True) + 1e-8).sqrt()


def relu_over_length(q, k, v):
    """Wortsman et al. (2309.08586): relu(s) / n."""
    return _sum(_scaled(q, k).relu() / k.shape[-2], q, v)


def squared_relu(q, k, v):
    """FLASH (2202.10447), section 2.2 with the scale of its listing: relu(q·k / n)², causal."""
    (k,) = heads(q, k)
    weight = (q @ k.mT / k.shape[-2]).relu().square()
    return _sum(weight.masked_fill(~causal(q, k), 0.0), q, v)


def softpick(q, k, v):
    """Softpick (2504.20966), its safe form: shifted by the row's maximum, then ε; causal."""
    score = _scaled(q, k).masked_fill(~causal(q, k), float("-inf"))
    # The shift is there for the range of floats; a derivative of the function has none of it.
    top = score.detach().max(-1, keepdim=True).values
    lifted = ((score - top).exp() - (-top).exp()).masked_fill(~causal(q, k), 0.0)
    return _sum(lifted.relu() / (lifted.abs().sum(-1, keepdim=True) + 1e-6), q, v)


def softplus_l1(q, k, v):
    """LSSA (2501.13428): softplus(log d · log N · q̂·k̂) over its sum, N = i + 1, causal."""
    (k,) = heads(q, k)
    cosine = normalize(q, dim=-1) @ normalize(k, dim=-1).mT
    length = torch.arange(1, q.shape[-2] + 1, dtype=q.dtype)[:, None]
    weight = softplus(math.log(q.shape[-1]) * length.log() * cosine)
    return _mean(weight, q, v, causal(q, k))


def _features(map_queries, map_keys, q, k):
    """φ(q)·φ(k)."""
    (k,) = heads(q, k)
    return map_queries(q) @ map_keys(k).mT


def _above_zero(rows):
    return elu(rows) + 1


def linear_elu(q, k, v):
    """Katharopoulos et al. (2006.16236), equations 4 and 7: φ(x) = elu(x) + 1."""
    return _mean(_features(_above_zero, _above_zero, q, k), q, v)


def linear_elu_causal(q, k, v):
    """Katharopoulos et al., equation 8: the same over the keys so far."""
    return _mean(_features(_above_zero, _above_zero, q, k), q, v, causal(q, k))


def performer(q, k, v, features, width=256):
    """FAVOR+ (2009.14794), lemma 1: φ(x) = exp(ω·x − |x|²/2) / √R of x / D^¼."""

    def positive(rows):
        rows = rows / rows.shape[-1] ** 0.25
        level = rows @ features - rows.square().sum(-1, keepdim=True) / 2
        return level.exp() / math.sqrt(features.shape[-1])

    return _mean(_features(positive, positive, q, k), q, v)


def cosformer(q, k, v):
    """cosFormer (2202.08791): relu(q)·relu(k) cos(π/2 · (i − j)/M)."""
    rows, columns = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])
    near = torch.cos(math.pi / 2 * (rows - columns).to(q) / k.shape[-2])
    return _mean(_features(torch.relu, torch.relu, q, k) * near, q, v)


def based(q, k, v):
    """Based (2402.18668): the Taylor polynomial 1 + s + s²/2 of exp(s), causal."""
    score = _scaled(q, k)
    return _mean(1 + score + score.square() / 2, q, v, causal(q, k))


def hedgehog(q, k, v, query_map, key_map):
    """Hedgehog (2402.04347): φ(x) = exp(x W) ⊕ exp(−x W), causal."""

    def spiky(weights):
        return lambda rows: torch.cat([(rows @ weights).exp(), (-rows @ weights).exp()], -1)

    return _mean(_features(spiky(query_map), spiky(key_map), q, k), q, v, causal(q, k))


def retention(q, k, v):
    """RetNet (2307.08621), equations 5 and 8: s γ^(i−j), γ = 1 − 2^(−5−h); GroupNorm per head."""
    decay = (1 - 2.0 ** (-5 - torch.arange(q.shape[1], dtype=q.dtype)))[:, None, None]
    apart = torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])
    weight = _scaled(q, k) * (decay ** apart.clamp(min=0)) * causal(q, k)
    out = _sum(weight, q, v)
    return layer_norm(out, out.shape[-1:], eps=1e-6)


def gated_decay(q, k, v, total_q, total_k):
    """Mamba-2 (2405.21060), dual form: L ∘ (C Bᵀ), L the products of decays between, causal."""
    (k,) = heads(q, k)
    between = total_q[..., :, None] - per_head(total_k, q)[..., None, :]
    between = between.masked_fill(~causal(q, k), float("-inf"))
    return _sum(q @ k.mT * between.exp(), q, v)


def relu_linear(q, k, v):
    """EfficientViT (2205.14756), ReLU linear attention: φ = relu."""
    return _mean(_features(torch.relu, torch.relu, q, k), q, v)


def uniform(q, k, v):
    """Average attention (1805.00631), equation 1: the mean of all values so far."""
    return _mean(_scaled(q, k) * 0 + 1, q, v, causal(q, k))


def _falling_sums(draw):
    """Running sums of the logarithms of gates, for queries and for keys, wanting gradients."""
    s = draw.sizes
    total = logsigmoid(draw.given(s.B, s.G, s.M)).cumsum(-1)
    return {
        "total_q": total.repeat_interleave(s.H // s.G, dim=1).requires_grad_(),
        "total_k": total.requires_grad_(),
    }


CROSS = Sizes(N=12, M=20)

CALLS: dict[str, Call] = {
    "learned_sink": Call(lambda draw: {"sink": draw.learned(4)}),
    "sigmoid": Call(sizes=CROSS),
    "learned_entmax": Call(lambda draw: {"alpha": draw.learned(4)}),
    # A power of log 1 = 0 needs γ > 0.
    "adaptive_entmax": Call(
        lambda draw: {
            "beta_q": draw.learned(2, 4, 16, low=0.1),
            "gamma_q": draw.learned(2, 4, 16, low=0.3, high=1.5),
        }
    ),
    "rela": Call(lambda draw: {"gain": draw.learned(8)}),
    "relu_over_length": Call(sizes=CROSS),
    "performer": Call(lambda d: {"features": d.given(8, 6)}, {"width": 6}, sizes=CROSS),
    "cosformer": Call(sizes=CROSS),
    "hedgehog": Call(
        lambda draw: {
            "query_map": draw.learned(4, 8, 8, low=-0.5, high=0.5),
            "key_map": draw.learned(4, 8, 8, low=-0.5, high=0.5),
        }
    ),
    "gated_decay": Call(_falling_sums),
}
