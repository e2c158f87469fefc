"""The formulas of modifiers against published implementations, or other forms of the same."""

import math
from types import SimpleNamespace

import torch
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward

from tests.catalogue.oracles import modifier
from tests.catalogue.oracles.calls import Call, Sizes
from tests.catalogue.oracles.dense import causal, heads, scaled, softmax


def called(name):
    """Return the tensors of a variant's call, k and v by query head, and the output."""
    call = modifier.CALLS.get(name, Call())
    tensors = {name: one.detach() for name, one in call.tensors().items()}
    out = getattr(modifier, name)(**tensors, **call.knobs)
    tensors["k"], tensors["v"] = heads(tensors["q"], tensors["k"], tensors["v"])
    return tensors, out


def test_soft_cap_is_that_of_gemma_2():
    t, found = called("soft_cap")
    hidden = torch.where(causal(t["q"], t["k"]), 0.0, -torch.inf)
    layer = SimpleNamespace(num_key_value_groups=1, training=False, head_dim=8)
    published, _ = eager_attention_forward(layer, t["q"], t["k"], t["v"], hidden, softcap=1.5)
    torch.testing.assert_close(found, published.transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_scalable_softmax_is_a_softmax_of_scores_times_the_log_of_visible_keys():
    t, found = called("scalable_softmax")
    q, k = t["q"], t["k"]
    seen = torch.arange(1, 17, dtype=torch.float64)[:, None]
    s = scaled(q, k) * t["scale"][:, None, None] * seen.log()
    torch.testing.assert_close(found, softmax(s, causal(q, k)) @ t["v"])


def test_log_n_counts_keys_in_the_base_of_the_trained_length():
    t, found = called("log_n")
    assert t["k"].shape[-2] == 24
    expected = softmax(scaled(t["q"], t["k"]) * math.log(24, 8)) @ t["v"]
    torch.testing.assert_close(found, expected)


def test_forgetting_multiplies_weights_by_the_gates_after_the_key():
    t, found = called("forgetting")
    gate = torch.diff(t["total_q"], dim=-1).exp()  # of tokens 1, 2, …
    weight = scaled(t["q"], t["k"]).exp().tril()
    for i in range(16):
        for j in range(i):
            weight[..., i, j] *= gate[..., j:i].prod(-1)
    torch.testing.assert_close(found, weight @ t["v"] / weight.sum(-1, keepdim=True))


def test_laser_is_a_log_of_weighted_exponentials():
    t, found = called("laser")
    q, k = t["q"], t["k"]
    log_weight = torch.log_softmax(
        scaled(q, k).masked_fill(~causal(q, k), -torch.inf), dim=-1
    ).unsqueeze(-1)
    expected = torch.logsumexp(log_weight + t["v"].unsqueeze(-3), dim=-2)
    torch.testing.assert_close(found, expected)


def test_laser_holds_for_large_values():
    t = {name: one.detach() for name, one in Call(sizes=Sizes(B=1)).tensors().items()}
    found = modifier.laser(t["q"], t["k"], 900 + t["v"])
    torch.testing.assert_close(found, 900 + modifier.laser(**t))


def test_clipped_softmax_gives_exact_zeros_and_ones():
    q = torch.tensor([[[[8.0], [0.0]]]], dtype=torch.float64)
    k = torch.tensor([[[[9.0], [-9.0]]]], dtype=torch.float64)
    v = torch.tensor([[[[1.0], [10.0]]]], dtype=torch.float64)
    found = modifier.clipped_softmax(q, k, v, low=-0.03, high=1.03).flatten()
    assert found[0] == 1
    torch.testing.assert_close(found[1], torch.tensor(0.5 * 11, dtype=torch.float64))


def test_steered_adds_a_logarithm_to_the_scores_of_other_tokens():
    t, found = called("steered")
    bias = torch.where(t["kept"], 0.0, math.log(0.01)).unsqueeze(-2)
    torch.testing.assert_close(found, softmax(scaled(t["q"], t["k"]) + bias) @ t["v"])
