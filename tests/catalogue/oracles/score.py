"""Scores, dense, written from the papers; `CALLS` says how those that read more are called."""

import math

import torch

from tests.catalogue.oracles.calls import Call, Draw
from tests.catalogue.oracles.dense import causal, heads, scaled, softmax


def scaled_dot_product(q, k, v):
    """Vaswani et al. 2017, equation 1."""
    k, v = heads(q, k, v)
    return softmax(q @ k.mT / math.sqrt(q.shape[-1])) @ v


def dot_product(q, k, v):
    """Luong et al. 2015, equation 8, "dot"."""
    k, v = heads(q, k, v)
    return softmax(q @ k.mT) @ v


def general(q, k, v, matrix):
    """Luong et al. 2015, equation 8, "general": qᵀ W k."""
    k, v = heads(q, k, v)
    return softmax(torch.einsum("bhna,hac,bhmc->bhnm", q, matrix, k)) @ v


def concat(q, k, v, query, key, units, width=64):
    """Luong et al. 2015, equation 8, "concat": uᵀ tanh(W [q; k])."""
    k, v = heads(q, k, v)
    both = torch.cat([query, key], dim=-2)  # (H, 2D, W)
    n, m = q.shape[-2], k.shape[-2]
    pair = torch.cat(
        [
            q.unsqueeze(-2).expand(*q.shape[:-1], m, -1),
            k.unsqueeze(-3).expand(*k.shape[:2], n, m, -1),
        ],
        dim=-1,
    )  # (B, H, N, M, 2D)
    score = torch.einsum("bhnmd,hdw->bhnmw", pair, both).tanh()
    return softmax(torch.einsum("bhnmw,hw->bhnm", score, units)) @ v


def additive(q, k, v, units):
    """Bahdanau et al. 2014, appendix A.1.2, of rows that are projected already."""
    k, v = heads(q, k, v)
    hidden = torch.tanh(q.unsqueeze(-2) + k.unsqueeze(-3))  # (B, H, N, M, D)
    return softmax((hidden * units[:, None, None, :]).sum(-1)) @ v


def biaffine(q, k, v, matrix, query, key, bias):
    """Dozat and Manning 2017, the biaffine form: linear terms of either side and a constant."""
    k, v = heads(q, k, v)
    score = torch.einsum("bhna,hac,bhmc->bhnm", q, matrix, k)
    score = score + torch.einsum("bhna,ha->bhn", q, query).unsqueeze(-1)
    score = score + torch.einsum("bhmc,hc->bhm", k, key).unsqueeze(-2)
    return softmax(score + bias[:, None, None]) @ v


def mlp(q, k, v, query, key, hidden, units, width=32):
    """A hidden layer of rectified units over the two rows, and one linear unit upon it."""
    k, v = heads(q, k, v)
    of_query = torch.einsum("bhnd,hdw->bhnw", q, query).unsqueeze(-2)
    of_key = torch.einsum("bhmd,hdw->bhmw", k, key).unsqueeze(-3)
    layer = torch.relu(of_query + of_key + hidden[:, None, None, :])
    return softmax(torch.einsum("bhnmw,hw->bhnm", layer, units)) @ v


def cosine(q, k, v, strength):
    """Graves et al. 2014, equations 5 and 6."""
    k, v = heads(q, k, v)
    lengths = q.norm(dim=-1).unsqueeze(-1) * k.norm(dim=-1).unsqueeze(-2)
    return softmax(strength.unsqueeze(-1) * (q @ k.mT) / (lengths + 1e-8)) @ v


def query_key_norm(q, k, v, scale):
    """Henry et al. 2020 (QKNorm): rows of length 1, a learned scale in place of 1/√D."""
    k, v = heads(q, k, v)
    q = q / q.norm(dim=-1, keepdim=True)
    k = k / k.norm(dim=-1, keepdim=True)
    return softmax(scale[:, None, None] * (q @ k.mT)) @ v


def scaled_cosine(q, k, v, logit_scale):
    """Liu et al. 2021 (Swin v2), equation 2; 1/τ is learned as a logarithm and at most 100."""
    k, v = heads(q, k, v)
    return softmax(_cosine_over_temperature(q, k, logit_scale)) @ v


