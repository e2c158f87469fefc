"""Modes on models of every kind: vision, speech, several inputs, shared layers, position biases."""

import copy

import pytest
import torch

import regard as rg
from regard import hf
from regard.errors import InputError, UnsupportedError
from regard.hf import interface
from regard.hf.bias import BiasByDistance
from regard.hf.places import find_places
from regard.modes import Assignment, Mode
from tests.hf.architectures import inputs, tiny
from tests.nn import programs as p


@rg.program
def own(pair):
    """What most models compute, in the words that a model gives."""
    return rg.softmax(rg.dot(pair.q, pair.k) * rg.scalar("scaling"))


@rg.program
def own_of_t5(pair):
    return rg.softmax(rg.dot(pair.q, pair.k) + rg.pair_input("position_bias"))


@rg.program
def own_with_sinks(pair):
    score = rg.dot(pair.q, pair.k) * rg.scalar("scaling")
    return rg.softmax(score, sink=rg.table("sinks", per="head"))


def outputs(model, call=None):
    call = inputs(model, "right") if call is None else call
    mask = call.get("attention_mask")
    with torch.no_grad():
        found = model(**call)[0]
    return found[mask.bool()] if mask is not None and found.shape[:2] == mask.shape else found


def everywhere(program, model):
    roles = {place.role for _, place in find_places(model).values()}
    return Mode("m", **dict.fromkeys(sorted(roles), program))


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("llama", own), ("albert", own), ("deepseek_v3", own), ("wav2vec2", own), ("vit", own),
        ("whisper", own), ("clip", own), ("llava", own), ("paligemma", own), ("modernbert", own),
        ("t5", own_of_t5), ("umt5", own_of_t5), ("gpt_oss", own_with_sinks), ("swin", own_of_t5),
    ],
)  # fmt: skip
def test_a_mode_that_says_what_the_model_does_changes_nothing(name, program):
    model = tiny(name)
    if name == "t5":
        # Cross attention has no position bias.
        mode = Mode("m", encoder=own_of_t5, decoder=own_of_t5)
    elif name == "umt5":
        mode = Mode("m", encoder=own_of_t5)
    elif name == "swin":
        program = own_of_swin
        mode = Mode("m", vision=program)
    else:
        mode = everywhere(program, model)
    expected = outputs(model)
    hf.apply(model, mode)
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(outputs(model), expected, rtol=0, atol=1e-5 * scale)


@rg.program
def own_of_swin(pair):
    score = rg.dot(pair.q, pair.k) * rg.scalar("scaling")
    return rg.softmax(score + rg.pair_input("position_bias"))


@pytest.mark.parametrize("name", ["llama", "gemma2", "bert", "albert", "vit", "wav2vec2", "t5"])
def test_learned_programs_train_beside_the_model(name):
    model = tiny(name)
    before = outputs(model)
    mode = everywhere(p.distant, model)
    hf.apply(model, mode)
    assert (outputs(model) - before).abs().max() > 1e-3
    learned = {key: one for key, one in model.named_parameters() if ".regard." in key}
    assert len(learned) == len(find_places(model))
    model.train()
    model(**inputs(model, "right"))[0].square().sum().backward()
    assert all(one.grad is not None and one.grad.abs().max() > 0 for one in learned.values())
    hf.restore(model.eval())
    assert torch.equal(outputs(model), before)


def test_a_mode_may_name_what_a_part_reads():
    model = tiny("paligemma")
    hf.apply(model, Mode("m", "", [Assignment("vision", p.alibi, layers=(1, 2))], text=own))
    programmed = [path for path, one in model.named_modules() if path.endswith(".regard")]
    assert [path.split(".")[1:6] for path in programmed] == [
        ["vision_tower", "encoder", "layers", "1", "self_attn"],
        ["language_model", "layers", "0", "self_attn", "regard"],
        ["language_model", "layers", "1", "self_attn", "regard"],
    ]


def test_a_role_of_what_a_part_reads_must_be_there():
    message = "a program for role 'vision', which this model lacks; it has decoder, text"
    with pytest.raises(InputError, match=message):
        hf.apply(tiny("gpt2"), Mode("m", vision=own))


def test_attention_that_cannot_be_replaced_is_named():
    from transformers import BigBirdPegasusConfig, BigBirdPegasusForConditionalGeneration

    model = BigBirdPegasusForConditionalGeneration(
        BigBirdPegasusConfig(
            vocab_size=20, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8,
            decoder_ffn_dim=8, encoder_attention_heads=2, decoder_attention_heads=2,
        )
    )  # fmt: skip
    with pytest.raises(InputError) as error:
        hf.apply(model, Mode("m", encoder=own))
    assert str(error.value) == (
        "mode 'm' has a program for role 'encoder', which this model lacks; it has cross, decoder, "
        "text; model.encoder.layers.0.self_attn runs attention of its own, which cannot be replaced"
    )


def test_the_mask_of_a_model_holds_whatever_a_program_says():
    model = tiny("mistral")
    hf.apply(model, Mode("m", decoder=p.plain))
    call = inputs(model, "right")
    call["input_ids"], call["attention_mask"] = call["input_ids"][:1], call["attention_mask"][:1]
    seen = model(**call, output_attentions=True).attentions[0][0, 0]
    rows = torch.arange(9)
    window = (rows <= rows[:, None]) & (rows > rows[:, None] - 5)
    assert torch.equal(seen > 0, window)


