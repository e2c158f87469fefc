"""LoRA by PEFT on re-programmed models: programs trained beside it, merged, unloaded, switched."""

import copy
import pickle
import sys

import peft
import pytest
import torch

from regard import hf
from regard.errors import InputError, UnsupportedError
from regard.hf import tuning
from tests.hf.models import EVERYWHERE, generate, marian, padded
from tests.hf.tuning.models import MODE, bert, inputs, moved, output, programmed


def lora(**changes):
    return peft.LoraConfig(**{"target_modules": ["query", "value"], "r": 2, **changes})


def trained_names(model):
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_adapter_changes_nothing_at_the_start():
    model = programmed()
    before = output(model)
    assert torch.equal(output(tuning.adapt(model, lora())), before)


def test_programs_and_adapter_are_trained_and_nothing_else():
    model = tuning.adapt(programmed(), lora())
    model(**inputs())[0].square().mean().backward()
    for name, parameter in model.named_parameters():
        own = "lora_" in name or "regard.modules_to_save.default" in name
        assert parameter.requires_grad == own, name
        assert (parameter.grad is not None) == own, name
    grads = [p.grad for n, p in model.named_parameters() if "regard.modules_to_save" in n]
    assert len(grads) == 2 and all(grad.abs().max() > 0 for grad in grads)


def test_programs_without_parameters_are_left_alone():
    model = tuning.adapt(bert(), lora())
    assert not any("modules_to_save" in name for name, _ in model.named_parameters())


