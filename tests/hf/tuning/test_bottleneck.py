"""Bottleneck adapters against the papers' formula, on every common architecture."""

import json

import peft
import pytest
import torch
from torch.nn import functional

from regard import hf
from regard.errors import InputError, UnsupportedError
from regard.hf import tuning
from regard.hf.tuning.structure import find_ends
from tests.hf.tuning.models import MAKERS, bert, inputs, make, moved, output, programmed

PLACEMENTS = ("houlsby", "pfeiffer")


def bottleneck(placement="houlsby", **changes):
    return tuning.BottleneckConfig(**{"placement": placement, "width": 3, **changes})


def by_hand(model, kind, placement, adapters):
    """The original model, with h + up · gelu(down · h) after each sublayer's last projection."""
    attention, forward = find_ends(model)
    hooks = []
    for path in [*attention, *forward] if placement == "houlsby" else forward:
        down, down_bias, up, up_bias = adapters[path]

        def adapter(_, __, h, down=down, down_bias=down_bias, up=up, up_bias=up_bias):
            return h + functional.gelu(h @ down.T + down_bias) @ up.T + up_bias

        hooks.append(model.get_submodule(path).register_forward_hook(adapter))
    assert len(hooks) == len(adapters)
    return output(model, kind)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("kind", MAKERS)
def test_adapter_computes_what_the_paper_says(kind, placement):
    model = make(kind).double()
    before = output(model, kind)
    adapted = tuning.adapt(model, bottleneck(placement))
    assert torch.equal(output(adapted, kind), before)
    found = output(moved(adapted), kind)
    names = ("down", "down_bias", "up", "up_bias")
    adapters = {
        path.removeprefix("base_model.model."): [
            module.regard_adapter["default"].get_parameter(name) for name in names
        ]
        for path, module in adapted.named_modules()
        if hasattr(module, "regard_adapter")
    }
    assert not torch.allclose(found, before, atol=1e-3)
    expected = by_hand(make(kind).double(), kind, placement, adapters)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_placements_differ_in_attention_alone():
    counts = [hf.trainable(tuning.adapt(bert(), bottleneck(one))).trainable for one in PLACEMENTS]
    # Houlsby et al., section 2.1: 2 · m · d + d + m numbers in each adapter.
    each = 2 * 3 * 16 + 16 + 3
    assert counts == [4 * each, 2 * each]


def test_only_adapters_and_programs_are_trained():
    model = tuning.adapt(programmed(), bottleneck())
    moved(model)(**inputs())[0].square().mean().backward()
    for name, parameter in model.named_parameters():
        own = "regard_adapter" in name or "regard.modules_to_save" in name
        assert (parameter.grad is not None) == own, name
        assert not own or parameter.grad.abs().max() > 0, name


def test_training_lowers_a_loss():
    model = tuning.adapt(make("llama"), bottleneck(width=8)).train()
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for _ in range(8):
        loss = model(**inputs("llama"), labels=inputs("llama")["input_ids"]).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_adapters_are_saved_loaded_by_name_switched_and_removed(tmp_path):
    expected = {}
    for name, width in (("small", 2), ("large", 5)):
        model = moved(tuning.adapt(bert(), bottleneck(width=width)))
        model.save_pretrained(tmp_path / name)
        expected[name] = output(model)
        files = {path.name for path in (tmp_path / name).iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors"} <= files
        assert "mode.json" not in files
    model = bert()
    before = output(model)
    both = tuning.load(model, tmp_path / "small", "small")
    both = tuning.load(both, tmp_path / "large", "large")
    for name in ("large", "small", "large"):
        both.set_adapter(name)
        assert torch.equal(output(both), expected[name])
    both.set_adapter("small")
    both.delete_adapter("large")
    assert torch.equal(output(both), expected["small"])
    assert torch.equal(output(both.unload()), before)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_peft_alone_puts_in_saves_and_loads_a_bottleneck(tmp_path):
    model = moved(peft.get_peft_model(bert(), bottleneck()))
    model.save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "adapter_config.json").read_text())
    assert fields["peft_type"] == "REGARD_BOTTLENECK" and fields["width"] == 3
    again = peft.PeftModel.from_pretrained(bert(), tmp_path)
    assert torch.equal(output(again), output(model))


def test_bottleneck_cannot_be_merged_and_the_model_stays_whole():
    model = moved(tuning.adapt(programmed(), bottleneck()))
    expected = output(model)
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(UnsupportedError, match=r"'default' is a bottleneck.*cannot be merged"):
            merge()
    assert torch.equal(output(model), expected)


def test_layer_itself_refuses_to_merge_what_is_not_linear():
    model = tuning.adapt(bert(), bottleneck())
    with pytest.raises(UnsupportedError, match="a Bottleneck is not linear"):
        model.base_model.model.encoder.layer[0].output.dense.merge()


def test_half_precision_models_keep_their_dtype():
    model = tuning.adapt(bert().to(torch.bfloat16), bottleneck())
    assert output(model).dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"placement": "houlsbey"},
            "'houlsbey' is no placement of adapters; did you mean 'houlsby'",
        ),
        ({"width": 0}, "width=0"),
        ({"width": 1.5}, "width=1.5"),
        ({"activation": "rellu"}, "'rellu' is no activation; did you mean 'relu'"),
    ],
)
def test_impossible_options_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        bottleneck(**changes)
