"""The name "regard" alone, without a mode: exactly the model's own attention, mask and all."""

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache, MarianModel
from transformers.cache_utils import EncoderDecoderCache

from regard import hf
from regard.errors import InputError, UnsupportedError
from regard.hf import interface
from regard.nn.programmed import Programmed
from tests.hf.models import DECODER, EVERYWHERE, WORDS, generate, marian, padded

NEXT = torch.randint(2, WORDS, (3, 6), generator=torch.Generator().manual_seed(1))
WAYS = {
    "greedy": {},
    "without a cache": {"use_cache": False},
    "static": {"cache_implementation": "static"},
    "beams": {"num_beams": 3},
    "sampled": {"do_sample": True},
}


@pytest.fixture
def model():
    return marian()


def ours(model):
    model.set_attn_implementation("regard")
    return model


def eager(model):
    model.set_attn_implementation("eager")
    return model


@pytest.mark.parametrize("side", ["right", "left"])
def test_logits_are_the_models_own(model, side):
    inputs, seen = padded(side), padded(side)["attention_mask"][:, :6]
    call = {**inputs, "decoder_input_ids": NEXT, "decoder_attention_mask": seen}
    with torch.no_grad():
        expected = eager(model)(**call).logits[seen.bool()]
        found = ours(model)(**call).logits[seen.bool()]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("way", WAYS)
def test_generated_tokens_are_the_models_own(model, way, side):
    inputs = padded(side)
    expected = generate(eager(model), inputs, **WAYS[way])
    assert torch.equal(generate(ours(model), inputs, **WAYS[way]), expected)
    assert len(expected.unique()) > 8


def test_gradients_are_the_models_own(model):
    model, found = model.double().train(), []
    for choose in (eager, ours):
        model.zero_grad()
        choose(model)(**padded(), labels=NEXT).loss.backward()
        found.append([weight.grad for weight in model.parameters() if weight.grad is not None])
    for own, other in zip(*found, strict=True):
        torch.testing.assert_close(other, own, rtol=1e-9, atol=1e-12)


def test_dropout_of_weights_is_drawn_in_training_alone():
    model = ours(marian(attention_dropout=0.5))
    call = {**padded(), "decoder_input_ids": NEXT}
    with torch.no_grad():
        assert torch.equal(model(**call).logits, model(**call).logits)
        model.train()
        torch.manual_seed(1)
        first, second = model(**call).logits, model(**call).logits
        torch.manual_seed(1)
        assert torch.equal(model(**call).logits, first) and not torch.allclose(first, second)


def test_attentions_are_given_when_asked_for(model):
    call = {**padded(), "decoder_input_ids": NEXT, "output_attentions": True}
    with torch.no_grad():
        expected, found = eager(model)(**call), ours(model)(**call)
    for name in ("encoder_attentions", "decoder_attentions", "cross_attentions"):
        assert len(found[name]) == 2
        for one, own in zip(found[name], expected[name], strict=True):
            torch.testing.assert_close(one, own, rtol=0, atol=1e-5)


def test_attentions_of_a_mode_are_those_of_its_programs(model):
    call = {**padded(), "decoder_input_ids": NEXT}
    hf.apply(model, EVERYWHERE)
    with torch.no_grad():
        plain, found = model(**call), model(**call, output_attentions=True)
        steps = generate(model, padded(), output_attentions=True, return_dict_in_generate=True)
    # A window of five, in the first two heads of the first layer.
    first = found.decoder_attentions[0]
    assert first.shape == (3, 4, 6, 6) and (first[:, :2, 5, 0] == 0).all()
    assert first[:, 2:, 5, 0].min() > 0
    torch.testing.assert_close(found.logits, plain.logits, rtol=0, atol=1e-4)
    assert [one[0].shape[-1] for one in steps.decoder_attentions] == list(range(1, 9))


