"""Streaming: what a bounded cache keeps, where it places it, and what it refuses."""

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from regard import hf
from regard.errors import InputError, UnsupportedError

WORDS = 60
SIZES = {
    "vocab_size": WORDS, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.4,
    "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
YARN = {
    "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
# Frequencies so low that no position turns a key.
FIXED = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 1e12}
IDS = torch.randint(1, WORDS, (2, 90), generator=torch.Generator().manual_seed(3))


def llama(**changes):
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(num_key_value_heads=1, **{**SIZES, **changes})).eval()


def neox(**changes):
    torch.manual_seed(0)
    config = GPTNeoXConfig(rotary_pct=0.5, **{**SIZES, **changes})
    return GPTNeoXForCausalLM(config).eval()


MODELS = {
    "llama": llama,
    "a factor on cosines": lambda: llama(rope_parameters=YARN),
    "rotation of some channels": neox,
}


def kept_of(sinks, window, block, lengths):
    """Which tokens are in the cache after passes of so many tokens."""
    kept, seen = [], 0
    for length in lengths:
        excess = len(kept) + length - sinks - window
        if excess > 0:
            drop = min(-(-excess // block) * block, len(kept) - sinks)
            kept = kept[:sinks] + kept[sinks + drop :]
        kept += range(seen, seen + length)
        seen += length
    return kept


@torch.no_grad()
def stream(model, cache, lengths, ids=IDS):
    found, at = [], 0
    for length in lengths:
        found.append(model(input_ids=ids[:, at : at + length], past_key_values=cache).logits)
        at += length
    return found


@pytest.mark.parametrize("own", ["eager", "sdpa", "regard"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("piece", [1, 7])
def test_one_layer_reads_what_is_kept_as_if_nothing_else_had_been(name, own, piece):
    # In one layer a key depends on its own token alone, so that the text without what was dropped
    # is the same call.
    model = MODELS[name]()
    model.set_attn_implementation(own)
    cache = hf.StreamingCache(model, sinks=3, window=20, block=4)
    lengths = [piece] * (84 // piece)
    found = stream(model, cache, lengths)
    for passes in range(1, len(lengths) + 1, 5):
        kept = kept_of(3, 20, 4, lengths[:passes])
        with torch.no_grad():
            expected = model(input_ids=IDS[:, kept]).logits[:, -piece:]
        torch.testing.assert_close(found[passes - 1], expected, rtol=0, atol=2e-4)
    assert cache.kept == len(kept_of(3, 20, 4, lengths)) <= 23
    assert cache.dropped == sum(lengths) - cache.kept and cache.get_seq_length() == sum(lengths)


def test_until_it_is_full_it_is_a_cache_like_any_other():
    model = llama(num_hidden_layers=3)
    cache = hf.StreamingCache(model, sinks=4, window=40)
    found = torch.cat(stream(model, cache, [1, 10, 5, 20, 8]), dim=1)
    with torch.no_grad():
        expected = model(input_ids=IDS[:, :44]).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    assert cache.dropped == 0


def test_memory_is_bounded_and_positions_stay_within_the_cache():
    model, seen = llama(num_hidden_layers=2), []
    model.model.rotary_emb.register_forward_hook(
        lambda _, args, options, __: seen.append(int(options["position_ids"].max())),
        with_kwargs=True,
    )
    cache = hf.StreamingCache(model, sinks=2, window=14, block=3)
    seen.clear()
    sizes = set()
    for _ in stream(model, cache, [2] * 45):
        sizes.add(max(layer.keys.shape[2] for layer in cache.layers))
    # Keys are moved by whole numbers of blocks, and nothing is ever placed behind the cache.
    assert max(sizes) <= 16 and max(seen) <= 15
    assert cache.layers[1].values.shape == (2, 1, cache.kept, 16)


@pytest.mark.parametrize("name", ["llama", "rotation of some channels"])
def test_generation_goes_on_past_the_length_of_training(name):
    model = MODELS[name]()
    cache = hf.StreamingCache(model, sinks=2, window=20, block=4)
    words = model.generate(IDS[:, :9], past_key_values=cache, max_new_tokens=80, do_sample=False)
    assert words.shape == (2, 89) and cache.get_seq_length() == 88 and cache.kept <= 22
    lengths = [9] + [1] * 79
    again = hf.StreamingCache(model, sinks=2, window=20, block=4)
    logits = torch.cat(stream(model, again, lengths, words), dim=1)
    assert torch.equal(logits[:, 8:].argmax(-1), words[:, 9:])


def test_a_long_prompt_is_read_in_pieces_and_a_conversation_goes_on():
    model = llama()
    cache = hf.StreamingCache(model, sinks=2, window=20, block=4)
    options = {"past_key_values": cache, "do_sample": False, "prefill_chunk_size": 15}
    words = model.generate(IDS, max_new_tokens=3, **options)
    assert words.shape == (2, 93) and cache.get_seq_length() == 92
    words = model.generate(words, max_new_tokens=3, **options)
    assert words.shape == (2, 96) and cache.get_seq_length() == 95
    beams = hf.StreamingCache(model, sinks=2, window=20)
    found = model.generate(IDS[:, :9], past_key_values=beams, max_new_tokens=30, num_beams=2)
    assert found.shape == (2, 39)


def test_it_may_be_emptied_and_used_again():
    model = llama(num_hidden_layers=2)
    cache = hf.StreamingCache(model, sinks=2, window=20)
    first = stream(model, cache, [5] * 12)
    assert repr(cache) == "StreamingCache(sinks=2, window=20, block=2): 22 kept of 60"
    cache.reset()
    assert cache.kept == cache.get_seq_length() == 0
    again = stream(model, cache, [5] * 12)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_gradients_reach_the_new_tokens_alone():
    model = llama(num_hidden_layers=2)
    cache = hf.StreamingCache(model, sinks=2, window=20)
    for at in range(0, 60, 10):
        output = model(input_ids=IDS[:, at : at + 10], past_key_values=cache)
    output.logits.sum().backward()
    assert all(one.grad is not None for one in model.parameters())
    assert not cache.layers[0].keys.requires_grad


def test_a_model_keeps_no_trace_of_caches_that_are_gone():
    model = llama()
    model.train()
    cache = hf.StreamingCache(model, sinks=2, window=20)
    assert len(model.model._forward_pre_hooks) == 1 and model.training
    del cache
    assert not model.model._forward_pre_hooks


def test_half_precision_is_moved_too():
    model = llama(num_hidden_layers=2)
    exact = stream(model, hf.StreamingCache(model, sinks=2, window=20), [5] * 12)[-1]
    model.bfloat16()
    found = stream(model, hf.StreamingCache(model, sinks=2, window=20), [5] * 12)[-1]
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).abs().mean() < 0.05 * exact.abs().max()


def other(kind, config, **changes):
    sizes = {**SIZES, **changes}
    return kind(config(**sizes)).eval()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: other(GPT2LMHeadModel, GPT2Config),
            r"GPT2LMHeadModel has no rotary .* layer 0 \(learned positions cannot be moved\)",
        ),
        (
            lambda: other(BloomForCausalLM, BloomConfig),
            "BloomForCausalLM takes no position_ids, so its tokens cannot be placed",
        ),
        (
            lambda: llama(rope_parameters=FIXED),
            "LlamaForCausalLM has no rotary embeddings, so its cached keys cannot be moved",
        ),
        (
            lambda: other(
                MistralForCausalLM, MistralConfig, num_key_value_heads=1, sliding_window=8
            ),
            "MistralForCausalLM has layers that drop tokens by themselves",
        ),
    ],
)
def test_models_whose_keys_cannot_be_moved_are_refused(model, message):
    with pytest.raises(UnsupportedError, match=message):
        hf.StreamingCache(model(), sinks=2, window=8)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"sinks": -1}, "sinks=-1 must be a whole number, at least 0"),
        ({"window": 0}, "window=0 must be a whole number, at least 1"),
        ({"window": 8, "block": 2.5}, "block=2.5 must be a whole number, at least 1"),
        ({"window": 8, "block": 9}, "block=9 must be at most window=8"),
        ({"window": 61}, r"sinks \+ window are 65 tokens; the model was trained on 64"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(InputError, match=message):
        hf.StreamingCache(llama(), **sizes)


def test_more_than_fits_at_once_is_refused():
    model = llama()
    cache = hf.StreamingCache(model, sinks=2, window=20)
    with pytest.raises(InputError, match=r"30 tokens at once .* window of 20; .*_chunk_size=20"):
        model.generate(IDS[:, :30], past_key_values=cache, max_new_tokens=2)
    stream(model, cache, [22])
    with pytest.raises(InputError, match="21 tokens at once do not fit"):
        model(input_ids=IDS[:, :21], past_key_values=cache)


def test_padding_is_refused():
    model = llama()
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, :2] = 0
    cache = hf.StreamingCache(model, sinks=2, window=20)
    with pytest.raises(UnsupportedError, match="takes no padding"):
        model.generate(IDS[:, :9], attention_mask=mask, past_key_values=cache, max_new_tokens=2)


def test_tokens_are_not_taken_back():
    cache = hf.StreamingCache(llama(), sinks=2, window=20)
    with pytest.raises(UnsupportedError, match="assisted generation needs another cache"):
        cache.crop(-1)


def test_another_models_cache_is_refused():
    cache, model = hf.StreamingCache(llama(), sinks=2, window=20), llama()
    with pytest.raises(InputError, match="this streaming cache was made for another model"):
        model(input_ids=IDS[:, :5], past_key_values=cache)


def test_a_pass_that_failed_halfway_is_noticed():
    model = llama(num_hidden_layers=2)
    cache = hf.StreamingCache(model, sinks=2, window=20)
    hook = model.model.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(input_ids=IDS[:, :5], past_key_values=cache)
    hook.remove()
    with pytest.raises(InputError, match=r"failed halfway .* reset\(\)"):
        model(input_ids=IDS[:, :5], past_key_values=cache)
    cache.reset()
    assert len(stream(model, cache, [5, 5])) == 2
