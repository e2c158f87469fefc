"""Folders that lie: what is wrong is named before anything is built."""

import json
import shutil

import pytest
from transformers import BertConfig

from regard import hf
from regard.modes import Assignment, Mode, save_mode
from tests.hf.folders import complaint, logits, put_mode, reweigh, rewrite, trained
from tests.hf.models import CROSS, EVERYWHERE, marian
from tests.nn import programs as p


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    trained().save_pretrained(folder / "one")
    trained().save_pretrained(folder / "parts", max_shard_size="20KB")
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved / "one", tmp_path / "model")


@pytest.fixture
def parts(saved, tmp_path):
    return shutil.copytree(saved / "parts", tmp_path / "model")


def test_a_folder_without_a_configuration_is_refused(folder):
    (folder / "config.json").unlink()
    assert complaint(folder) == (
        "FOLDER: no config.json; is this a folder that save_pretrained wrote?"
    )


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert complaint(folder) == (
        "FOLDER: no model.safetensors and no model.safetensors.index.json; the weights are missing"
    )
    assert complaint(folder, variant="best").startswith(
        "FOLDER: no model.best.safetensors and no model.safetensors.index.best.json; "
    )


@pytest.mark.parametrize("name", ["no", "somebody/model"])
def test_a_folder_that_is_none_is_refused(tmp_path, name):
    assert complaint(tmp_path / name) == (
        "FOLDER: no such folder; what lies on a hub is fetched by "
        "huggingface_hub.snapshot_download(name), which returns a folder"
    )


def test_an_adapter_is_refused(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "somebody/else"}')
    assert complaint(folder).startswith("FOLDER: adapter_config.json says that this is an adapter")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin"])
def test_a_pickle_is_not_read(folder, name):
    (folder / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    (folder / "model.safetensors").unlink()
    assert complaint(folder).startswith(
        f"FOLDER: {name} is a pickle, which can run code and is not"
    )


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
            lambda mode: mode.update(hash="sha256:" + "0" * 64),
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
    ("text", "message"),
    [
        ("{", "line 1 column 2: "),
        ("[" * 100, "line 1 column 33: nested deeper than 32 levels"),
        (" " * 2**23, "more than 4194304 bytes"),
        ('{"regard": "mode", "regard": "mode"}', "line 1: key "),
        ('{"regard": "program"}', "this is no mode"),
    ],
)
def test_a_mode_that_is_none_is_refused(folder, text, message):
    (folder / "mode.json").write_text(text)
    assert complaint(folder).startswith(f"FOLDER/mode.json: {message}")


def test_a_truncated_mode_is_refused(folder):
    text = (folder / "mode.json").read_text()
    for part in (0.1, 0.5, 0.99):
        (folder / "mode.json").write_text(text[: int(part * len(text))])
        assert complaint(folder).startswith("FOLDER/mode.json: line ")


def test_weights_without_their_mode_are_refused(folder):
    (folder / "mode.json").unlink()
    assert complaint(folder) == (
        f"FOLDER: no mode.json, and config.json says that the weights need the mode "
        f"sha256:{EVERYWHERE.hash}; fetch it from where the weights came from"
    )


def test_the_mode_of_another_model_is_refused(folder):
    save_mode(CROSS, folder / "mode.json")
    assert complaint(folder) == (
        f"FOLDER/mode.json: this is mode 'cross', sha256:{CROSS.hash}, and the weights belong to "
        f"sha256:{EVERYWHERE.hash}; put their own mode back, or save the model again"
    )


def test_a_mode_beside_weights_that_have_none_is_refused(tmp_path):
    # It has no parameters that could be missed.
    marian().save_pretrained(tmp_path)
    save_mode(Mode("m", decoder=p.causal), tmp_path / "mode.json")
    assert complaint(tmp_path) == (
        "FOLDER/mode.json: config.json does not say that the weights belong to a mode; they were "
        "saved by a model without one. Remove mode.json, or save the re-programmed model again"
    )


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
    put_mode(folder, mode)
    assert complaint(folder) == f"FOLDER/mode.json: {message}"


def test_a_mode_beside_another_architecture_is_refused(folder):
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    mark = json.loads((folder / "config.json").read_text())["regard_mode"]
    config.update({"regard_mode": mark, "architectures": ["BertModel"], "intermediate_size": 8})
    config.save_pretrained(folder)
    assert complaint(folder).startswith("FOLDER/mode.json: ")


@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting property name"),
        ("[]", "a JSON object belongs here, not list"),
        ("[" * 200_000, "lists and objects are nested too deeply"),
        (b"\xff\xff", "'utf-"),
        (" " * (2**24 + 1), "more than "),
    ],
)
def test_settings_that_are_no_json_are_refused(folder, name, text, message):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert complaint(folder).startswith(f"FOLDER/{name}: {message}")


