"""A model and its mode in a folder: back bit for bit, or an error that names what is wrong."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BloomConfig, BloomModel, MarianForCausalLM

from regard import hf
from regard.errors import FileError
from regard.modes import Assignment, Mode, save_mode
from tests.hf.models import CROSS, EVERYWHERE, WORDS, generate, marian, padded
from tests.nn import programs as p

ROOT = Path(__file__).parents[2]
NEXT = torch.randint(2, WORDS, (3, 6), generator=torch.Generator().manual_seed(1))


def logits(model):
    with torch.no_grad():
        return model(**padded(), decoder_input_ids=NEXT).logits


def fingerprint(model):
    """A hash over every bit of the logits and of what is generated."""
    found = (
        logits(model).contiguous().numpy().tobytes() + generate(model, padded()).numpy().tobytes()
    )
    return hashlib.sha256(found).hexdigest()


def trained():
    """A programmed model whose learned parameters left their initial values."""
    model = hf.apply(marian(), EVERYWHERE)
    with torch.no_grad():
        for parameter in model.parameters():
            # Marian's table of positions is computed, not learned, and never saved.
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.fixture
def folder(tmp_path):
    hf.save(trained(), tmp_path)
    return tmp_path


def test_another_process_reads_the_same_model_bit_for_bit(tmp_path):
    model = trained()
    hf.save(model, tmp_path)
    # The other process knows nothing of the mode but the folder.
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from regard import hf; from tests.hf.test_files import fingerprint\n"
        "print(fingerprint(hf.load(sys.argv[1])))"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == fingerprint(model)


def test_a_folder_holds_what_transformers_writes_and_the_mode(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "generation_config.json",
        "mode.json",
        "model.safetensors",
    ]
    assert "regard" not in (folder / "config.json").read_text()


def test_a_loaded_model_evaluates_and_has_its_mode_and_its_generation_settings(tmp_path):
    model = trained().train()
    model.generation_config.num_beams = 3
    model.generation_config.max_new_tokens = 5
    hf.save(model, tmp_path)
    again = hf.load(tmp_path)
    assert not any(module.training for module in again.modules())
    assert again.regard_mode == EVERYWHERE and again.regard_mode.intent == EVERYWHERE.intent
    assert again.generation_config.num_beams == 3 and again.generation_config.max_new_tokens == 5
    for (name, one), (other, two) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(one, two)


def test_a_loaded_model_can_be_restored_trained_and_saved_again(folder, tmp_path):
    model = hf.load(folder)
    hf.save(model, tmp_path / "again")
    same = load_file(folder / "model.safetensors"), load_file(tmp_path / "again/model.safetensors")
    assert same[0].keys() == same[1].keys()
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])
    model.train()(**padded(), labels=NEXT).loss.backward()
    assert all(one.grad is not None for name, one in model.named_parameters() if "regard" in name)
    hf.restore(model)
    assert model.config._attn_implementation == marian().config._attn_implementation


def test_embeddings_are_tied_again(tmp_path):
    hf.save(hf.apply(marian(tie_word_embeddings=True), CROSS), tmp_path)
    again = hf.load(tmp_path)
    assert again.lm_head.weight is again.get_input_embeddings().weight
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")


def test_a_model_without_a_mode_is_loaded_as_it_was(tmp_path):
    model = marian()
    hf.save(model, tmp_path)
    again = hf.load(tmp_path)
    assert not (tmp_path / "mode.json").exists() and not hasattr(again, "regard_mode")
    assert torch.equal(logits(again), logits(model))


def test_saving_over_a_mode_leaves_none_behind(folder):
    hf.save(marian(), folder)
    assert not (folder / "mode.json").exists()
    assert torch.equal(logits(hf.load(folder)), logits(marian()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precision_is_kept(tmp_path, dtype):
    model = trained().to(dtype)
    hf.save(model, tmp_path)
    again = hf.load(tmp_path)
    assert {parameter.dtype for parameter in again.parameters()} == {dtype}
    assert torch.equal(logits(again), logits(model))


def test_mixed_precision_is_kept(tmp_path):
    model = trained().to(torch.bfloat16)
    model.get_encoder().layers[0].self_attn.regard.float()
    hf.save(model, tmp_path)
    again = hf.load(tmp_path)
    assert {n: t.dtype for n, t in again.state_dict().items()} == {
        n: t.dtype for n, t in model.state_dict().items()
    }
    assert torch.equal(logits(again), logits(model))


def test_a_decoder_alone_comes_back(tmp_path):
    model = hf.apply(marian(MarianForCausalLM), Mode("m", decoder=p.relative))
    hf.save(model, tmp_path)
    ids = {"input_ids": NEXT, "attention_mask": torch.ones_like(NEXT)}
    assert torch.equal(generate(hf.load(tmp_path), ids), generate(model, ids))


def complaint(folder):
    with pytest.raises(FileError) as error:
        hf.load(folder)
    return str(error.value).replace(str(folder), "FOLDER")


def rewrite(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def reweigh(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_names_it(folder, name):
    (folder / name).unlink()
    expected = f"FOLDER: no {name}; a model folder holds config.json and model.safetensors"
    assert complaint(folder) == expected


def test_a_folder_that_is_none_is_refused(tmp_path):
    expected = "FOLDER/no: no config.json; a model folder holds config.json and model.safetensors"
    with pytest.raises(FileError) as error:
        hf.load(tmp_path / "no")
    assert str(error.value).replace(str(tmp_path), "FOLDER") == expected


LEARNED = "model.decoder.layers.0.encoder_attn.regard.groups.0.learned.bias"
OTHER = "was it saved with another mode or configuration?"


def test_learned_parameters_without_their_mode_are_refused(folder):
    (folder / "mode.json").unlink()
    assert complaint(folder) == (
        f"FOLDER/model.safetensors: the file has {LEARNED}, which the model does not; {OTHER}"
    )


def test_a_mode_without_its_learned_parameters_is_refused(folder):
    reweigh(folder, lambda weights: weights.pop(LEARNED))
    assert complaint(folder) == f"FOLDER/model.safetensors: the file lacks {LEARNED}; {OTHER}"


def test_missing_weights_of_the_model_are_refused(folder):
    name = "model.encoder.layers.1.fc1.weight"
    reweigh(folder, lambda weights: weights.pop(name))
    assert complaint(folder) == f"FOLDER/model.safetensors: the file lacks {name}; {OTHER}"


def test_weights_of_another_shape_are_refused(folder):
    reweigh(folder, lambda weights: weights.update({LEARNED: torch.zeros(4, 9)}))
    assert complaint(folder) == (
        f"FOLDER/model.safetensors: {LEARNED} has shape (4, 9), the model's is (4, 17); {OTHER}"
    )


def test_the_mode_of_another_model_is_refused(folder):
    save_mode(CROSS, folder / "mode.json")
    name = "model.decoder.layers.0.self_attn.regard.groups.0.learned.slope"
    assert complaint(folder) == (
        f"FOLDER/model.safetensors: the file has {name}, which the model does not; {OTHER}"
    )


def test_weights_that_are_no_safetensors_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"weights")
    assert complaint(folder).startswith("FOLDER/model.safetensors: Error while deserializing")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda mode: mode.update(version=2),
            "version: written by a newer Regard (version 2, this one reads 1); upgrade",
        ),
        (
            lambda mode: mode["assignments"][2].update(role="decode"),
            "assignments[2]: 'decode' is no role of attention; did you mean 'decoder'?",
        ),
        (
            lambda mode: mode["assignments"][0].update(layers=[0, 2]),
            "hash: the mode was changed after this hash was made; its own is sha256:",
        ),
        (
            lambda mode: mode["programs"][p.alibi.hash]["nodes"].pop(),
            f"programs.{p.alibi.hash[:12]}: output: ",
        ),
    ],
)
def test_a_mode_that_lies_is_refused(folder, change, message):
    rewrite(folder / "mode.json", change)
    assert complaint(folder).startswith(f"FOLDER/mode.json: {message}")


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        (
            Mode("m", "", [Assignment("decoder", p.causal, layers=(0, 3))]),
            "mode 'm': layers 0:3 of role 'decoder'; there are 2",
        ),
        (
            Mode("m", "", [Assignment("decoder", p.causal, heads=(0, 5))]),
            "mode 'm': heads 0:5 of role 'decoder'; there are 4",
        ),
        (
            Mode("m", cross=p.important),
            "model.decoder.layers.0.encoder_attn: its program reads 'importance', which the model "
            "does not give",
        ),
    ],
)
def test_a_mode_that_does_not_fit_the_configuration_is_refused(folder, mode, message):
    save_mode(mode, folder / "mode.json")
    assert complaint(folder) == f"FOLDER/mode.json: {message}"


def test_a_mode_beside_an_architecture_with_attention_of_its_own_is_refused(folder):
    BloomModel(BloomConfig(vocab_size=9, hidden_size=8, n_layer=1, n_head=2)).save_pretrained(
        folder
    )
    assert complaint(folder).startswith(
        "FOLDER/mode.json: models of type 'bloom' run attention of their own and never ask"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architectures": ["pipeline"]},
            "architectures names ['pipeline'], which transformers does not have as a model",
        ),
        (
            {"architectures": ["Nonsense"]},
            "architectures names ['Nonsense'], which transformers does not have as a model",
        ),
        (
            {"architectures": []},
            "architectures names [], which transformers does not have as a model",
        ),
        (
            {"architectures": None},
            "architectures names None, which transformers does not have as a model",
        ),
        (
            {"architectures": ["BertModel"]},
            "architectures names ['BertModel'], model_type marian; they do not belong together",
        ),
        ({"model_type": "nonsense"}, "The checkpoint you are trying to load has model type"),
        ({"d_model": "wide"}, "Validation error for field 'd_model'"),
        ({"encoder_attention_heads": 5}, "embed_dim must be divisible by num_heads"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(folder, change, message):
    rewrite(folder / "config.json", lambda value: value.update(change))
    assert complaint(folder).startswith(f"FOLDER/config.json: {message}")


def test_files_that_are_no_json_are_refused(folder):
    text = (folder / "generation_config.json").read_text()
    (folder / "generation_config.json").write_text("{")
    assert complaint(folder).startswith("FOLDER/generation_config.json: ")
    (folder / "generation_config.json").write_text(text)
    (folder / "mode.json").write_text("{")
    assert complaint(folder).startswith("FOLDER/mode.json: line 1 column 2: ")
    (folder / "config.json").write_text("{")
    assert complaint(folder).startswith("FOLDER/config.json: ")


@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "experts_implementation"]
)
def test_a_configuration_cannot_name_code_to_run(folder, key, monkeypatch):
    expected = logits(hf.load(folder))

    def fetch(*_, **__):
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr("transformers.modeling_utils.lazy_import_flash_attention", fetch)
    rewrite(folder / "config.json", lambda value: value.update({key: "somebody/kernel"}))
    assert torch.equal(logits(hf.load(folder)), expected)


def test_a_pickle_in_the_folder_is_not_read(folder):
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    (folder / "model.safetensors").unlink()
    assert complaint(folder).startswith("FOLDER: no model.safetensors")
