"""Mechanisms that take a query's keys in order, one after the other, written from the papers.

`CALLS` says how those that read more are called.
"""

import math

import torch
from torch.nn.functional import logsigmoid

from tests.catalogue.oracles.calls import Call
from tests.catalogue.oracles.dense import causal, heads, softmax
from tests.catalogue.oracles.rules import per_head


def _scaled(q, k):
    """q·k / √D, of every query with every key of its group."""
    (k,) = heads(q, k)
    return q @ k.mT / math.sqrt(q.shape[-1])


def stick_breaking(q, k, v):
    """Tan et al. (2410.17980): from the key before i back, a part of the rest."""
    part = _scaled(q, k).sigmoid()
    (v,) = heads(q, v)
    out = []
    for i in range(q.shape[-2]):
        stick = torch.ones_like(part[:, :, 0, 0])
        total = torch.zeros_like(v[:, :, 0])
        for j in reversed(range(i)):
            total = total + (stick * part[:, :, i, j])[..., None] * v[:, :, j]
            stick = stick * (1 - part[:, :, i, j])
        out.append(total)
    return torch.stack(out, dim=2)


def contextual_positions(q, k, v, rows, positions=64):
    """CoPE (2405.18719) as in its listing: s + q·e[p], p the sum of gates from j to i, causal."""
    score, seen = _scaled(q, k), causal(q, k)
    gates = score.sigmoid() * seen
    place = torch.stack([gates[..., j:].sum(-1) for j in range(k.shape[-2])], dim=-1)
    place = place.clamp(max=positions)
    below = place.detach().floor().long()
    above = place.detach().ceil().long()
    share = place - below
    at_whole = q @ rows.mT  # (B, H, N, positions + 1)
    between = share * at_whole.gather(-1, above) + (1 - share) * at_whole.gather(-1, below)
    return softmax(score + between, seen) @ heads(q, v)[0]


def forget_gate_online(q, k, v, gate):
    """FoX (2503.02130): s + Σ log f over the gates after j up to i, causal."""
    forgotten = logsigmoid(per_head(gate, q))
    bias = torch.zeros_like(_scaled(q, k))
    for i in range(q.shape[-2]):
        for j in range(i + 1):
            bias[:, :, i, j] = forgotten[:, :, j + 1 : i + 1].sum(-1)
    return softmax(_scaled(q, k) + bias, causal(q, k)) @ heads(q, v)[0]


CALLS: dict[str, Call] = {
    "contextual_positions": Call(lambda draw: {"rows": draw.learned(7, 8)}, {"positions": 6}),
    "forget_gate_online": Call(lambda draw: {"gate": draw.learned(2, 2, 16)}),
}
