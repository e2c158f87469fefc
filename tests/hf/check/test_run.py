"""The suite as a whole, and each check that no bug class of its own is planted for."""

import types

import pytest
import torch
from torch import nn
from transformers import AttentionInterface

from regard import hf
from regard.errors import InputError, UnsupportedError
from regard.hf.check import check_model
from regard.hf.check.run import CHECKS
from regard.hf.check.tiny import tiny_model
from regard.modes import Mode
from tests.hf.check.planted import RIGHT, dense, registered, repeated, whole_mask
from tests.nn.programs import distant, relative

# What runs every check that is for tokens, those for encoders and for decoders.
FEW = ("mistral", "bert", "t5")
MANY = (
    "clip", "gpt2", "modernbert", "vit", "whisper",
    "albert", "aya_vision", "bart", "beit", "biogpt", "blenderbot", "camembert",
    "clip_text_model", "cohere2", "data2vec-text", "deepseek_v3", "deit", "dinov2", "distilbert",
    "electra", "ernie", "gemma", "gemma3", "gemma3_text", "glm4", "gpt_neox", "granite", "hubert",
    "idefics3", "internvl", "llama", "llama4_text", "llava", "m2m_100", "marian", "mbart",
    "mixtral", "mt5", "olmo2", "opt", "pegasus", "phi3", "qwen2", "qwen3", "qwen3_moe", "roberta",
    "siglip", "smollm3", "smolvlm", "starcoder2", "swin", "umt5", "wav2vec2", "xlm-roberta",
)  # fmt: skip


@pytest.mark.parametrize("name", FEW)
def test_no_false_alarm(name):
    for attention in ("eager", "sdpa"):
        report = check_model(tiny_model(name), attention)
        assert report.passed, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", MANY)
def test_no_false_alarm_on_many_architectures(name):
    for attention in ("eager", "sdpa"):
        report = check_model(tiny_model(name), attention)
        assert report.passed, str(report)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FEW, *MANY])
def test_no_false_alarm_of_our_own_attention(name):
    report = check_model(tiny_model(name), "regard")
    assert report.passed, str(report)


def test_every_check_has_one_row_in_its_order():
    report = check_model(tiny_model("t5"), "sdpa")
    assert [row.check for row in report] == [name for names, _ in CHECKS for name in names]
    assert report.model == "T5ForConditionalGeneration" and report.attention == "sdpa"
    assert report["cross attention"].verdict == "passed"
    assert report["window edges"].where == "no layer has a window"


def test_the_model_is_left_as_it_was():
    model, state = tiny_model("mistral").train(), torch.get_rng_state()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    own = AttentionInterface.get_interface
    implementation = model.config._attn_implementation
    check_model(model, "eager")
    assert model.training and model.config._attn_implementation == implementation
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert AttentionInterface.get_interface is own


