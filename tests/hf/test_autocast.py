"""Under autocast a model on Regard's attention takes its rows as narrow as on torch's own."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from regard import hf
from regard.catalogue import find
from regard.modes import Mode

IDS = torch.arange(24).view(2, 12)


def llama():
    # Its rotary positions make float32 of queries and keys, and not of values.
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=24, hidden_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=48))  # fmt: skip


def named(name):
    model = llama()
    model.set_attn_implementation(name)
    return model


def programmed():
    return hf.apply(llama(), Mode("causal", "its own", decoder=find("causal").program))


def loss_and_gradient(model):
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return loss.detach(), model.model.layers[0].self_attn.q_proj.weight.grad


@pytest.mark.parametrize("ours", [lambda: named("regard"), programmed])
def test_rotary_positions_do_not_mix_dtypes(ours):
    expected, slope = loss_and_gradient(named("sdpa"))
    found, own = loss_and_gradient(ours())
    # bfloat16 keeps eight bits: 2 ** -8 = 0.4 %.
    torch.testing.assert_close(found, expected, rtol=0.004, atol=0)
    assert (own - slope).norm() < 0.03 * slope.norm()


def test_decoding_goes_on_from_a_cache():
    model = programmed().eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        whole = model(input_ids=IDS).logits[:, -1]
        first = model(input_ids=IDS[:, :-1], use_cache=True).past_key_values
        last = model(input_ids=IDS[:, -1:], past_key_values=first).logits[:, -1]
    assert (last - whole).norm() < 0.02 * whole.norm()
