"""Mechanisms that take a query's keys in order, one after the other, written from the papers.

`CALLS` says how those that read more are called.
"""

import math

import torch
from torch.nn.functional import logsigmoid, pad

from tests.catalogue.oracles.calls import Call, Draw, Sizes
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


def gated_linear(q, k, v, total_q, total_k):
    """GLA (2312.06635), section 4.1: S_i = diag(α_i) S_{i−1} + k_iᵀ v_i, o_i = q_i S_i.

    The totals are of log α up to a position. The state goes by those of the keys; where those of
    a query differ from them, it reads the state as that much older.
    """
    k, v, total = heads(q, k, v, total_k)
    kept = _steps(total).exp()
    return _recurrence(q * (total_q - total).exp(), k, v, kept)


def mamba(q, k, v, log_rate, total_q, total_k, step_k):
    """S6 (2312.00752), section 3.2 with B̄ = ΔB: h_i = exp(Δ_i A) h_{i−1} + Δ_i B_i x_i, y = C h.

    A = −exp(log_rate), B, C and x are k, q and v; the totals are of Δ up to a position.
    """
    k, v = heads(q, k, v)
    step, total = per_head(step_k, q)[..., None], per_head(total_k, q)[..., None]
    state_matrix = -log_rate.exp()[:, None, :]
    kept = (state_matrix * _steps(total)).exp()
    since = (state_matrix * (total_q[..., None] - total)).exp()
    return _recurrence(q * since, step * k, v, kept)


def _steps(total):
    """What each position adds to a total along the rows."""
    return total.diff(dim=-2, prepend=torch.zeros_like(total[:, :, :1]))


def _recurrence(q, k, v, kept):
    """Read q from a (D, E) state of which each row keeps a part by channel, and adds k and v."""
    state = torch.zeros_like(k[:, :, 0, :, None] * v[:, :, 0, None, :])
    out = []
    for i in range(q.shape[-2]):
        state = kept[:, :, i, :, None] * state + k[:, :, i, :, None] * v[:, :, i, None, :]
        out.append(torch.einsum("bhc,bhce->bhe", q[:, :, i], state))
    return torch.stack(out, dim=2)


def talking_heads(q, k, v, all_q, all_k, before, after, heads=8, width=64):
    """Shazeer et al. (2003.02436), the listing with P_l and P_w; q and k are not read."""
    of_queries = all_q.unflatten(-1, (heads, width))  # (B, H, N, a, width)
    of_keys = per_head(all_k, q).unflatten(-1, (heads, width))
    logits = torch.einsum("bhiaw,bhjaw->bhija", of_queries, of_keys) / math.sqrt(width)
    weights = torch.einsum("bhija,ac->bhijc", logits, before).softmax(dim=-2)
    return torch.einsum("bhijc,hc,bhje->bhie", weights, after, per_head(v, q))


