"""Dropout inside attention: what is dropped, how the rest is scaled, and when nothing is."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, T5Config, T5Model

from regard import hf
from regard.catalogue import find
from regard.errors import InputError, UnsupportedError
from regard.hf.dropout import HeadDropout, drop_heads, set_attention_dropout
from regard.hf.places import find_places
from regard.modes import Mode

IDS = torch.arange(10).view(2, 5)


def bert(**more):
    torch.manual_seed(0)
    shape = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=8)
    quiet = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    return BertModel(BertConfig(vocab_size=10, **shape, **quiet, **more))


def llama():
    torch.manual_seed(0)
    return LlamaModel(LlamaConfig(vocab_size=10, hidden_size=16, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=8))  # fmt: skip


def t5():
    torch.manual_seed(0)
    return T5Model(T5Config(vocab_size=10, d_model=16, d_kv=4, num_layers=1, num_heads=4, d_ff=8,
        dropout_rate=0.0))  # fmt: skip


def run(model):
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=IDS, **more).last_hidden_state


def programmed():
    return hf.apply(
        bert(), Mode("near", "leans on near words", encoder=find("alibi_symmetric").program)
    )


def test_factors_are_zero_or_what_makes_up_for_the_rest():
    torch.manual_seed(1)
    factors = HeadDropout(4, 0.6).draw(20_000)
    kept = (factors > 0).sum(1, keepdim=True)
    assert kept.min() == 1
    torch.testing.assert_close(factors, (factors > 0) * (4 / kept))
    torch.testing.assert_close(factors.sum(1), torch.full((20_000,), 4.0))
    # Four standard errors: 4 · √3 / √20000 at the most.
    assert (factors.mean(0) - 1).abs().max() < 0.05
    alone = 0.6**4 + 4 * 0.4 * 0.6**3
    assert abs((kept == 1).float().mean() - alone) < 0.015


def test_heads_are_dropped_before_they_are_joined():
    joined = torch.ones(3, 5, 8)
    hook, projection = HeadDropout(4, 0.5), nn.Linear(8, 8)
    torch.manual_seed(2)
    (dropped,) = hook(projection, (joined,))
    torch.manual_seed(2)
    factors = hook.draw(3)
    for row in range(3):
        for head in range(4):
            assert (dropped[row, :, 2 * head : 2 * head + 2] == factors[row, head]).all()


@pytest.mark.parametrize("make", [bert, llama, t5, programmed])
def test_evaluation_is_unchanged_and_training_is_not(make):
    model = make()
    before = run(model.eval())
    handles = drop_heads(model, 0.5)
    assert len(handles) == len(find_places(model))
    assert torch.equal(run(model.eval()), before)
    model.train()
    one, other = run(model), run(model)
    assert not torch.equal(one, before) and not torch.equal(one, other)
    for handle in handles:
        handle.remove()
    assert torch.equal(run(model), before)


@pytest.mark.parametrize("make", [bert, llama, t5, programmed])
def test_attention_dropout_is_set_and_ends_with_training(make):
    model = make()
    before = run(model.train())
    set_attention_dropout(model, 0.5)
    assert not torch.equal(run(model), before)
    assert torch.equal(run(model.eval()), before)
    set_attention_dropout(model, 0.0)
    assert torch.equal(run(model.train()), before)


@pytest.mark.parametrize("change", [drop_heads, set_attention_dropout])
@pytest.mark.parametrize("probability", [-0.1, 1.0])
def test_a_probability_is_one(change, probability):
    with pytest.raises(InputError, match=r"must be from 0 to below 1"):
        change(bert(), probability)


def test_what_cannot_be_found_is_named():
    model = bert()
    model.encoder.layer[1].attention.output.dense = nn.Identity()
    with pytest.raises(
        UnsupportedError, match=r"layer\.1\.attention\.self: the projection that jo"
    ):
        drop_heads(model, 0.1)
    del model.encoder.layer[1].attention.self.dropout
    with pytest.raises(
        UnsupportedError, match=r"layer\.1\.attention\.self \(BertSelfAttention\) has"
    ):
        set_attention_dropout(model, 0.1)
    assert model.encoder.layer[0].attention.self.dropout.p == 0.0
