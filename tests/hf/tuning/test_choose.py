"""Targets by letter, by name and by layer become paths; bottlenecks become a part of a model."""

import pytest
import torch

from regard.errors import InputError
from regard.hf import tuning
from tests.hf.tuning.models import inputs, make

BERT = "encoder.layer.{}.attention."


def test_letters_are_projections_of_every_attention():
    found = tuning.choose_targets(make("bert"), ["q", "o"])
    names = ("self.query", "output.dense")
    assert set(found) == {BERT.format(layer) + name for layer in (0, 1) for name in names}


def test_letters_that_share_a_projection_give_it_once():
    found = tuning.choose_targets(make("gpt2"), ["q", "v"])
    assert found == [f"transformer.h.{layer}.attn.c_attn" for layer in (0, 1)]


def test_all_are_the_linear_layers_of_chosen_layers_and_no_head():
    found = tuning.choose_targets(make("llama"), ["all"], [1])
    assert len(found) == 7 and all(path.startswith("model.layers.1.") for path in found)


def test_names_end_paths():
    found = tuning.choose_targets(make("bert"), ["intermediate.dense"])
    assert found == [f"encoder.layer.{layer}.intermediate.dense" for layer in (0, 1)]


def test_unknown_target_and_layer_are_named():
    with pytest.raises(InputError, match="targets: 'quary' is not in the model; did you mean 'que"):
        tuning.choose_targets(make("bert"), ["quary"])
    with pytest.raises(InputError, match="layers: there is no layer 9; they go from 0 to 1"):
        tuning.choose_targets(make("bert"), ["q"], [0, 9])


def test_bottlenecks_that_are_built_in_do_what_an_adapter_does():
    config = tuning.BottleneckConfig(width=3)
    adapted, whole = tuning.adapt(make("bert"), config), make("bert")
    for name, weight in adapted.named_parameters():
        if ".regard_adapter." in name:
            torch.nn.init.normal_(weight)
    tuning.build_in(whole, config)
    whole.load_state_dict(tuning.own_names(adapted.get_base_model().state_dict()))
    with torch.no_grad():
        found, wanted = whole.eval()(**inputs())[0], adapted.eval()(**inputs())[0]
    assert torch.equal(found, wanted)
    assert all(weight.requires_grad for weight in whole.parameters())
