"""The model that a person means by a folder or a name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from regard.errors import FileError, InputError
from regard.hf.check.load import find_model
from regard.hf.check.tiny import tiny_model


@pytest.fixture
def folder(tmp_path):
    tiny_model("gpt2").save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_with_weights_is_that_model(folder):
    found, own = find_model(str(folder)), tiny_model("gpt2")
    assert type(found) is type(own) and not found.training
    for name, weight in own.state_dict().items():
        assert torch.equal(found.state_dict()[name], weight)


def test_a_folder_without_weights_is_that_model_with_random_ones(folder):
    (folder / "model.safetensors").unlink()
    found = find_model(str(folder))
    assert type(found).__name__ == "GPT2LMHeadModel"
    assert found.transformer.wte.weight.std() > 0.2


def test_a_folder_without_an_architecture_is_by_its_model_type(folder):
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    (folder / "config.json").write_text(json.dumps(config))
    assert type(find_model(str(folder))).__name__ == "GPT2LMHeadModel"


def test_a_name_is_a_small_model():
    assert find_model("gpt2").config.n_embd == 32
    with pytest.raises(InputError, match="has no model 'gpt22'; did you mean 'gpt2'"):
        find_model("gpt22")


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(FileError, match=r"no config\.json; a model's folder holds one"):
        find_model(str(tmp_path))


def test_a_configuration_that_cannot_be_read_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(FileError, match="the model does not load: "):
        find_model(str(folder))


def test_an_architecture_that_is_none_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Cat"]}))
    with pytest.raises(
        FileError, match=r"architectures names \['Cat'\], which transformers does not"
    ):
        find_model(str(folder))


def test_weights_that_are_missing_are_refused(folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("transformer.h.1.attn.c_attn.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        FileError, match=r"1 are missing or of another shape, such as transformer\.h\.1"
    ):
        find_model(str(folder))


def test_weights_that_are_cut_short_are_refused(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:100])
    with pytest.raises(FileError, match="the model does not load: "):
        find_model(str(folder))


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileError, match="its weights are pickled, which may run code"):
        find_model(str(folder))