@pytest.mark.parametrize(
    "key", ["attn_implementation", "_attn_implementation", "experts_implementation"]
)
@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_configuration_cannot_name_code_to_run(folder, key, depth):
    named = {key: "somebody/kernel" if depth < 2 else {"": "sdpa", "text": "somebody/kernel"}}
    change = {"text_config": [named]} if depth == 1 else named
    rewrite(folder / "config.json", lambda value: value.update(change))
    assert complaint(folder) == (
        f"FOLDER/config.json: {key} names 'somebody/kernel', which may be code of a hub and is not "
        "run; remove that line, and say what to run as from_pretrained(folder, "
        "attn_implementation=…)"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quantization_config", {"quant_method": "mxfp4"}),
        ("fusion_config", {"a": 1}),
        ("transformers_weights", "../other.safetensors"),
    ],
)
def test_a_configuration_that_asks_for_more_than_weights_is_refused(folder, key, value):
    rewrite(folder / "config.json", lambda config: config.update({key: value}))
    assert complaint(folder).startswith(f"FOLDER/config.json: {key} is not supported; it makes")


def test_a_configuration_without_an_end_is_refused(folder):
    rewrite(folder / "config.json", lambda config: config.update(encoder_layers=10**12))
    assert complaint(folder) == (
        "FOLDER/config.json: encoder_layers is 1000000000000; no model has that many layers"
    )


def test_a_configuration_larger_than_its_weights_is_refused_at_once(folder):
    rewrite(folder / "config.json", lambda config: config.update(vocab_size=2**40))
    assert "has shape (60, 32), the model's is (1099511627776, 32)" in complaint(folder)
    # Nothing in the files says how many positions there are.
    rewrite(
        folder / "config.json",
        lambda config: config.update(vocab_size=60, max_position_embeddings=2**40),
    )
    assert complaint(folder).startswith(
        "FOLDER: model.encoder.embed_positions.weight would have the shape (1099511627776, 32), "
    )


def test_attention_that_a_configuration_may_name_is_run(tmp_path):
    marian().save_pretrained(tmp_path)
    rewrite(tmp_path / "config.json", lambda config: config.update(attn_implementation="eager"))
    assert hf.from_pretrained(tmp_path).config._attn_implementation == "eager"


@pytest.mark.parametrize("part", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(folder, part):
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: int(part * len(data))])
    assert complaint(folder).startswith("FOLDER/model.safetensors: Error while deserializing")


def test_weights_that_are_no_safetensors_are_refused(folder):
    (folder / "model.safetensors").write_bytes(b"weights" * 100)
    assert complaint(folder).startswith("FOLDER/model.safetensors: Error while deserializing")


def test_a_missing_shard_is_named(parts):
    shard = sorted(parts.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert complaint(parts) == (
        f"FOLDER/model.safetensors.index.json: {shard.name} is missing; fetch it, or save the "
        "model again"
    )


def test_a_truncated_shard_is_named(parts):
    shard = sorted(parts.glob("model-*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    assert complaint(parts).startswith(f"FOLDER/{shard.name}: Error while deserializing")


def test_a_shard_without_what_the_index_says_is_named(parts):
    shard = sorted(parts.glob("model-*.safetensors"))[1]
    gone = []
    reweigh(shard, lambda weights: gone.append(min(weights)) or weights.pop(min(weights)))
    assert complaint(parts) == (
        f"FOLDER/{shard.name}: the file lacks {gone[0]}, which model.safetensors.index.json says "
        "it has"
    )


def test_a_tensor_in_two_shards_is_named(parts):
    first, second = sorted(parts.glob("model-*.safetensors"))[:2]
    held = {}
    reweigh(first, held.update)
    name = min(held)
    reweigh(second, lambda weights: weights.update({name: held[name]}))
    assert f"{name} also lies in " in complaint(parts)


@pytest.mark.parametrize(
    "file", ["../model.safetensors", "/model.safetensors", "a\\b.safetensors", "..", 3, None]
)
def test_a_shard_outside_the_folder_is_refused(parts, file):
    def change(index):
        index["weight_map"][min(index["weight_map"])] = file

    rewrite(parts / "model.safetensors.index.json", change)
    assert "model.safetensors.index.json: " in complaint(parts)
    assert f"lies in {file!r}, which is no " in complaint(parts)


def test_a_pickled_shard_is_refused(parts):
    def change(index):
        index["weight_map"][min(index["weight_map"])] = "model-00001-of-00009.bin"

    rewrite(parts / "model.safetensors.index.json", change)
    assert "'model-00001-of-00009.bin', which is no safetensors file" in complaint(parts)


@pytest.mark.parametrize("text", ["{", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_an_index_that_is_none_is_refused(parts, text):
    (parts / "model.safetensors.index.json").write_text(text)
    assert complaint(parts).startswith("FOLDER/model.safetensors.index.json: ")


def test_weights_that_are_there_twice_are_refused(parts, saved):
    # transformers reads the one file, also where the parts are what was saved last.
    shutil.copy(saved / "one/model.safetensors", parts)
    assert complaint(parts) == (
        "FOLDER: both model.safetensors and model.safetensors.index.json hold weights; remove "
        "those that were saved earlier"
    )


def test_an_index_whose_shards_are_gone_says_nothing(saved, tmp_path):
    model = trained()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").exists()
    assert (logits(hf.from_pretrained(tmp_path)) == logits(model)).all()
