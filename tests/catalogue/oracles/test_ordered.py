"""The sums in order are those of the papers' other forms."""

import math

import pytest
import torch
from torch.nn.functional import conv2d, logsigmoid, normalize, pad, softplus
from transformers.models.mamba2.modeling_mamba2 import segment_sum

from tests.catalogue.oracles import ordered
from tests.catalogue.oracles.calls import Call, Sizes
from tests.catalogue.oracles.dense import heads


def tensors(name):
    """Return what a variant reads, the keys and values repeated for each head, and s."""
    given = ordered.CALLS.get(name, Call()).tensors()
    given["k"], given["v"] = heads(given["q"], given["k"], given["v"])
    return given, given["q"] @ given["k"].mT / math.sqrt(given["q"].shape[-1])


def test_sticks_break_as_in_log_space():
    # A_ij = exp(s_ij − Σ softplus(s_ik) over the keys k from j up to i, without i itself).
    given, score = tensors("stick_breaking")
    before = torch.ones(16, 16, dtype=torch.bool).tril(-1)
    spent = softplus(score).masked_fill(~before, 0.0).flip(-1).cumsum(-1).flip(-1)
    weights = (score - spent).exp().masked_fill(~before, 0.0)
    torch.testing.assert_close(ordered.stick_breaking(**given), weights @ given["v"])


def test_contextual_positions_mix_the_two_nearest_embeddings():
    given, score = tensors("contextual_positions")
    past = torch.ones(16, 16, dtype=torch.bool).tril()
    place = score.sigmoid().masked_fill(~past, 0.0).flip(-1).cumsum(-1).flip(-1).clamp(max=6)
    # A tent around each whole position is what interpolation between two neighbours weighs it by.
    tent = (1 - (place[..., None] - torch.arange(7)).abs()).clamp(min=0)
    total = score + torch.einsum("bhijp,pd,bhid->bhij", tent, given["rows"], given["q"])
    wanted = total.masked_fill(~past, float("-inf")).softmax(-1) @ given["v"]
    torch.testing.assert_close(ordered.contextual_positions(**given, positions=6), wanted)
    assert (place == 6).any() and (place[past.expand_as(place)] < 1).any()


def test_forgetting_adds_up_between_the_key_and_the_query():
    given, score = tensors("forget_gate_online")
    gates = logsigmoid(given["gate"]).repeat_interleave(2, dim=1)
    wanted = (score + segment_sum(gates)).softmax(-1) @ given["v"]
    torch.testing.assert_close(ordered.forget_gate_online(**given), wanted)


def decayed(given, exponent):
    """Return linear attention of which each channel decays, by exponents (B, H, N, M, D)."""
    past = torch.ones(16, 16, dtype=torch.bool).tril()[..., None]
    decay = exponent.masked_fill(~past, -math.inf).exp()
    weights = torch.einsum("bhic,bhjc,bhijc->bhij", given["q"], given["k"], decay)
    return weights @ given["v"]


def test_a_gated_state_is_attention_with_a_decay_of_each_channel():
    given, _ = tensors("gated_linear")
    total_q, (total_k,) = given["total_q"], heads(given["q"], given["total_k"])
    assert torch.equal(total_q, total_k)
    assert (total_k.diff(dim=-2) <= 0).all() and (total_k <= 0).all()
    wanted = decayed(given, total_q[..., :, None, :] - total_k[..., None, :, :])
    torch.testing.assert_close(ordered.gated_linear(**given), wanted)
    # A query that goes by other totals than its keys is late by the difference.
    given["total_q"] = total_q - torch.rand_like(total_q)
    wanted = decayed(given, given["total_q"][..., :, None, :] - total_k[..., None, :, :])
    torch.testing.assert_close(ordered.gated_linear(**given), wanted)


def test_mamba_is_the_hidden_attention_of_its_state():
    # Ali et al. (2403.01590): C_i (the product of Ā over the keys after j up to i) B̄_j x_j.
    given, _ = tensors("mamba")
    total, step = heads(given["q"], given["total_k"], given["step_k"])
    assert torch.equal(given["total_q"], total)
    found = ordered.mamba(**given)
    spent = segment_sum(step).clamp(min=0.0)[..., None]  # Σ Δ over those keys
    given["k"] = given["k"] * step[..., None]
    wanted = decayed(given, -given["log_rate"].exp()[:, None, None, :] * spent)
    torch.testing.assert_close(found, wanted)


