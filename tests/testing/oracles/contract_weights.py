"""Contract programs of other normalisers and of several weights, as dense plain torch.

Each says in whole tensors what its namesake in `regard.testing.programs` says of one pair; where a
paper has the mechanism, its equation is named. q (B, H, N, D), k (B, H, M, D), v (B, H, M, E).
"""

import math

import entmax
import torch

from tests.testing.oracles.dense import (
    alive,
    differences,
    entmax15,
    largest,
    not_future,
    per_head,
    places,
    root_mean_square,
    scaled,
    share,
    softmax,
    sparsemax,
    unit,
)


# ── Other normalisers ─────────────────────────────────────────────────────────────────────────
def gaussian(q, k, v):
    return torch.exp(-differences(q, k).square().mean(-1)) @ v


def sigmoid_weights(q, k, v):
    """Ramapuram et al. 2024, arXiv 2409.04431, equation 3, with b = -log n, causal."""
    odds = torch.exp(scaled(q, k)) / k.shape[-2]
    return odds / (1 + odds) * not_future(q, k) @ v


def softplus_share(q, k, v):
    seen = torch.ones(k.shape[-2], dtype=torch.bool)
    return share(torch.log1p(scaled(q, k).exp()), seen, least=0.5) @ v


def relu_by_length(q, k, v):
    """Wortsman et al. 2023, arXiv 2309.08586, section 3, of squared relus."""
    return scaled(q, k).relu().square() / k.shape[-2] @ v


def normalised_relu(q, k, v, gate):
    norm = root_mean_square(scaled(q, k).relu().square() * not_future(q, k) @ v, 4)
    return norm * torch.sigmoid(norm @ gate)


def exponential_ratio(q, k, v, bound):
    s, even, seen = scaled(q, k), torch.arange(k.shape[-2]) % 2 == 0, not_future(q, k)
    chosen = torch.where(even, s.exp(), (-s).exp() / 2)
    count = seen.sum(-1, keepdim=True).to(q.dtype)
    first = share(chosen, seen, add=per_head(bound.exp()) + 0.1 * count)
    # The bound is meant after exponents are shifted by the largest of them and of 0.
    top = torch.where(even, s, -s).amax(-1, keepdim=True).clamp_min(0).detach().exp()
    second = share(chosen / top, torch.ones_like(seen), of=chosen.clamp_min(0.3) / top, least=0.7)
    return (first + second) @ v


def retention(q, k, v):
    """Sun et al. 2023, RetNet, arXiv 2307.08621, equations 5 and 8: (QKᵀ ⊙ D) V, then a norm."""
    (i, j), heads = places(q, k), torch.arange(q.shape[1])
    decay = torch.exp(-1 / (4.0 + heads.to(q.dtype)))
    return root_mean_square(scaled(q, k) * per_head(decay) ** (i - j) * not_future(q, k) @ v, 4)


def gated_linear(q, k, v, mix, gate, faded, fading, real):
    kept = torch.exp(per_head(gate) * (faded[..., None] - fading[:, :, None]))
    weight = q.relu() @ (k @ mix).relu().mT * kept
    return share(weight, not_future(q, k) & real[:, :, None], add=0.2, least=0.5) @ v


def unlike_sums(q, k, v, tired, weight):
    (i, j), heads = places(q, k), per_head(torch.arange(q.shape[1], dtype=q.dtype))
    weight, tired = weight[:, :, None], tired[..., None]
    first = q @ k.mT * torch.exp((j - i) / (40 + heads)) - 0.3 * tired * weight
    total = torch.log1p(weight.exp()).sum(-1, keepdim=True) + heads
    return first / total * torch.sigmoid(weight) / (1 + tired.abs()) @ v


# ── Sparse weights ────────────────────────────────────────────────────────────────────────────
def entmax_per_head(q, k, v, alpha):
    """Correia, Niculae and Martins 2019, arXiv 1909.00015, section 3: a learned α per head."""
    scores = scaled(q, k)
    each = per_head(1.2 + torch.sigmoid(alpha)).expand(*scores.shape[:-1], 1)
    return alive(lambda x: entmax.entmax_bisect(x, each), scores, not_future(q, k)) @ v


def sparsemax_window(q, k, v):
    """Martins and Astudillo 2016, arXiv 1602.02068, in a window."""
    i, j = places(q, k)
    return sparsemax(scaled(q, k), (i - j).abs() < 9) @ v


def best_keys(q, k, v):
    """Gupta et al. 2021, arXiv 2106.06899: the 5 largest scores of a row alone."""
    scores, hidden = scaled(q, k), ~not_future(q, k)
    best = scores.masked_fill(hidden, -math.inf).topk(5)
    only = torch.full_like(scores, -math.inf).scatter(-1, best.indices, best.values)
    return torch.softmax(only, -1) @ v


def sparse_difference(q, k, v, count, p):
    scores, (i, j) = scaled(q, k), places(q, k)
    some = largest(scores, torch.tensor(9), j <= i)
    short = -k.square().sum(-1)[:, :, None].expand_as(scores)
    few = largest(short, count[..., None] + 4, some)
    # What is the same for all keys of a row changes nothing.
    near, far = entmax15(scores, few), sparsemax(scores / 2, j <= i + 2)
    return (near - 0.4 * far * torch.sigmoid(scores)) @ v


# ── The algebra of weights ────────────────────────────────────────────────────────────────────
def differential(q, k, v, share, q2, k2):
    """Ye et al. 2024, arXiv 2410.05258, equation 1, and a norm of each row."""
    i, j = places(q, k)
    first, second = softmax(scaled(q, k), j <= i), softmax(0.3 * q2 @ k2.mT, j <= i + 3)
    return unit((first - share * second) @ v, 1e-3)


def product_of_weights(q, k, v, weight, gate):
    i, j = places(q, k)
    near = softmax(weight[:, :, None].expand(-1, -1, q.shape[-2], -1), i - j < 9)
    return softmax(scaled(q, k), j <= i) * near * torch.sigmoid(gate) @ v


def local_and_global(q, k, v, share):
    scores, (i, j) = scaled(q, k), places(q, k)
    close, part = (i - j).abs() < 4, torch.sigmoid(share)[..., None]
    near, far = softmax(scores, close), softmax(scores / 2, ~close)
    return (near * part + far * (1 - part) - scores / 100 / k.shape[-2]) @ v


def clipped(q, k, v):
    """Bondarenko et al. 2023, arXiv 2306.12929, equation 4, ζ 1.15 and γ -0.05, and some score."""
    scores, seen = scaled(q, k), not_future(q, k)
    weights = softmax(scores, seen)
    stretched = ((1.15 - -0.05) * weights - 0.05).clamp(0, 1)
    return (stretched + 0.1 * weights * scores * seen) @ v


def drop_key(q, k, v, p):
    """Li et al. 2022, DropKey, arXiv 2208.02646: in evaluation no key is dropped."""
    return softmax(scaled(q, k), not_future(q, k)) @ v


def drop_head(q, k, v):
    """In evaluation every head and key is kept, and what kept ones are multiplied by stays."""
    return softmax(scaled(q, k)) @ v / 0.7 * 1.25


def dropped_out(q, k, v, p):
    """In evaluation nothing is dropped, and nothing scaled."""
    scores = scaled(q, k)
    return (0.9 * softmax(scores, not_future(q, k)) + 0.1 * scores) @ v
