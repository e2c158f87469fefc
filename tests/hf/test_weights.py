"""Weights that do not fit the model and its mode: each is named, and none is made up."""

import pytest
import torch
from transformers import MarianModel

import regard as rg
from regard import hf
from regard.modes import Mode
from tests.hf.folders import assert_same, complaint, put_mode, reweigh, trained
from tests.hf.models import CROSS, marian

LEARNED = "model.decoder.layers.0.encoder_attn.regard.groups.0.learned.bias"
OTHER = "was it saved with another mode or configuration?"


@pytest.fixture
def folder(tmp_path):
    trained().save_pretrained(tmp_path)
    return tmp_path


def test_a_mode_without_its_learned_parameters_is_refused(folder):
    reweigh(folder / "model.safetensors", lambda weights: weights.pop(LEARNED))
    assert complaint(folder) == f"FOLDER/model.safetensors: the file lacks {LEARNED}; {OTHER}"


def test_learned_parameters_without_a_mode_are_refused(tmp_path):
    model = trained()
    model.save_pretrained(tmp_path / "one")
    marian().save_pretrained(tmp_path / "two")
    (tmp_path / "one/model.safetensors").rename(tmp_path / "two/model.safetensors")
    assert complaint(tmp_path / "two") == (
        f"FOLDER/model.safetensors: the file has {LEARNED}, which the model does not; {OTHER}"
    )


def test_learned_parameters_of_another_mode_are_refused(folder):
    put_mode(folder, CROSS)
    name = "model.decoder.layers.0.self_attn.regard.groups.0.learned.slope"
    assert complaint(folder) == (
        f"FOLDER/model.safetensors: the file has {name}, which the model does not; {OTHER}"
    )


@pytest.mark.parametrize("name", ["model.encoder.layers.1.fc1.weight", "lm_head.weight"])
def test_missing_weights_of_the_model_are_refused(folder, name):
    reweigh(folder / "model.safetensors", lambda weights: weights.pop(name))
    assert complaint(folder) == f"FOLDER/model.safetensors: the file lacks {name}; {OTHER}"


def test_surplus_weights_are_refused(folder):
    reweigh(folder / "model.safetensors", lambda weights: weights.update(extra=torch.zeros(2)))
    assert complaint(folder) == (
        f"FOLDER/model.safetensors: the file has extra, which the model does not; {OTHER}"
    )


@pytest.mark.parametrize("name", [LEARNED, "model.encoder.layers.1.fc1.weight"])
def test_weights_of_another_shape_are_refused(folder, name):
    reweigh(folder / "model.safetensors", lambda weights: weights.update({name: torch.zeros(4, 9)}))
    assert f"FOLDER/model.safetensors: {name} has shape (4, 9), the model's is (" in complaint(
        folder
    )


def test_weights_missing_in_the_base_model_are_refused_for_any_class(folder):
    name = "model.encoder.layers.1.fc1.weight"
    reweigh(folder / "model.safetensors", lambda weights: weights.pop(name))
    found = complaint(folder, MarianModel)
    assert found == f"FOLDER/model.safetensors: the file lacks {name[6:]}; {OTHER}"


@pytest.mark.parametrize("name", ["weight_g", "weight_v", "gamma", "beta", "LayerNorm", "weight"])
def test_parameters_may_be_called_what_transformers_renames(tmp_path, name):
    @rg.program
    def scaled(pair):
        factor = rg.parameter(name, init=rg.init.constant(0.5))
        return rg.softmax(rg.dot(pair.q, pair.k) * factor)

    model = trained(Mode("m", encoder=scaled))
    model.save_pretrained(tmp_path)
    assert_same(hf.from_pretrained(tmp_path), model)