def test_training_lowers_a_loss_and_moves_the_programs():
    model = tuning.adapt(programmed(), lora(r=4, lora_alpha=16)).train()
    target = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses, start = [], [p.clone() for n, p in model.named_parameters() if "_to_save" in n]
    for _ in range(8):
        loss = (model(**inputs())[0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    now = [p for n, p in model.named_parameters() if "_to_save" in n]
    assert all(not torch.equal(a, b) for a, b in zip(start, now, strict=True))


def test_merged_and_unloaded_equals_adapted():
    model = moved(tuning.adapt(programmed().double(), lora()))
    adapted = output(model)
    merged = model.merge_and_unload()
    assert not any("lora" in name for name, _ in merged.named_modules())
    torch.testing.assert_close(output(merged), adapted, rtol=0, atol=1e-12)


def test_unloaded_without_merging_equals_the_original_bit_for_bit():
    model = programmed()
    before, state = output(model), copy.deepcopy(model.state_dict())
    adapted = moved(tuning.adapt(model, lora()))
    assert not torch.equal(output(adapted), before)
    back = adapted.unload()
    assert back is model and torch.equal(output(back), before)
    assert back.state_dict().keys() == state.keys()
    assert all(torch.equal(state[name], value) for name, value in back.state_dict().items())


def test_disabled_adapter_runs_the_original_programs():
    model = programmed()
    before = output(model)
    adapted = moved(tuning.adapt(model, lora()))
    with adapted.disable_adapter():
        assert torch.equal(output(adapted), before)
    assert not torch.equal(output(adapted), before)


def test_several_adapters_keep_their_own_programs():
    model = programmed()
    before = output(model)
    adapted = moved(tuning.adapt(model, lora(), "first"))
    first = output(adapted)
    assert tuning.adapt(adapted, lora(r=3), "second") is adapted
    assert adapted.active_adapter == "second" and torch.equal(output(adapted), before)
    assert not any(".first." in name for name in trained_names(adapted))
    assert any("_to_save.second." in name for name in trained_names(adapted))
    second = output(moved(adapted))
    adapted.set_adapter("first")
    assert torch.equal(output(adapted), first)
    adapted.set_adapter("second")
    assert torch.equal(output(adapted), second)
    adapted.delete_adapter("first")
    assert torch.equal(output(adapted), second)
    assert torch.equal(output(adapted.unload()), before)


def test_every_role_of_an_encoder_and_decoder_is_tuned():
    model = hf.apply(marian(), EVERYWHERE)
    adapted = tuning.adapt(model, lora(target_modules=["q_proj", "v_proj"]))
    adapted(**padded(), labels=padded()["input_ids"]).loss.backward()
    grads = {n: p.grad for n, p in adapted.named_parameters() if "regard.modules_to_save" in n}
    # Two layers of three roles; one of them runs two programs.
    assert len(grads) == 7
    assert all(grad is not None and grad.abs().max() > 0 for grad in grads.values())


def test_adapted_model_generates_as_before_and_then_otherwise():
    model = hf.apply(marian(), EVERYWHERE)
    before = generate(model, padded(), num_beams=2)
    config = lora(target_modules=["q_proj", "v_proj"], task_type="SEQ_2_SEQ_LM")
    adapted = tuning.adapt(model, config)
    assert torch.equal(generate(adapted, padded(), num_beams=2), before)
    assert not torch.equal(generate(moved(adapted), padded(), num_beams=2), before)


def test_configuration_given_is_left_as_it_was():
    config = lora()
    tuning.adapt(programmed(), config)
    assert config.modules_to_save is None and config.auto_mapping is None


def test_further_modules_may_be_trained_in_full():
    names = trained_names(tuning.adapt(programmed(), lora(modules_to_save=["pooler"])))
    assert any("pooler.modules_to_save" in name for name in names)
    assert any("regard.modules_to_save" in name for name in names)


def test_model_stays_in_training_or_evaluation():
    assert not any(m.training for m in tuning.adapt(programmed(), lora(lora_dropout=0.5)).modules())
    assert all(m.training for m in tuning.adapt(programmed().train(), lora()).modules())


def test_adapted_model_is_copied_and_pickled():
    model = moved(tuning.adapt(programmed(), lora()))
    expected = output(model)
    assert torch.equal(output(copy.deepcopy(model)), expected)
    config = pickle.loads(pickle.dumps(model.peft_config["default"]))
    assert config.regard_mode.name == "distant" and config.r == 2


def test_unknown_target_is_refused_though_others_are_found():
    model = programmed()
    with pytest.raises(InputError, match="'quary' is not in the model; did you mean 'query'"):
        tuning.adapt(model, lora(target_modules=["quary", "value"]))
    assert not any("lora" in name for name, _ in model.named_modules())


def test_targets_that_peft_finds_nowhere_are_refused():
    with pytest.raises(InputError, match=r"PEFT refuses this adapter: .*not found"):
        tuning.adapt(bert(), lora(target_modules="nothing.*"))


@pytest.mark.parametrize("name", ["", "a.b", "regard"])
def test_impossible_name_is_refused(name):
    with pytest.raises(InputError, match=f"'{name}' cannot be an adapter's name"):
        tuning.adapt(bert(), lora(), name)


def test_taken_name_is_refused():
    adapted = tuning.adapt(bert(), lora())
    with pytest.raises(InputError, match="'default' is taken"):
        tuning.adapt(adapted, lora())


def test_model_inside_an_adapted_one_is_refused():
    model = bert()
    tuning.adapt(model, lora())
    with pytest.raises(InputError, match=r"give what tuning\.adapt returned"):
        tuning.adapt(model, lora(), "second")


def test_what_is_no_model_is_refused():
    with pytest.raises(InputError, match="not Linear"):
        tuning.adapt(torch.nn.Linear(2, 2), lora())


def test_mode_is_neither_taken_out_nor_changed_under_an_adapter():
    model = programmed()
    adapted = moved(tuning.adapt(model, lora()))
    expected = output(adapted)
    for change in (hf.restore, lambda one: hf.apply(one, MODE)):
        for one in (model, adapted):
            with pytest.raises(InputError, match="has adapters; take them out first"):
                change(one)
    assert torch.equal(output(adapted), expected)
    assert hf.restore(adapted.unload()) is model


def test_configuration_of_another_kind_is_refused():
    with pytest.raises(InputError, match="not dict"):
        tuning.adapt(bert(), {"r": 2})
    with pytest.raises(InputError, match="not PrefixTuningConfig"):
        tuning.adapt(bert(), peft.PrefixTuningConfig(num_virtual_tokens=2))


def test_method_that_trains_nothing_beside_it_is_refused_for_programs_with_parameters():
    config = peft.AdaptionPromptConfig(adapter_len=2, adapter_layers=1)
    with pytest.raises(InputError, match="AdaptionPromptConfig trains nothing beside its adapter"):
        tuning.adapt(programmed(), config)


def test_missing_peft_is_told_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UnsupportedError, match=r"hf.tuning.adapt needs PEFT.*regard\[peft\]"):
        _ = tuning.adapt


def test_unknown_name_of_the_room_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'adopt'"):
        _ = tuning.adopt