def test_heads_talk_as_in_convolutions_of_width_one():
    given, _ = tensors("talking_heads")
    # One copy of the rows of all heads: (B, N, 32) gives (B, a, N, 8).
    q, k = (given[name][:, 0].unflatten(-1, (4, 8)).transpose(1, 2) for name in ("all_q", "all_k"))
    mixed = conv2d(q @ k.mT / math.sqrt(8), given["before"].T[..., None, None])
    weights = conv2d(mixed.softmax(-1), given["after"][..., None, None])
    wanted = weights @ given["v"]
    torch.testing.assert_close(ordered.talking_heads(**given, heads=4, width=8), wanted)


def test_heads_that_keep_to_themselves_attend_as_usual():
    given, _ = tensors("talking_heads")
    given["before"] = given["after"] = torch.eye(4, dtype=torch.float64)
    q, k = torch.randn(2, 2, 4, 16, 8, generator=torch.Generator().manual_seed(2)).double()
    for name, rows in (("all_q", q), ("all_k", k)):
        given[name] = rows.transpose(1, 2).flatten(-2)[:, None].expand(-1, 4, -1, -1)
    usual = (q @ k.mT / math.sqrt(8)).softmax(-1) @ given["v"]
    torch.testing.assert_close(ordered.talking_heads(**given, heads=4, width=8), usual)


@pytest.mark.parametrize("keys", [3, 4])
def test_tokens_are_joined_by_a_convolution_of_the_scores(keys):
    given = ordered.CALLS["multi_token"].tensors()
    draw = torch.Generator().manual_seed(2)
    q = torch.randn(2, 4, 16, 8, generator=draw, dtype=torch.float64)
    k = torch.randn(2, 2, 16, 8, generator=draw, dtype=torch.float64)
    given["kernel"] = torch.randn(4, 2, keys, generator=draw, dtype=torch.float64)
    given["recent_q"] = torch.cat([pad(q, (0, 0, a, 0))[:, :, :16] for a in range(2)], dim=-1)
    around = pad(k, (0, 0, keys, keys))
    starts = [keys + keys // 2 - b for b in range(keys)]
    given["near_k"] = torch.cat([around[:, :, one : one + 16] for one in starts], dim=-1)
    k, v = heads(q, k, given["v"])
    score = q @ k.mT / math.sqrt(8)
    # conv2d counts up from the row above, the paper down from the row itself.
    turned = given["kernel"].flip(-1, -2)[:, None]
    rows = []
    for i in range(16):
        # For query i, keys after it count for none of the queries.
        known = score.masked_fill(torch.arange(16) > i, 0.0)
        row = conv2d(pad(known, ((keys - 1) // 2, keys // 2, 1, 0)), turned, groups=4)
        rows.append(row[:, :, i : i + 1, : i + 1].softmax(-1) @ v[:, :, : i + 1])
    found = ordered.multi_token(**given, width=8, queries=2, keys=keys)
    torch.testing.assert_close(found, torch.cat(rows, dim=2))


def test_a_kernel_of_one_is_softmax():
    given = ordered.CALLS["multi_token"].tensors()
    given["kernel"] = torch.zeros(4, 2, 3, dtype=torch.float64)
    given["kernel"][:, 0, 1] = 1.0
    k, v = heads(given["q"], given["near_k"][..., 8:16], given["v"])
    score = given["recent_q"][..., :8] @ k.mT / math.sqrt(8)
    past = torch.ones(16, 16, dtype=torch.bool).tril()
    wanted = score.masked_fill(~past, -math.inf).softmax(-1) @ v
    found = ordered.multi_token(**given, width=8, queries=2, keys=3)
    torch.testing.assert_close(found, wanted)


def test_slots_share_each_key_between_them():
    given, score = tensors("slot")
    share = score.softmax(dim=-2)
    assert (share[:, :, 3] < 1e-10).all()
    found = ordered.slot(**given)
    torch.testing.assert_close(found, normalize(share + 1e-8, p=1, dim=-1) @ given["v"])
    # The slot that loses every key takes the mean of them.
    torch.testing.assert_close(found[:, :, 3], given["v"].mean(dim=2), rtol=0.0, atol=1e-2)


def test_the_right_potentials_make_the_weights_doubly_stochastic():
    given = Call(sizes=Sizes(G=4)).tensors()
    score = given["q"] @ given["k"].mT / math.sqrt(8)
    weights = score.softmax(-1)
    for _ in range(200):
        weights = weights / weights.sum(-2, keepdim=True)
        weights = weights / weights.sum(-1, keepdim=True)
    # log weights = s − f_i − g_j: the potentials of the keys but for a constant.
    given["potential_k"] = (score - weights.log())[:, :, 0]
    torch.testing.assert_close(weights.sum(-2), torch.ones_like(weights[:, :, 0]))
    torch.testing.assert_close(ordered.sinkhorn(**given), weights @ given["v"])