def test_inputs_may_be_given():
    ids = torch.randint(3, 90, (3, 8), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    report = check_model(tiny_model("gpt2"), "sdpa", inputs, only=["causality", "right padding"])
    assert [row.verdict for row in report] == ["passed", "passed"]


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(
        InputError, match="no attention 'eagre' is registered; did you mean 'eager'"
    ):
        check_model(tiny_model("gpt2"), "eagre")
    with pytest.raises(InputError, match="no check 'causalty'; did you mean 'causality'"):
        check_model(tiny_model("gpt2"), "eager", only=["causalty"])


def test_a_model_that_never_asks_for_attention_is_refused_aloud():
    with pytest.raises(
        UnsupportedError, match="BloomForCausalLM does not ask transformers for its"
    ):
        check_model(tiny_model("bloom"), "sdpa")
    assert check_model(tiny_model("bloom"), "eager", only=["causality"]).passed


def test_an_attention_that_the_model_refuses_is_an_error():
    with pytest.raises(
        UnsupportedError, match="the model cannot run attention 'sdpa': Gemma2ForCau"
    ):
        check_model(tiny_model("gemma2"), "sdpa")


def test_a_model_that_says_nothing_of_each_token_is_checked_in_part():
    model = tiny_model("BertForSequenceClassification")
    report = check_model(model, "sdpa", only=["eager outputs", "both directions"])
    assert [row.verdict for row in report] == ["passed", "not applicable"]
    assert (
        "the model returns nothing for each token of 'input_ids'" in report["both directions"].where
    )


def test_what_an_implementation_raises_is_a_failure():
    def refuses(*_, **__):
        raise ValueError("not on a Monday\nand not on a Tuesday")

    with registered(refuses, whole_mask) as name:
        report = check_model(tiny_model("llama"), name, only=["causality"])
    assert report["causality"].verdict == "failed"
    assert report["causality"].where == "ValueError: not on a Monday"


def test_inputs_that_the_model_refuses_are_no_matter_of_attention():
    ids = torch.ones(2, 8, dtype=torch.long)
    with pytest.raises(UnsupportedError, match="cannot be run with inputs input_ids, cat"):
        check_model(tiny_model("vit"), "sdpa", {"input_ids": ids, "cat": ids})


def test_a_model_with_a_mode_is_checked_as_it_is():
    model = hf.apply(tiny_model("marian"), Mode("positions", decoder=relative, encoder=distant))
    report = check_model(model)
    assert report.passed, str(report)
    assert report["eager outputs"].where == "programs of a mode differ from it"
    assert report["saved and reloaded"].verdict == "passed"


def test_a_mode_is_not_checked_under_another_attention():
    model = hf.apply(tiny_model("marian"), Mode("positions", decoder=relative))
    with pytest.raises(InputError, match="which runs under attention 'regard' alone, not 'eager'"):
        check_model(model, "eager")


def test_a_module_that_runs_its_own_attention_is_named():
    model = tiny_model("llama")
    module = model.model.layers[1].self_attn
    own = module.forward

    def alone(self, hidden_states, **options):
        asks = self.config._attn_implementation == "eager"
        return own(hidden_states=hidden_states, **options) if asks else (hidden_states, None)

    module.forward = types.MethodType(alone, module)
    row = check_model(model, "sdpa", only=["interface"])["interface"]
    assert row.verdict == "failed"
    assert row.where == "1 of 2 modules do not call it, such as model.layers.1.self_attn"


def failures(attend, model="llama", mask=whole_mask):
    with registered(attend, mask) as name:
        return check_model(tiny_model(model), name).failures


def test_a_forgotten_scale_is_found_by_parity():
    def unscaled(module, query, key, value, attention_mask, *, scaling=None, **options):
        return RIGHT(module, query, key, value, attention_mask, scaling=1.0, **options)

    assert failures(unscaled) == ("eager outputs", "eager gradients")


def test_a_lost_gradient_is_found_by_parity():
    def detached(rows, heads):
        return repeated(rows, heads).detach()

    assert failures(dense(grouped=detached)) == ("eager gradients", "dropout")


def test_rows_of_a_batch_that_meet_are_found():
    def mixed(output, values, mask):
        return output + 0.1 * values.mean((0, 2), keepdim=True)

    assert "batch independence" in failures(dense(after=mixed), "vit")


def test_a_source_that_is_seen_in_part_is_found():
    def causal(module, query, key, value, attention_mask, **options):
        if query.shape[2] != key.shape[2]:
            seen = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
            attention_mask = seen if attention_mask is None else attention_mask & seen
        return RIGHT(module, query, key, value, attention_mask, **options)

    assert "cross attention" in failures(causal, "whisper")


def test_a_source_whose_padding_is_seen_is_found():
    def unmasked(module, query, key, value, attention_mask, **options):
        if query.shape[2] != key.shape[2]:
            attention_mask = None
        return RIGHT(module, query, key, value, attention_mask, **options)

    assert "cross attention" in failures(unmasked, "marian")


def test_a_mask_that_is_not_moved_along_is_found_by_the_padded_cache():
    def stuck(**options):
        padding = options.pop("attention_mask", None)
        mask = whole_mask(**options)
        if padding is None or options["q_length"] == options["kv_length"]:
            return mask if padding is None else mask & padding[:, None, None].bool()
        return mask

    assert "padded cache" in failures(RIGHT, mask=stuck)


def test_a_sliding_cache_whose_keys_are_counted_from_zero_is_found():
    def from_zero(**options):
        return whole_mask(**{**options, "kv_offset": 0})

    found = failures(RIGHT, "mistral", mask=from_zero)
    assert "sliding cache" in found and "dynamic cache" not in found


def test_a_wrong_module_is_found_under_the_models_own_attention():
    model = tiny_model("llama")
    module = model.model.layers[1].self_attn
    own = module.forward

    def unmasked(self, hidden_states, attention_mask=None, **options):
        return own(hidden_states=hidden_states, attention_mask=None, **options)

    module.forward = types.MethodType(unmasked, module)
    report = check_model(model, "eager")
    assert {"causality", "gradient leakage", "left padding"} <= {*report.failures}


def test_a_weight_that_is_not_saved_is_found():
    model = tiny_model("gpt2")

    class Shifted(nn.Linear):
        def forward(self, rows):
            return super().forward(rows) + 0.1

    head = model.lm_head
    model.lm_head = Shifted(head.in_features, head.out_features, bias=False)
    model.lm_head.weight = head.weight
    assert check_model(model, "eager").failures == ("saved and reloaded",)
