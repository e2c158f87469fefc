"""Observing a model: what is seen, of which layers and heads, and that nothing else changes."""

import threading

import pytest
import torch
from transformers import (
    AlbertConfig,
    AlbertModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianMTModel,
)

import regard as rg
from regard import hf
from regard.errors import InputError, UnsupportedError
from tests.hf.models import EVERYWHERE, WORDS, generate, marian, padded

CALL = {
    **padded(),
    "decoder_input_ids": torch.randint(
        2, WORDS, (3, 6), generator=torch.Generator().manual_seed(1)
    ),
}
NAMES = {
    "encoder": "encoder_attentions",
    "decoder": "decoder_attentions",
    "cross": "cross_attentions",
}
IDS = torch.randint(2, WORDS, (2, 9), generator=torch.Generator().manual_seed(4))


def llama(**changes):
    torch.manual_seed(5)
    sizes = {
        "vocab_size": WORDS, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0,
        "bos_token_id": None, "eos_token_id": None, "initializer_range": 0.3,
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig(**{**sizes, **changes})).eval()


def dense(model, **call):
    """The weights of each layer, by the model's own eager attention."""
    own = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(**call, output_attentions=True)
    model.set_attn_implementation(own)
    return found


def entropy(weights):
    return -(weights * weights.clamp_min(1e-30).log()).sum(-1)


def distance(weights):
    keys = torch.arange(weights.shape[-1])
    rows = torch.arange(weights.shape[-2])
    return (weights * (rows[:, None] - keys).abs()).sum(-1)


