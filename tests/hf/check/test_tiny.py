"""Small models of any architecture, and what they are called with."""

import pytest
import torch

from regard.errors import InputError, UnsupportedError
from regard.hf.check.inputs import picture_inputs, sample_inputs
from regard.hf.check.tiny import HEADS, HIDDEN, LAYERS, find_model_class, tiny_model


def test_a_model_type_is_the_model_with_a_head():
    names = {name: find_model_class(name).__name__ for name in ("bart", "bert", "llama", "vit")}
    assert names == {
        "bart": "BartForConditionalGeneration",
        "bert": "BertForMaskedLM",
        "llama": "LlamaForCausalLM",
        "vit": "ViTModel",
    }
    assert find_model_class("LlamaModel").__name__ == "LlamaModel"


def test_configurations_are_shrunk_in_all_their_parts():
    config = tiny_model("gemma3").config
    for part in (config.text_config, config.vision_config):
        assert (part.hidden_size, part.num_hidden_layers) == (HIDDEN, LAYERS)
        assert part.num_attention_heads == HEADS
    assert config.text_config.num_key_value_heads == HEADS // 2
    assert config.image_token_index < config.text_config.vocab_size


def test_layers_of_two_kinds_stay_two_kinds():
    kinds = tiny_model("gpt_oss").config.layer_types
    assert sorted(kinds) == ["full_attention", "sliding_attention"]


def test_settings_may_be_others():
    assert tiny_model("mistral", sliding_window=3).config.sliding_window == 3


def test_the_same_name_is_the_same_model_and_draws_nothing_of_ours():
    state = torch.get_rng_state()
    first, second = (tiny_model("gpt2").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), state)


def test_inputs_are_by_what_the_model_takes():
    taken = {
        name: tuple(sample_inputs(tiny_model(name))) for name in ("gpt2", "t5", "vit", "whisper")
    }
    assert taken == {
        "gpt2": ("input_ids", "attention_mask"),
        "t5": ("input_ids", "attention_mask", "decoder_input_ids"),
        "vit": ("pixel_values",),
        "whisper": ("input_features", "decoder_input_ids"),
    }


def test_a_picture_takes_as_many_tokens_as_it_has_rows():
    model = tiny_model("llava")
    inputs = sample_inputs(model)
    pictured = picture_inputs(model, inputs)
    tokens = (pictured["input_ids"] == model.config.image_token_id).sum(1)
    assert tokens.tolist() == [16, 16] and pictured["input_ids"].shape[1] == 12 + 16
    assert picture_inputs(tiny_model("gpt2"), inputs) == {}


def test_unknown_names_get_the_nearest():
    with pytest.raises(InputError, match="has no model 'lama'; did you mean 'llama'"):
        find_model_class("lama")
    with pytest.raises(InputError, match="has no model 'LlamaForCasualLM'; did you mean"):
        find_model_class("LlamaForCasualLM")
    with pytest.raises(InputError, match="give a folder, a class such as LlamaForCausalLM"):
        find_model_class("???")


def test_what_cannot_be_shrunk_says_so():
    message = "DetrModel of a small configuration cannot be built .*save a small model of your own"
    with pytest.raises(UnsupportedError, match=message):
        tiny_model("detr")


def test_what_refuses_small_settings_says_so():
    with pytest.raises(UnsupportedError, match="no small BambaConfig can be made"):
        tiny_model("bamba")
    with pytest.raises(UnsupportedError, match="PreTrainedModel states no configuration"):
        tiny_model("PreTrainedModel")


def test_what_takes_no_known_inputs_says_so():
    with pytest.raises(UnsupportedError, match=r"no inputs are made here; give them: check_model"):
        sample_inputs(tiny_model("timesfm"))
