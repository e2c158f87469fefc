"""Normalisers of dense scores in plain torch, for the formulas beside this file.

Scores are (B, H, N, M); what is seen broadcasts to that. A row that sees nothing weighs nothing.
Leaves to others: which scores and what is seen (`contract_scores`, `contract_weights`).
"""

import math

import entmax
import torch
from torch import Tensor


def scaled(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.mT / math.sqrt(q.shape[-1])


def places(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The position of each query, (N, 1), and of each key, (M)."""
    return torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])


def not_future(q: Tensor, k: Tensor) -> Tensor:
    i, j = places(q, k)
    return j <= i


def per_head(numbers: Tensor) -> Tensor:
    return numbers[:, None, None]


def unit(rows: Tensor, most: float = 1e-6) -> Tensor:
    return rows / torch.sqrt((rows * rows).sum(-1, keepdim=True) + most)


def differences(q: Tensor, k: Tensor) -> Tensor:
    """q - k of every pair, (B, H, N, M, D)."""
    return q[:, :, :, None, :] - k[:, :, None, :, :]


def alive(normalise, scores: Tensor, seen: Tensor | None) -> Tensor:
    """Normalise what is seen; no NaN arises that a gradient could meet."""
    if seen is None:
        return normalise(scores)
    some = seen.any(-1, keepdim=True).expand(*scores.shape[:-1], 1)
    weights = normalise(scores.masked_fill(~seen & some, -math.inf))
    return torch.where(some & seen, weights, 0.0)


def softmax(scores: Tensor, seen: Tensor | None = None, sink: Tensor | None = None) -> Tensor:
    """A sink is one more logit of every row, (…, N, 1), whose weight goes nowhere."""
    if sink is None:
        return alive(lambda x: torch.softmax(x, -1), scores, seen)
    hidden = scores if seen is None else scores.masked_fill(~seen, -math.inf)
    logits = torch.cat([hidden, sink.expand(*scores.shape[:-1], 1)], -1)
    return torch.softmax(logits, -1)[..., :-1]


def entmax15(scores: Tensor, seen: Tensor | None = None) -> Tensor:
    return alive(entmax.entmax15, scores, seen)


def sparsemax(scores: Tensor, seen: Tensor | None = None) -> Tensor:
    return alive(entmax.sparsemax, scores, seen)


def largest(scores: Tensor, count: Tensor, seen: Tensor) -> Tensor:
    """Which of the keys seen have the largest scores of their row, so many of each."""
    order = scores.masked_fill(~seen, -math.inf).argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1]).expand_as(order)
    )
    return seen & (rank < count)


def share(grown: Tensor, seen: Tensor, *, of: Tensor | None = None, add=0.0, least=0.0) -> Tensor:
    """Divide by a row sum."""
    total = ((grown if of is None else of) * seen).sum(-1, keepdim=True) + add
    return grown * seen / total.clamp_min(least)


def turned(rows: Tensor, angle: Tensor) -> Tensor:
    """Turn channel c with channel c + D/2 by the angle c, as complex numbers."""
    half = rows.shape[-1] // 2
    number = torch.complex(rows[..., :half], rows[..., half:])
    number = number * torch.exp(1j * angle)
    return torch.cat([number.real, number.imag], -1)


def root_mean_square(rows: Tensor, width: float, most: float = 1e-3) -> Tensor:
    return rows / torch.sqrt((rows * rows).sum(-1, keepdim=True) / width + most)