def test_a_position_bias_stays_only_where_a_program_reads_it():
    model = tiny("t5")
    with_bias, without = Mode("a", encoder=own_of_t5), Mode("b", encoder=unbiased)
    expected = outputs(model)
    torch.testing.assert_close(outputs(hf.apply(model, with_bias)), expected, rtol=0, atol=1e-3)
    assert (outputs(hf.apply(model, without)) - expected).abs().max() > 0.01


@rg.program
def unbiased(pair):
    return rg.softmax(rg.dot(pair.q, pair.k))


def test_what_no_call_gives_is_named_when_a_mode_is_applied():
    message = "bert.encoder.layer.0.attention.self: its program reads 'position_bias', which the"
    with pytest.raises(InputError, match=message):
        hf.apply(tiny("bert"), Mode("m", encoder=own_of_t5))


@pytest.mark.parametrize("other", ["eager", "sdpa"])
def test_another_implementation_after_a_mode_is_an_error_not_a_loss(other):
    model = hf.apply(tiny("llama"), Mode("m", decoder=p.alibi))
    expected = outputs(model)
    model.set_attn_implementation(other)
    with pytest.raises(InputError) as error:
        outputs(model)
    assert str(error.value) == (
        f"model.layers.0.self_attn has programs of a mode and ran attn_implementation '{other}' "
        "instead; rg.hf.restore(model) takes the mode out, "
        "model.set_attn_implementation('regard') runs it again"
    )
    model.set_attn_implementation("regard")
    assert torch.equal(outputs(model), expected)
    hf.restore(model)
    model.set_attn_implementation(other)
    outputs(model)


def test_a_module_that_does_not_call_its_attention_function_is_named(monkeypatch):
    model = tiny("bert")
    hf.apply(model, Mode("m", encoder=p.plain))
    kind = type(model.bert.encoder.layer[0].attention.self)
    monkeypatch.setattr(kind, "forward", lambda self, x, *args, **kwargs: (x, None))
    message = (
        r"bert.encoder.layer.0.attention.self \(BertSelfAttention\) ran and did not call its "
        "attention function, so its programs had no effect"
    )
    with pytest.raises(UnsupportedError, match=message):
        outputs(model)


def test_calls_with_other_heads_than_the_mode_was_applied_for_are_refused():
    model = hf.apply(tiny("bert"), Mode("m", encoder=p.plain))
    module = model.bert.encoder.layer[0].attention.self
    rows = torch.randn(3, 1, 2, 5, 8)
    message = "bert.encoder.layer.0.attention.self .* calls with 2 heads; the mode was applied for"
    with pytest.raises(InputError, match=message):
        interface.attention_function(module, *rows, None)


def test_a_model_that_claims_our_attention_and_never_asks_is_refused():
    from transformers import BloomConfig, BloomForCausalLM

    sizes = BloomConfig(vocab_size=9, hidden_size=8, n_layer=1, n_head=2)
    model = BloomForCausalLM._from_config(sizes, attn_implementation="regard")
    message = "models of type 'bloom' run attention of their own and never ask for attn_impl"
    with pytest.raises(UnsupportedError, match=message):
        model(torch.tensor([[1, 2, 3]]))


def test_restoring_brings_back_the_implementation_of_every_part():
    model = tiny("llava")
    model.set_attn_implementation({"text_config": "eager", "vision_config": "sdpa"})
    parts = model.config.text_config, model.config.vision_config
    hf.apply(model, Mode("m", text=p.causal))
    assert {part._attn_implementation for part in parts} == {"regard"}
    hf.restore(model)
    assert [part._attn_implementation for part in parts] == ["eager", "sdpa"]


def test_a_table_stands_in_for_a_position_bias_until_the_mode_is_taken_out():
    model = hf.apply(tiny("t5"), Mode("m", encoder=own_of_t5))
    module = model.encoder.block[0].layer[0].SelfAttention
    assert isinstance(vars(module)["compute_bias"], BiasByDistance)
    other = copy.deepcopy(model)
    again = other.encoder.block[0].layer[0].SelfAttention
    assert vars(again)["compute_bias"].module is again
    hf.restore(model)
    assert "compute_bias" not in vars(module)
    assert torch.equal(outputs(hf.restore(other)), outputs(model))


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", ["t5", "llama", "bert"])
def test_gradient_checkpointing_changes_no_gradient(name, reentrant):
    model, found = tiny(name), []
    hf.apply(model, Mode("m", **{"t5": {"encoder": own_of_t5}}.get(name, {"text": p.distant})))
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for checkpointed in (False, True):
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": reentrant})
        model.zero_grad()
        call = inputs(model, "right")
        call["inputs_embeds"] = model.get_input_embeddings()(call.pop("input_ids"))
        model(**call, use_cache=False)[0].square().sum().backward()
        found.append({key: x.grad for key, x in model.named_parameters() if x.grad is not None})
    scale = max(x.abs().max().item() for x in found[0].values())
    assert found[0].keys() == found[1].keys()
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=0, atol=1e-5 * scale)