def test_nothing_is_asked_for_and_nothing_is_given(model):
    found = ours(model)(**padded(), decoder_input_ids=NEXT)
    assert found.encoder_attentions is None and found.cross_attentions is None


def test_attentions_set_in_the_configuration_are_given_too(model):
    eager(model).config.output_attentions = True
    ours(model)
    found = model(**padded(), decoder_input_ids=NEXT)
    assert [len(found[f"{role}_attentions"]) for role in ("encoder", "decoder", "cross")] == [2] * 3


def test_a_step_of_generation_builds_no_module(model, monkeypatch):
    made = []
    monkeypatch.setattr(Programmed, "__init__", lambda *_, **__: made.append(1))
    generate(ours(model), padded())
    assert not made


def test_both_registries_know_the_name():
    assert AttentionInterface()["regard"] is interface.attention_function
    assert AttentionMaskInterface()["regard"] is interface.mask_function


@pytest.mark.parametrize("applied", [False, True])
def test_a_lost_mask_function_is_an_error_not_a_loss_of_causality(model, monkeypatch, applied):
    model = hf.apply(model, DECODER) if applied else ours(model)
    monkeypatch.delitem(AttentionMaskInterface._global_mapping, "regard")
    message = r"knows no mask function named 'regard' any more; regard\.hf\.interface\.register"
    memory = model.get_encoder()
    for call in (
        lambda: model(**padded(), decoder_input_ids=NEXT),
        lambda: generate(model, padded()),
        # Nothing here is causal, but padding would be lost.
        lambda: memory(**padded()),
        # One token at a time nothing shows that a mask is missing, but for the cache's padding.
        lambda: model.get_decoder()(input_ids=NEXT[:, :1]),
    ):
        with pytest.raises(InputError, match=message):
            call()
    interface.register()
    assert generate(model, padded()).shape == (3, 9)


def test_a_causal_module_called_without_a_mask_is_refused(model):
    module = ours(model).get_decoder().layers[0].self_attn
    message = "MarianAttention is causal and got no mask; is attn_implementation 'regard' set on"
    with pytest.raises(InputError, match=message):
        module(torch.randn(2, 3, 32))


def test_an_encoder_module_called_without_a_mask_sees_everything(model):
    module, rows = ours(model).get_encoder().layers[0].self_attn, torch.randn(2, 3, 32)
    found = module(rows)[0]
    torch.testing.assert_close(found, eager(model) and module(rows)[0], rtol=0, atol=1e-5)


def test_a_mask_of_ones_own_is_honoured(model):
    mask = torch.rand(3, 1, 7, 7) < 0.6
    mask |= torch.eye(7, dtype=torch.bool)
    ids = padded()["input_ids"]
    encoder = ours(model).get_encoder()
    with torch.no_grad():
        found = encoder(input_ids=ids, attention_mask=mask)[0]
        eager(model)
        floats = torch.where(mask, 0.0, torch.finfo(torch.float32).min)
        expected = encoder(input_ids=ids, attention_mask=floats)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_mask_of_numbers_is_added_and_hides_where_it_is_far_below_zero(model):
    torch.manual_seed(4)
    hidden = torch.rand(3, 1, 7, 7) < 0.4
    hidden &= ~torch.eye(7, dtype=torch.bool)
    mask = torch.randn(3, 1, 7, 7).masked_fill(hidden, -100.0)
    encoder, ids = eager(model).get_encoder(), padded()["input_ids"]
    with torch.no_grad():
        expected = encoder(input_ids=ids, attention_mask=mask)[0]
        ours(model)
        found = encoder(input_ids=ids, attention_mask=mask)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_mask_of_another_shape_is_refused(model):
    message = (
        r"MarianAttention got a mask of shape \(3, 1, 7, 5\); "
        r"expected \(3 or 1, 4 or 1, 7 or 1, 7\)"
    )
    with pytest.raises(UnsupportedError, match=message):
        ours(model).get_encoder()(padded()["input_ids"], attention_mask=torch.zeros(3, 1, 7, 5))


