"""Contract programs of softmax whose scores, masks and sinks differ, as dense plain torch.

Each says in whole tensors what its namesake in `regard.testing.programs` says of one pair; where a
paper has the mechanism, its equation is named. q (B, H, N, D), k (B, H, M, D), v (B, H, M, E).
"""

import math

import torch

from tests.testing.oracles.dense import (
    differences,
    not_future,
    per_head,
    places,
    scaled,
    softmax,
    turned,
    unit,
)


# ── Masks ─────────────────────────────────────────────────────────────────────────────────────
def causal(q, k, v):
    """Vaswani et al. 2017, arXiv 1706.03762, section 3.2.3."""
    return softmax(scaled(q, k), not_future(q, k)) @ v


def strictly_causal(q, k, v):
    i, j = places(q, k)
    return softmax(q @ k.mT / 4, j < i) @ v


def fixed_slope(q, k, v):
    i, j = places(q, k)
    far = (i - j).abs()
    slope = 1 / (1 + torch.arange(q.shape[1], dtype=q.dtype))
    return softmax(scaled(q, k) - per_head(slope) * far, far < 24) @ v


def window(q, k, v):
    """Beltagy, Peters and Cohan 2020, arXiv 2004.05150, section 3.1, causal."""
    i, j = places(q, k)
    return softmax(scaled(q, k), (i - 7 <= j) & (j <= i)) @ v


def dilated(q, k, v):
    """Beltagy, Peters and Cohan 2020, section 3.1: every third key, six of them."""
    i, j = places(q, k)
    seen = torch.stack([i - 3 * step == j for step in range(6)]).any(0)
    return softmax(scaled(q, k), seen) @ v


def prefix(q, k, v, length):
    i, j = places(q, k)
    open_to = 6 * length[: q.shape[0]].abs()
    return softmax(scaled(q, k), (j <= i) | (j < open_to[:, None, None, None])) @ v


def documents(q, k, v, document, source):
    same = document[..., None] == source[:, :, None]
    return softmax(scaled(q, k), same & not_future(q, k)) @ v


def chosen_tokens(q, k, v, real, allowed, open):
    by_place = open.repeat(k.shape[-2])[: k.shape[-2]]
    return softmax(scaled(q, k), real[:, :, None] & (allowed | by_place)) @ v


def minus_infinity(q, k, v):
    i, j = places(q, k)
    return softmax(scaled(q, k), (j % 2 == 0) & (j <= i + 1)) @ v


def scalable(q, k, v, scale):
    """Nakanishi 2025, arXiv 2501.19399, equation 2, of rows of length 1: n^(s · z)."""
    seen = not_future(q, k)
    count = seen.sum(-1, keepdim=True).to(q.dtype)
    return softmax(torch.log(count ** (per_head(scale) * (unit(q) @ unit(k).mT))), seen) @ v


# ── Sinks ─────────────────────────────────────────────────────────────────────────────────────
def learned_sink(q, k, v, sink):
    """OpenAI 2025, the gpt-oss model card, 2.3, in a window."""
    i, j = places(q, k)
    return softmax(scaled(q, k), (j <= i) & (j > i - 8), per_head(sink)) @ v


def query_sink(q, k, v, direction, tired):
    i, j = places(q, k)
    sink = (q @ direction + tired)[..., None] - torch.log(1.0 + i.to(q.dtype))
    return softmax(scaled(q, k), j < i, sink) @ v


# ── Scores ────────────────────────────────────────────────────────────────────────────────────
def mlp(q, k, v, first, second, bias, last):
    """A hidden layer of relus on the joined rows, its matrix in two parts."""
    joined = torch.cat(
        [q[:, :, :, None].expand(-1, -1, -1, k.shape[-2], -1),
         k[:, :, None].expand(-1, -1, q.shape[-2], -1, -1)], -1
    )  # fmt: skip
    matrix = torch.cat([first, second.expand_as(first)], 1)
    hidden = torch.relu(torch.einsum("bhnmd,hdx->bhnmx", joined, matrix) + bias)
    return softmax(hidden @ last, not_future(q, k)) @ v


def manhattan(q, k, v):
    return softmax(-torch.cdist(q, k, p=1) / 2) @ v


def euclidean(q, k, v):
    return softmax(-differences(q, k).square().mean(-1)) @ v


def cosine(q, k, v, heat):
    """Liu et al. 2022, Swin V2, arXiv 2111.09883, equation 2; the code's logit scale, bounded."""
    return softmax(per_head(heat.clamp(max=4).exp()) * (unit(q) @ unit(k).mT)) @ v


def soft_cap(q, k, v, heat):
    """Gemma 2, arXiv 2408.00118, section 2, with a temperature."""
    return softmax(5 * torch.tanh(scaled(q, k) / 5) / heat, not_future(q, k)) @ v