def multi_token(q, k, v, recent_q, near_k, kernel, width=64, queries=6, keys=11):
    """MTA (2504.00927), equation 4: the scores convolved over queries and keys, then softmax.

    A term counts where its own key is not after the query; q and k are not read.
    """
    recent = recent_q.unflatten(-1, (queries, width))
    near, v = heads(q, near_k, v)
    near = near.unflatten(-1, (keys, width))
    query, key = torch.arange(q.shape[-2])[:, None], torch.arange(k.shape[-2])
    score = 0.0
    for a in range(queries):
        for b in range(keys):
            term = recent[..., a, :] @ near[..., b, :].mT / math.sqrt(width)
            past = key - (b - keys // 2) <= query
            score = score + kernel[:, a, b, None, None] * term.masked_fill(~past, 0.0)
    return softmax(score, causal(q, k)) @ v


def slot(q, k, v, over_q):
    """Locatello et al. (2006.15055), algorithm 1, one step: slots compete, then a weighted mean.

    A slot is a query; `over_q` is the logarithm of what each key's softmax divides by.
    """
    share = (_scaled(q, k) - per_head(over_q, q)[..., None, :]).exp() + 1e-8
    return share / share.sum(-1, keepdim=True) @ heads(q, v)[0]


def sinkhorn(q, k, v, potential_k):
    """Sinkformers (2110.11773), section 3: exp(s) over columns by e^potential, then over rows."""
    kernel = _scaled(q, k).exp() / per_head(potential_k, q)[..., None, :].exp()
    return kernel / kernel.sum(-1, keepdim=True) @ heads(q, v)[0]


def _gates(draw: Draw):
    """Draw gates of which the first channel forgets at once: e^900 is what a later key would have.

    All heads that share a key go by its gates.
    """
    s = draw.sizes
    log = draw.given(s.B, s.G, s.M, s.D, low=-0.7, high=0.0)
    log[..., 0] -= 60.0
    total = log.cumsum(dim=-2)
    per_query = total.repeat_interleave(s.H // s.G, dim=1)
    return {"total_q": per_query.requires_grad_(), "total_k": total.requires_grad_()}


def _times(draw: Draw):
    """Draw steps and their totals, and rates from the slow to the fast."""
    s = draw.sizes
    step = draw.given(s.B, s.G, s.M, low=0.05, high=0.6)
    total = step.cumsum(dim=-1)
    per_query = total.repeat_interleave(s.H // s.G, dim=1)
    return {
        "log_rate": draw.learned(s.H, s.D, low=-3.0, high=2.0),
        "total_q": per_query.requires_grad_(),
        "total_k": total.requires_grad_(),
        "step_k": step.requires_grad_(),
    }


def _side_by_side(draw: Draw):
    """Draw the rows of four heads of width 8, one copy of which all heads read."""
    s = draw.sizes
    queries, keys = draw.given(s.B, 1, s.N, 32), draw.given(s.B, 1, s.M, 32)
    return {
        "all_q": queries.expand(-1, s.H, -1, -1).requires_grad_(),
        "all_k": keys.expand(-1, s.G, -1, -1).requires_grad_(),
        "before": draw.learned(4, 4),
        "after": draw.learned(s.H, 4),
    }


def _neighbours(draw: Draw):
    """Draw rows of width 8 and lay beside each those that a kernel of (2, 3) takes with it."""
    s = draw.sizes
    queries, keys = draw.given(s.B, s.H, s.N, 8), draw.given(s.B, s.G, s.M, 8)
    recent = torch.cat([_moved(queries, 0), _moved(queries, 1)], dim=-1)
    near = torch.cat([_moved(keys, -1), _moved(keys, 0), _moved(keys, 1)], dim=-1)
    return {
        "recent_q": recent.requires_grad_(),
        "near_k": near.requires_grad_(),
        "kernel": draw.learned(s.H, 2, 3),
    }


def _moved(rows, by):
    """Return row i − by at i, and zeros where there is none."""
    return pad(rows, (0, 0, by, -by))


def _competition(draw: Draw):
    """Draw slots of which one loses every key, so far that its weights are those of the 1e-8."""
    s = draw.sizes
    q, k = draw.given(s.B, s.H, s.N, s.D), draw.given(s.B, s.G, s.M, s.D)
    k[..., 0] = 1 + k[..., 0].abs()
    q[:, :, 3, 0] = -120.0
    over = (q @ k.mT / math.sqrt(s.D)).logsumexp(dim=-2)
    return {"q": q.requires_grad_(), "k": k.requires_grad_(), "over_q": over.requires_grad_()}


CALLS: dict[str, Call] = {
    "contextual_positions": Call(lambda draw: {"rows": draw.learned(7, 8)}, {"positions": 6}),
    "forget_gate_online": Call(lambda draw: {"gate": draw.learned(2, 2, 16)}),
    "gated_linear": Call(_gates),
    "mamba": Call(_times),
    # Rows of q and k are of another width than those read, by the root of which scores are divided.
    "talking_heads": Call(_side_by_side, {"heads": 4, "width": 8}, Sizes(G=4, D=4)),
    "multi_token": Call(_neighbours, {"width": 8, "queries": 2, "keys": 3}, Sizes(D=4)),
    "slot": Call(_competition, sizes=Sizes(G=4, N=5)),
    "sinkhorn": Call(lambda draw: {"potential_k": draw.learned(2, 2, 16)}),
}