def test_a_mask_of_three_axes_is_refused(model):
    message = r"attention_mask has shape \(3, 7, 7\); give one number per token, \(B, M\), or a"
    with pytest.raises(UnsupportedError, match=message):
        ours(model).get_encoder()(padded()["input_ids"], attention_mask=torch.ones(3, 7, 7))


@pytest.mark.parametrize("name", ["indices", "block_indices", "cu_seq_lens_q", "warmth"])
def test_what_would_be_ignored_is_refused(model, name):
    module = ours(model).get_encoder().layers[0].self_attn
    message = f"MarianAttention passes '{name}', which re-programmed attention would have to ignore"
    with pytest.raises(UnsupportedError, match=message):
        module(torch.randn(1, 3, 32), **{name: torch.ones(1)})
    hf.apply(model, EVERYWHERE)
    message = rf"model.encoder.layers.0.self_attn \(MarianAttention\) passes '{name}'"
    with pytest.raises(UnsupportedError, match=message):
        module(torch.randn(1, 3, 32), **{name: torch.ones(1)})


def test_a_cache_that_dropped_keys_counts_from_the_first_it_holds():
    mask = interface.mask_function(
        batch_size=1, q_length=2, kv_length=4, q_offset=5, kv_offset=3,
        attention_mask=torch.tensor([[1, 1, 1, 1, 0, 1, 1]]).bool(),
    )  # fmt: skip
    assert (mask.query_offset, mask.key_offset) == (5, 3)
    assert mask.clone()[0, 0].tolist() == [[True, False, True, False], [True, False, True, True]]
    module = ours(marian()).get_decoder().layers[0].self_attn
    call = torch.randn(1, 4, 2, 8), *torch.randn(2, 1, 4, 4, 8)
    found, expected = (
        interface.attention_function(module, *call, one)[0] for one in (mask, mask.clone())
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_a_mask_knows_its_position_and_the_length_of_its_rows():
    offset = torch.tensor(3)
    padding = torch.tensor([[1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0, 0], [0] * 8]).bool()
    mask = interface.mask_function(
        batch_size=3, q_length=2, kv_length=8, q_offset=offset, attention_mask=padding
    )
    offset += 2
    assert mask.query_offset == 3 and type(mask.query_offset) is int
    assert mask.key_lengths.tolist() == [5, 5, 0]
    assert mask[0, 0].tolist() == [[True] * 4 + [False] * 4, [True] * 5 + [False] * 3]


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_copied_mask_still_shows_where_its_queries_stand(model, side):
    module = hf.apply(model, DECODER).get_decoder().layers[0].self_attn
    padding = padded(side)["attention_mask"].bool()
    for offset, rows, capacity in ((0, 3, 7), (4, 1, 7), (4, 3, 7), (6, 1, 7), (2, 1, 3)):
        mask = interface.mask_function(
            batch_size=3, q_length=rows, kv_length=capacity, q_offset=offset, attention_mask=padding
        )
        call = torch.randn(3, 4, rows, 8), *torch.randn(2, 3, 4, capacity, 8)
        with torch.no_grad():
            found, expected = (
                interface.attention_function(module, *call, one)[0] for one in (mask.clone(), mask)
            )
        assert torch.equal(found, expected)


def test_a_cache_may_be_filled_in_pieces(model):
    inputs, ids = padded(), NEXT
    with torch.no_grad():
        whole = ours(model)(**inputs, decoder_input_ids=ids).logits
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        parts = [
            model(**inputs, decoder_input_ids=part, past_key_values=cache, use_cache=True).logits
            for part in ids.split([3, 1, 2], dim=1)
        ]
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-4)


def test_a_model_without_a_head_works_alike():
    model = marian(MarianModel)
    with torch.no_grad():
        expected = eager(model)(**padded(), decoder_input_ids=NEXT)[0]
        found = ours(model)(**padded(), decoder_input_ids=NEXT)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