def _speeds(width, dtype):
    return torch.tensor([10000 ** (-2 * c / width) for c in range(width // 2)], dtype=dtype)


def rotary_halves(q, k, v):
    """Su et al. 2021, arXiv 2104.09864, equation 16, causal."""
    speed, (i, j) = _speeds(q.shape[-1], q.dtype), places(q, k)
    rows, columns = turned(q, i * speed), turned(k, j[:, None] * speed)
    return softmax(scaled(rows, columns), not_future(q, k)) @ v


def rotary_interleaved(q, k, v, speed, when, then):
    def neighbours(rows, time):
        number = torch.view_as_complex(rows[..., :4].unflatten(-1, (2, 2)).contiguous())
        number = number * torch.exp(1j * time[..., None] * speed)
        return torch.cat([torch.view_as_real(number).flatten(-2), rows[..., 4:]], -1)

    return softmax(scaled(neighbours(q, when), neighbours(k, then))) @ v


def xpos(q, k, v):
    """Sun et al. 2022, arXiv 2212.10554, algorithm 1: ζ^n on queries, ζ^-n on keys."""
    width, (i, j) = q.shape[-1], places(q, k)
    zeta = (torch.arange(width, dtype=q.dtype) / (width / 2) + 0.4) / 2.4
    speed = _speeds(width, q.dtype)
    rows = turned(q, i * speed) * zeta ** (i / 64)
    columns = turned(k, j[:, None] * speed) / zeta ** (j[:, None] / 64)
    return softmax(scaled(rows, columns), not_future(q, k)) @ v


def further_rows(q, k, v, place, spot, memory):
    gate = torch.sigmoid(spot.square().sum(-1, keepdim=True) - 9)
    return softmax(place @ spot.mT + q @ k.mT / 4) @ (gate * memory + k[..., :3].abs())


def channel_weights(q, k, v):
    c = torch.arange(q.shape[-1], dtype=q.dtype)
    weight = torch.cos(0.7 * c) * torch.sqrt(1 + c) * torch.tensor([0.0, 1, 1, 0, 1, 1, 0, 1])
    lacking = torch.relu(-differences(q, k)).sum(-1)
    return softmax((q * weight) @ k.mT + lacking / 10) @ v


def every_operator(q, k, v):
    s, (i, j) = scaled(q, k), places(q, k)
    waves = s.sin() + (2 * s).cos() + s.erf() + torch.log1p(s.exp()) + 1 / (1 + s.exp())
    powers = (s * s + 1) ** 0.5 + (1 + s.abs()) ** 0.7 + (2 + s * s).log()
    steps = torch.sign(i - j) + torch.floor((i + j) / 5) - torch.remainder(i * j, 7)
    steps = steps - (3 * s - 2 * torch.floor(3 * s / 2))
    chosen = torch.where((s > 0) | (i == j), s.clamp(max=0.5), s.clamp(min=-0.5))
    return softmax(0.3 * (waves + powers - chosen) + steps / 10) @ v


def sizes_and_heads(q, k, v):
    batch, heads, queries, _ = q.shape
    keys, (i, j) = k.shape[-2], places(q, k)
    part = torch.arange(1, heads + 1, dtype=q.dtype) / heads
    part = part[:, None, None] + 0.1 * torch.arange(batch, dtype=q.dtype)[:, None, None, None]
    far = j.to(q.dtype) / keys - i.to(q.dtype) / queries
    return softmax(part * scaled(q, k) - far**2 * math.log(1 + keys)) @ v


def indexed_by_pairs(q, k, v, relation, edges, classes, kind, sort):
    hot = torch.nn.functional.one_hot(edges.expand(-1, q.shape[1], -1, -1), 3).to(q.dtype)
    bias = torch.einsum("bhnmr,hr->bhnm", hot, relation)
    of_class = torch.stack([torch.stack([classes[a, b] for b in sort[n, 0]]) for n in range(len(q))
                            for a in kind[n, 0]])  # fmt: skip
    of_class = of_class.view(q.shape[0], 1, q.shape[2], k.shape[2])
    return softmax(scaled(q, k) + bias + of_class) @ v


# ── Sums over keys in order ───────────────────────────────────────────────────────────────────
def contextual_positions(q, k, v, bias):
    """Golovneva et al. 2024, CoPE, arXiv 2405.18719, equations 4 and 5, a number per position."""
    seen = not_future(q, k)
    gates = torch.sigmoid(q @ k.mT + 0.1) * seen
    place = torch.stack([gates[..., j:].sum(-1) for j in range(k.shape[-2])], -1).clamp(max=6.5)
    low = place.floor().long()
    head = torch.arange(q.shape[1])[:, None, None].expand_as(low)
    part = place - low
    between = (1 - part) * bias[head, low] + part * bias[head, low + 1]
    return softmax(scaled(q, k) + between, seen) @ v


def nested_sums(q, k, v, rate):
    (i, j), keys = places(q, k), k.shape[-2]
    upto = torch.ones(keys, keys, dtype=q.dtype).triu()  # [l, j]: l is up to j
    inner = (torch.tanh(scaled(q, k)) * (j <= i + 2)) @ upto
    seen = ((i - j).abs() < 6).to(q.dtype) @ upto < 5
    outer = (inner / (1 + seen.sum(-1, keepdim=True)) * (j % 3 != 1)) @ upto.mT
    weights = softmax(per_head(rate) * outer / 5, seen)
    before = inner @ upto.triu(1) / 10
    return torch.einsum("bhnm,bhnm,bhme->bhne", weights, before, v)


# ── Values and finish ─────────────────────────────────────────────────────────────────────────
def gated(q, k, v, gate):
    i, j = places(q, k)
    norm = unit(softmax(scaled(q, k), j < i) @ v, 1e-3)
    return norm * torch.sigmoid(q.square().sum(-1, keepdim=True)) + norm @ gate


def laser(q, k, v):
    """Duggal et al. 2024, arXiv 2411.03493, equation 4, causal."""
    return torch.log(softmax(scaled(q, k), not_future(q, k)) @ v.exp())


def moving_values(q, k, v, growth):
    speed = 0.3 / torch.arange(1, v.shape[-1] // 2 + 1, dtype=q.dtype)
    moved = turned(v, torch.arange(k.shape[-2])[:, None] * speed)
    row = (softmax(scaled(q, k)) * torch.tanh(growth)) @ moved
    return row.tanh() + row