@pytest.mark.parametrize("role", NAMES)
@pytest.mark.parametrize("own", ["eager", "sdpa"])
def test_weights_of_a_model_are_its_own_and_it_stays_as_it_was(role, own):
    model = marian()
    expected = dense(model, **CALL)[NAMES[role]]
    model.set_attn_implementation(own)
    with torch.no_grad(), hf.observe(model, ["weights"], role=role) as seen:
        model(**CALL)
    assert model.config._attn_implementation == own
    assert len(seen["weights"]) == len(seen.attentions) == 2
    for one, other in zip(seen["weights"], expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    # Nothing goes on being observed.
    model(**CALL)
    assert len(seen.passes) == 1 and not model.model.encoder._forward_pre_hooks


@pytest.mark.parametrize("role", NAMES)
def test_weights_of_a_mode_are_those_of_its_programs(role):
    model = hf.apply(marian(), EVERYWHERE)
    with torch.no_grad():
        expected = model(**CALL, output_attentions=True)[NAMES[role]]
        _, seen = hf.observe(model, ["weights"], role=role)(**CALL)
    for one, other in zip(seen["weights"], expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert NAMES[role] not in model(**CALL) and model.regard_mode is EVERYWHERE


def test_statistics_of_chosen_layers_and_heads_are_those_of_their_weights():
    model = llama()
    expected = dense(model, input_ids=IDS)
    names = ["entropy", "received", "distance", "weights", "top:2", "map:3x3"]
    with torch.no_grad():
        output, seen = hf.observe(model, names, layers=[2, 0], heads=range(1, 4, 2))(IDS)
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=1e-4)
    assert seen.layers == (0, 2) and seen.heads == (1, 3) and seen.names == tuple(names)
    for at, layer in enumerate(seen.layers):
        weights = expected.attentions[layer][:, [1, 3]]
        for name, value in {
            "entropy": entropy(weights), "received": weights.sum(2), "weights": weights,
            "distance": distance(weights),
            "map:3x3": weights.unflatten(2, (3, 3)).mean(3).unflatten(3, (3, 3)).sum(4),
        }.items():  # fmt: skip
            torch.testing.assert_close(seen[name][at], value, rtol=0, atol=1e-5)
        torch.testing.assert_close(seen["top:2"][at].weights, weights.topk(2).values)
    assert repr(seen) == (
        "<seen entropy, received, distance, weights, top:2, map:3x3: layers [0, 2], "
        "heads [1, 3], passes 1>"
    )


def test_steps_of_decoding_are_appended():
    model = llama()
    names = ["entropy", "received", "distance", "weights"]
    with hf.observe(model, names, layers=-1) as seen:
        words = model.generate(IDS, max_new_tokens=5, do_sample=False)
    weights = dense(model, input_ids=words[:, :-1]).attentions[2]
    for name, value in {
        "entropy": entropy(weights), "received": weights.sum(2), "weights": weights,
        "distance": distance(weights),
    }.items():  # fmt: skip
        torch.testing.assert_close(seen[name][0], value, rtol=0, atol=1e-5)
    # As generate gives attentions: of each step, of each layer.
    assert [step[0].shape[2:] for step in seen.attentions] == [
        (9, 9), (1, 10), (1, 11), (1, 12), (1, 13),
    ]  # fmt: skip
    assert torch.equal(seen.passes[1]["entropy"][0], seen["entropy"][0][:, :, 9:10])


@pytest.mark.parametrize("way", [{}, {"cache_implementation": "static"}, {"use_cache": False}])
def test_every_way_of_generation_is_observed_in_every_role(way):
    model = marian()
    expected = generate(model, padded(), **way)
    for role, passes in (("encoder", 1), ("decoder", 8), ("cross", 8)):
        with hf.observe(model, ["entropy"], role=role) as seen:
            assert torch.equal(generate(model, padded(), **way), expected)
        assert len(seen.passes) == passes and len(seen["entropy"]) == 2


def test_layers_that_share_a_module_are_told_apart_by_their_calls():
    torch.manual_seed(6)
    for groups in (1, 2):
        config = AlbertConfig(
            vocab_size=WORDS, embedding_size=16, hidden_size=32, intermediate_size=48,
            num_hidden_layers=4, num_hidden_groups=groups, num_attention_heads=4,
            initializer_range=0.3, bos_token_id=None, eos_token_id=None,
        )  # fmt: skip
        model = AlbertModel(config).eval()
        expected = dense(model, input_ids=IDS).attentions
        with torch.no_grad(), hf.observe(model, ["weights"], layers=[1, 3], heads=2) as seen:
            model(IDS)
            model(IDS[:, :5])
        assert seen.layers == (1, 3) and len(seen.passes) == 2
        for one, layer in zip(seen.passes[0]["weights"], seen.layers, strict=True):
            torch.testing.assert_close(one, expected[layer][:, [2]], rtol=0, atol=1e-5)


def test_a_penalty_on_entropy_trains():
    model = llama().train()
    step = torch.optim.Adam(model.parameters(), 3e-3)
    found = []
    for _ in range(8):
        output, seen = hf.observe(model, ["entropy"])(input_ids=IDS, labels=IDS)
        spread = torch.stack(seen["entropy"]).mean()
        found.append(float(spread.detach()))
        step.zero_grad()
        (0.01 * output.loss + spread).backward()
        step.step()
    assert found[-1] < 0.8 * found[0]


def test_gradients_of_what_is_seen_are_those_of_dense_weights():
    model = llama().double()
    model.set_attn_implementation("eager")
    entropy(model(IDS, output_attentions=True).attentions[1][:, 2]).sum().backward()
    expected = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    model.zero_grad()
    _, seen = hf.observe(model, ["entropy"], layers=1, heads=2)(IDS)
    seen["entropy"][0].sum().backward()
    found = dict(model.named_parameters())
    assert "model.layers.1.self_attn.k_proj.weight" in expected
    for name, own in expected.items():
        # Eager softmax is computed in float32, whatever the model is.
        torch.testing.assert_close(found[name].grad, own, rtol=1e-4, atol=1e-5)


def test_features_of_keys_are_read_and_may_be_longer_than_the_text():
    model = llama()
    kinds = torch.randint(0, 3, (1, 1, 20), generator=torch.Generator().manual_seed(7))
    with hf.observe(model, ["mass:kind:3"], layers=[0], kind=kinds) as seen:
        words = model.generate(IDS, max_new_tokens=3, do_sample=False)
    weights = dense(model, input_ids=words[:, :-1]).attentions[0]
    classes = torch.nn.functional.one_hot(kinds[0, 0, :11], 3).float()
    torch.testing.assert_close(seen["mass:kind:3"][0], weights @ classes, rtol=0, atol=1e-5)


def test_blocks_around_each_other_see_each_their_own():
    model = marian()
    with torch.no_grad(), hf.observe(model, ["entropy"], role="encoder") as outer:
        with hf.observe(model, ["weights"], role="encoder", heads=[0]) as inner:
            model(**CALL)
        with hf.observe(model, ["received"], role="cross") as other:
            model(**CALL)
        assert model.config._attn_implementation == "regard"
    assert model.config._attn_implementation == "sdpa"
    assert len(outer.passes) == 2 and len(inner.passes) == len(other.passes) == 1
    for rows, weights in zip(outer.passes[0]["entropy"], inner["weights"], strict=True):
        torch.testing.assert_close(rows[:, :1], entropy(weights), rtol=0, atol=1e-5)


def test_each_thread_sees_its_own_calls():
    model, found, meet = llama(), {}, threading.Barrier(3)

    def work(tokens):
        for _ in range(4):
            with torch.no_grad(), hf.observe(model, ["entropy"], layers=0) as seen:
                meet.wait()
                model(IDS[:, :tokens])
                meet.wait()
            found.setdefault(tokens, []).append(seen["entropy"][0].shape[2])

    threads = [threading.Thread(target=work, args=(tokens,)) for tokens in (3, 5, 7)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert found == {tokens: [tokens] * 4 for tokens in (3, 5, 7)}
    assert model.config._attn_implementation == "sdpa"


def test_a_model_is_put_back_when_a_call_fails():
    model = marian()
    with (
        pytest.raises(UnsupportedError, match="passes 'indices'"),
        hf.observe(model, ["weights"], role="cross"),
    ):
        model(**CALL, indices=torch.ones(1))
    assert model.config._attn_implementation == "sdpa"
    assert model(**CALL).cross_attentions is None
    assert not hf.watching.watchers.get()


def test_a_mode_applied_inside_stays():
    model = marian()
    with hf.observe(model, ["entropy"], role="cross") as seen:
        hf.apply(model, EVERYWHERE)
        model(**CALL)
    assert model.config._attn_implementation == "regard" and len(seen["entropy"]) == 2
    assert model.regard_mode is EVERYWHERE


def test_a_module_called_by_itself_is_observed_too():
    model = marian()
    with hf.observe(model, ["entropy"], role="encoder") as seen:
        model.model.encoder.layers[1].self_attn(torch.randn(1, 4, 32))
    assert seen.layers == (1,) and seen["entropy"][0].shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["entropie"]}, "'entropie' cannot be observed; did you mean 'entropy'"),
        ({"names": "entropy"}, r"names is a list, not a text: write \['entropy'\]"),
        ({"names": []}, "nothing is to be observed; give names"),
        ({"names": [3]}, "what is observed has a name, such as 'entropy'; found 3"),
        ({"layers": 2}, "layers: there is no 2; there are 2, from 0"),
        ({"layers": [0, -3]}, "layers: there is no -3; there are 2, from 0"),
        ({"layers": (0, 2)}, r"layers=\(0, 2\) could mean layers from … to, as in a mode"),
        ({"layers": []}, r"layers is a number, a range or a list of numbers, not \[\]"),
        ({"layers": True}, "layers is a number, a range or a list of numbers, not True"),
        ({"heads": 4}, r"layers\.0\.self_attn: heads: there is no 4; there are 4, from 0"),
        ({"heads": ["a"]}, "heads: there is no 'a'; there are 4"),
        ({"role": None}, "attention of roles cross, decoder, encoder; name one"),
        ({"role": "crooss"}, "no attention of role 'crooss'; did you mean 'cross'"),
        ({"names": ["mass:kind:2"]}, "'mass:kind' reads the feature 'kind'; give it, as kind="),
        ({"names": ["mass:kind:2"], "kind": [1]}, r"feature 'kind' is a tensor .*, not \[1\]"),
        ({"kind": torch.ones(1)}, "nothing observed reads 'kind'; there is none"),
    ],
)
def test_what_is_not_there_is_refused_by_name(options, message):
    given = {"names": ["entropy"], "role": "encoder", **options}
    with pytest.raises(InputError, match=message):
        hf.observe(marian(), given.pop("names"), **given)


