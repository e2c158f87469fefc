"""The sums in order are those of the papers' other forms."""

import math

import torch
from torch.nn.functional import logsigmoid, softplus
from transformers.models.mamba2.modeling_mamba2 import segment_sum

from tests.catalogue.oracles import ordered
from tests.catalogue.oracles.calls import Call
from tests.catalogue.oracles.dense import heads


def tensors(name):
    """Return what a variant reads, the keys and values repeated for each head, and s."""
    given = ordered.CALLS.get(name, Call()).tensors()
    given["k"], given["v"] = heads(given["q"], given["k"], given["v"])
    return given, given["q"] @ given["k"].mT / math.sqrt(8)


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