def _cosine_over_temperature(q, k, logit_scale):
    lengths = q.norm(dim=-1)[..., :, None] * k.norm(dim=-1)[..., None, :]
    scale = torch.exp(torch.clamp(logit_scale, max=math.log(100)))
    return scale[:, None, None] * (q @ k.mT) / lengths


def qk_layer_norm(q, k, v, query_gain, key_gain):
    """Dehghani et al. 2023 (ViT-22B), section 2: layer norm without bias on queries and keys."""
    k, v = heads(q, k, v)
    return softmax(scaled(_layer_norm(q) * query_gain, _layer_norm(k) * key_gain)) @ v


def _layer_norm(x):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-6)


def qk_rms_norm(q, k, v, query_gain, key_gain):
    """Gemma 3 and Qwen 3 reports, architecture: RMS norm on queries and keys."""
    k, v = heads(q, k, v)
    q = q / torch.sqrt(q.square().mean(-1, keepdim=True) + 1e-6) * query_gain
    k = k / torch.sqrt(k.square().mean(-1, keepdim=True) + 1e-6) * key_gain
    return softmax(scaled(q, k), causal(q, k)) @ v


def _squared_distance(q, k):
    return (q.unsqueeze(-2) - k.unsqueeze(-3)).square().sum(-1)


def euclidean(q, k, v):
    """Kim et al. 2020, L2 attention, without the tied weights and their projection."""
    k, v = heads(q, k, v)
    return softmax(-_squared_distance(q, k) / math.sqrt(q.shape[-1])) @ v


def rbf(q, k, v, width):
    """Tsai et al. 2019, attention as a smoother by the kernel exp(−|q − k|²/(2σ²))."""
    k, v = heads(q, k, v)
    kernel = torch.exp(-_squared_distance(q, k) / (2 * width[:, None, None] ** 2))
    return kernel / kernel.sum(-1, keepdim=True) @ v


def manhattan(q, k, v):
    """Scores by the L1 distance over √D."""
    k, v = heads(q, k, v)
    distance = (q.unsqueeze(-2) - k.unsqueeze(-3)).abs().sum(-1)
    return softmax(-distance / math.sqrt(q.shape[-1])) @ v


def squared_dot(q, k, v):
    """Gros 2024 (expressive attention), section 2: weights z²/(1 + z²) over their sum, z = q·k."""
    k, v = heads(q, k, v)
    z = q @ k.mT
    weight = z**2 / (1 + z**2)
    return weight / weight.sum(-1, keepdim=True) @ v


def differential(q, k, v, query1, key1, query2, key2, gain, layer=0):
    """Ye et al. 2024, equations 1 to 3; the layers of equation 2 are counted from 1."""
    k, v = heads(q, k, v)
    half = q.shape[-1] // 2
    seen = causal(q, k)
    start = 0.8 - 0.6 * math.exp(-0.3 * layer)
    share = torch.exp(query1 @ key1) - torch.exp(query2 @ key2) + start
    first = softmax(q[..., :half] @ k[..., :half].mT / math.sqrt(half), seen)
    second = softmax(q[..., half:] @ k[..., half:].mT / math.sqrt(half), seen)
    out = (first - share * second) @ v
    normed = out / torch.sqrt(out.square().mean(-1, keepdim=True) + 1e-5)
    return (1 - start) * gain * normed


def latent(q, k, v, q_rope, k_rope, width=64):
    """DeepSeek-V2 2024, equations 14 to 19: a part that is turned beside one that is not."""
    k, k_rope, v = heads(q, k, k_rope, v)
    turned_q, turned_k = _turned(q_rope), _turned(k_rope)
    score = (q @ k.mT + turned_q @ turned_k.mT) / math.sqrt(q.shape[-1] + q_rope.shape[-1])
    return softmax(score, causal(q, k)) @ v


def _turned(x):
    """Turn neighbouring channels (2c, 2c+1) by position · 10000^(−2c/R), as complex numbers."""
    rows, channels = x.shape[-2:]
    frequency = 10000.0 ** (-torch.arange(0, channels, 2, dtype=x.dtype) / channels)
    angle = torch.outer(torch.arange(rows, dtype=x.dtype), frequency)
    turn = torch.polar(torch.ones_like(angle), angle)
    return torch.view_as_real(torch.complex(x[..., 0::2], x[..., 1::2]) * turn).flatten(-2)