def test_a_statistic_that_a_program_lacks_is_refused_before_the_call():
    @rg.program
    def gated(pair):
        return rg.weigh(rg.sigmoid(rg.dot(pair.q, pair.k)))

    model = hf.apply(marian(), rg.Mode("gated", cross=gated))
    with pytest.raises(InputError, match="'lse' belongs to a softmax; the program has none"):
        hf.observe(model, ["lse"], role="cross")


def test_what_was_not_seen_is_an_error():
    model = marian()
    with hf.observe(model, ["map:2x2", "entropy"], role="encoder") as seen:
        with pytest.raises(InputError, match="nothing was observed: the model was not called"):
            seen["entropy"]
        with torch.no_grad():
            model(**CALL)
            model(input_ids=CALL["input_ids"][:1], decoder_input_ids=CALL["decoder_input_ids"][:1])
    with pytest.raises(InputError, match="'mass' was not observed; known: entropy, map:2x2"):
        seen["mass"]
    with pytest.raises(InputError, match="'map:2x2' of 2 passes cannot be joined, because it is a"):
        seen["map:2x2"]
    with pytest.raises(InputError, match=r"'entropy' of 2 passes .* batches of different sizes"):
        seen["entropy"]
    with pytest.raises(InputError, match="attentions are the weights; observe"):
        _ = seen.attentions
    assert seen.passes[1]["map:2x2"][0].shape == (1, 4, 2, 2)


