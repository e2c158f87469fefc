"""The sums are PyTorch's own."""

import torch
from torch.nn.functional import rms_norm, scaled_dot_product_attention

from tests.catalogue.oracles import aggregation
from tests.catalogue.oracles.calls import Call


def tensors(name):
    return aggregation.CALLS.get(name, Call()).tensors()


def attended(q, k, v, **how):
    return scaled_dot_product_attention(q, k, v, enable_gqa=True, **how)


def test_heads_share_keys_as_in_pytorch():
    for name in ("multi_query", "grouped_query"):
        given = tensors(name)
        wanted = attended(**given, is_causal=True)
        torch.testing.assert_close(getattr(aggregation, name)(**given), wanted)


def test_values_are_mixed_before_and_gated_or_scaled_after():
    given = tensors("value_residual")
    q, k, v, first, share, own = given.values()
    # A mean of values is a mean of means.
    wanted = share * attended(q, k, first, is_causal=True) + own * attended(q, k, v, is_causal=True)
    torch.testing.assert_close(aggregation.value_residual(**given), wanted)
    q, k, v, gate = tensors("output_gate").values()
    wanted = attended(q, k, v, is_causal=True) / (1 + (-gate).exp())
    torch.testing.assert_close(aggregation.output_gate(q, k, v, gate), wanted)
    q, k, v, gain = tensors("head_scale").values()
    found = aggregation.head_scale(q, k, v, gain)
    for head in range(4):
        torch.testing.assert_close(found[:, head], attended(q, k, v)[:, head] * gain[head])


def test_each_head_is_normed_by_itself():
    q, k, v, gain = tensors("head_norm").values()
    wanted = rms_norm(attended(q, k, v, is_causal=True), (8,), gain, eps=1e-5)
    torch.testing.assert_close(aggregation.head_norm(q, k, v, gain), wanted)


def test_memories_are_seen_by_all():
    q, k, v = tensors("memory").values()
    seen = torch.cat([torch.ones(16, 4), torch.ones(16, 16).tril()], 1) > 0
    torch.testing.assert_close(aggregation.memory(q, k, v), attended(q, k, v, attn_mask=seen))