def gatv2(q, k, v, units, edge, slope=0.2):
    """Brody et al. 2021, equation 7, of rows that are projected already."""
    k, v = heads(q, k, v)
    layer = _leaky_relu(q.unsqueeze(-2) + k.unsqueeze(-3), slope)
    return softmax(torch.einsum("bhnmd,hd->bhnm", layer, units), edge) @ v


def gat(q, k, v, source, target, edge, slope=0.2):
    """Velickovic et al. 2018, equation 3, of rows that are projected already."""
    k, v = heads(q, k, v)
    of_query = torch.einsum("bhnd,hd->bhn", q, source).unsqueeze(-1)
    of_key = torch.einsum("bhmd,hd->bhm", k, target).unsqueeze(-2)
    return softmax(_leaky_relu(of_query + of_key, slope), edge) @ v


def _leaky_relu(x, slope):
    return torch.where(x > 0, x, slope * x)


def _edges(draw: Draw):
    """One graph for all heads, in which one node has no neighbour."""
    edge = draw.truth(draw.sizes.B, 1, draw.sizes.N, draw.sizes.M, chance=0.4)
    edge[0, :, 3] = False
    return edge


def _above_and_below_the_bound(draw: Draw):
    """Draw logarithms of a scale, of which the last is over ln 100."""
    start = draw.given(draw.sizes.H, low=0.5, high=3.0)
    start[-1] = 5.0
    return start.requires_grad_()


CALLS: dict[str, Call] = {
    "general": Call(lambda d: {"matrix": d.learned(4, 8, 8, low=-0.5, high=0.5)}),
    "concat": Call(
        lambda d: {
            "query": d.learned(4, 8, 6, low=-0.7, high=0.7),
            "key": d.learned(4, 8, 6, low=-0.7, high=0.7),
            "units": d.learned(4, 6),
        },
        knobs={"width": 6},
    ),
    "additive": Call(lambda d: {"units": d.learned(4, 8)}),
    "biaffine": Call(
        lambda d: {
            "matrix": d.learned(4, 8, 8, low=-0.5, high=0.5),
            "query": d.learned(4, 8),
            "key": d.learned(4, 8),
            "bias": d.learned(4),
        }
    ),
    "mlp": Call(
        lambda d: {
            "query": d.learned(4, 8, 6, low=-0.7, high=0.7),
            "key": d.learned(4, 8, 6, low=-0.7, high=0.7),
            "hidden": d.learned(4, 6),
            "units": d.learned(4, 6),
        },
        knobs={"width": 6},
    ),
    "cosine": Call(lambda d: {"strength": d.learned(2, 4, 16, low=0.5, high=6.0)}),
    "query_key_norm": Call(lambda d: {"scale": d.learned(4, low=2.0, high=9.0)}),
    "scaled_cosine": Call(lambda d: {"logit_scale": _above_and_below_the_bound(d)}),
    "qk_layer_norm": Call(
        lambda d: {
            "query_gain": d.learned(8, low=0.5, high=1.5),
            "key_gain": d.learned(8, low=0.5, high=1.5),
        }
    ),
    "qk_rms_norm": Call(
        lambda d: {
            "query_gain": d.learned(8, low=0.5, high=1.5),
            "key_gain": d.learned(8, low=0.5, high=1.5),
        }
    ),
    "rbf": Call(lambda d: {"width": d.learned(4, low=1.0, high=3.0)}),
    "differential": Call(
        lambda d: {
            **{
                name: d.learned(4, low=-0.6, high=0.6)
                for name in ("query1", "key1", "query2", "key2")
            },
            "gain": d.learned(8, low=0.5, high=1.5),
        },
        knobs={"layer": 3},
    ),
    "latent": Call(
        lambda d: {"q_rope": d.learned(2, 4, 16, 4), "k_rope": d.learned(2, 2, 16, 4)},
        knobs={"width": 4},
    ),
    "gatv2": Call(lambda d: {"units": d.learned(4, 8), "edge": _edges(d)}),
    "gat": Call(
        lambda d: {"source": d.learned(4, 8), "target": d.learned(4, 8), "edge": _edges(d)}
    ),
}