def test_a_block_is_entered_once():
    model = marian()
    block = hf.observe(model, ["entropy"], role="encoder")
    with block, pytest.raises(InputError, match="this block was entered before"):
        block(**CALL)
    assert model.config._attn_implementation == "sdpa"


def test_features_of_one_name_must_be_one():
    model = marian()
    names, role = ["mass:kind:2"], "encoder"
    with (
        hf.observe(model, names, role=role, kind=torch.zeros(1, 1, 7, dtype=torch.long)),
        hf.observe(model, names, role=role, kind=torch.ones(1, 1, 7, dtype=torch.long)),
        pytest.raises(InputError, match="two features 'kind' are given by blocks"),
    ):
        model(**CALL)


def test_gradient_checkpointing_is_refused_where_gradients_would_be_lost():
    model = llama().train()
    model.activation_checkpointing_enable()
    with (
        pytest.raises(UnsupportedError, match="turn checkpointing off"),
        hf.observe(model, ["entropy"]),
    ):
        pass
    with torch.no_grad(), hf.observe(model, ["entropy"]) as seen:
        model(IDS, use_cache=False)
    assert len(seen["entropy"]) == 3


def test_every_backbone_gets_its_own_attention_back():
    model = marian(MarianMTModel)
    inner = model.model.decoder
    inner.config = type(inner.config)(**inner.config.to_dict())
    inner.config._attn_implementation = "eager"
    with hf.observe(model, ["entropy"], role="decoder"):
        assert inner.config._attn_implementation == "regard"
    assert (inner.config._attn_implementation, model.config._attn_implementation) == (
        "eager", "sdpa",
    )  # fmt: skip
