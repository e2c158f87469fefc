"""A model and its mode out of a folder: the same bits, in any process, class and precision."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForSequenceClassification,
    BartModel,
    BertModel,
    MarianForCausalLM,
    MarianModel,
    MarianMTModel,
)

from regard import hf
from regard.errors import InputError
from regard.modes import Mode
from tests.hf.folders import NEXT, assert_same, complaint, logits, rewrite, trained
from tests.hf.models import CROSS, DECODER, EVERYWHERE, generate, marian, padded
from tests.nn import programs as p

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder that is only read."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(7)
    trained().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tmp_path):
    trained().save_pretrained(tmp_path)
    return tmp_path


def fingerprint(model):
    """A hash over every bit of the logits and of what is generated."""
    found = (
        logits(model).contiguous().numpy().tobytes() + generate(model, padded()).numpy().tobytes()
    )
    return hashlib.sha256(found).hexdigest()


def test_another_process_reads_the_same_model_bit_for_bit(tmp_path):
    model = trained()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    # The other process knows nothing of the mode but the folder.
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from regard import hf; from tests.hf.test_files import fingerprint\n"
        "print(fingerprint(hf.from_pretrained(sys.argv[1])))"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == fingerprint(model)


def test_a_loaded_model_is_of_its_own_class(shared):
    model = hf.from_pretrained(shared)
    assert type(model) is MarianMTModel
    assert model.config._attn_implementation == "regard"
    assert not hasattr(model.config, "regard_mode")


def test_a_loaded_model_evaluates_and_has_its_mode_and_its_generation_settings(tmp_path):
    model = trained().train()
    model.generation_config.num_beams = 3
    model.generation_config.max_new_tokens = 5
    model.save_pretrained(tmp_path)
    again = hf.from_pretrained(tmp_path)
    assert not any(module.training for module in again.modules())
    assert again.regard_mode == EVERYWHERE and again.regard_mode.intent == EVERYWHERE.intent
    assert again.generation_config.num_beams == 3 and again.generation_config.max_new_tokens == 5
    assert_same(model.eval(), again)


def test_a_loaded_model_can_be_restored_trained_and_saved_again(folder, tmp_path):
    model = hf.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    same = load_file(folder / "model.safetensors"), load_file(tmp_path / "again/model.safetensors")
    assert same[0].keys() == same[1].keys()
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])
    for name in ("config.json", "mode.json", "README.md", "generation_config.json"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    model.train()(**padded(), labels=NEXT).loss.backward()
    assert all(one.grad is not None for name, one in model.named_parameters() if "regard" in name)
    hf.restore(model)
    assert model.config._attn_implementation == marian().config._attn_implementation


def test_embeddings_are_tied_again(tmp_path):
    hf.apply(marian(tie_word_embeddings=True), CROSS).save_pretrained(tmp_path)
    again = hf.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.get_input_embeddings().weight
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")


def test_a_model_without_a_mode_is_loaded_as_it_was(tmp_path):
    model = marian()
    model.save_pretrained(tmp_path)
    again = hf.from_pretrained(tmp_path)
    assert not (tmp_path / "mode.json").exists() and not hasattr(again, "regard_mode")
    assert_same(again, model)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_precision_is_kept(tmp_path, dtype):
    model = trained().to(dtype)
    model.save_pretrained(tmp_path)
    again = hf.from_pretrained(tmp_path)
    assert {parameter.dtype for parameter in again.parameters()} == {dtype}
    assert_same(again, model)


def test_mixed_precision_is_kept(tmp_path):
    model = trained().to(torch.bfloat16)
    model.get_encoder().layers[0].self_attn.regard.float()
    model.save_pretrained(tmp_path)
    assert_same(hf.from_pretrained(tmp_path), model)


def test_precision_may_be_chosen(shared):
    model = hf.from_pretrained(shared, dtype=torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}
    expected = hf.from_pretrained(shared).state_dict()
    assert all(
        torch.equal(one, expected[name].double()) for name, one in model.state_dict().items()
    )
    half = hf.from_pretrained(shared, dtype="bfloat16")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_a_device_map_changes_no_bit(shared, device_map):
    model = hf.from_pretrained(shared, device_map=device_map)
    assert_same(model, hf.from_pretrained(shared))


def test_what_a_model_runs_without_its_mode_may_be_chosen(shared, tmp_path):
    model = hf.from_pretrained(shared, attn_implementation="eager")
    assert model.config._attn_implementation == "regard"
    assert hf.restore(model).config._attn_implementation == "eager"
    marian().save_pretrained(tmp_path)
    assert hf.from_pretrained(tmp_path).config._attn_implementation == "sdpa"
    plain = hf.from_pretrained(tmp_path, attn_implementation="eager")
    assert plain.config._attn_implementation == "eager"


@pytest.mark.parametrize("kind", [AutoModelForSeq2SeqLM, MarianMTModel])
def test_a_class_may_be_named(shared, kind):
    assert_same(hf.from_pretrained(shared, kind), hf.from_pretrained(shared))


@pytest.mark.parametrize("kind", [AutoModel, MarianModel])
def test_the_base_model_is_read_from_the_whole(shared, kind):
    model, whole = hf.from_pretrained(shared, kind), hf.from_pretrained(shared)
    assert type(model) is MarianModel and model.regard_mode == EVERYWHERE
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    with torch.no_grad():
        states = model(**padded(), decoder_input_ids=NEXT)[0]
    assert torch.equal(whole.lm_head(states) + whole.final_logits_bias, logits(whole))


def test_the_whole_is_read_from_a_base_model(tmp_path):
    model = hf.apply(marian(MarianModel), EVERYWHERE)
    model.save_pretrained(tmp_path)
    whole = hf.from_pretrained(tmp_path, MarianMTModel)
    for name, tensor in model.state_dict().items():
        assert torch.equal(whole.model.state_dict()[name], tensor)
    assert hf.from_pretrained(tmp_path).regard_mode == EVERYWHERE


def test_the_head_of_a_new_task_is_initialised(tmp_path):
    sizes = {"vocab_size": 9, "d_model": 8, "max_position_embeddings": 12, "encoder_layers": 1}
    sizes |= {"decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    base = BartModel(BartConfig(**sizes, encoder_ffn_dim=8, decoder_ffn_dim=8))
    base.save_pretrained(tmp_path)
    model = hf.from_pretrained(tmp_path, BartForSequenceClassification, num_labels=5)
    assert model.classification_head.out_proj.out_features == 5
    for name, tensor in base.state_dict().items():
        assert torch.equal(model.model.state_dict()[name], tensor)


def test_a_decoder_alone_comes_back(tmp_path):
    model = hf.apply(marian(MarianForCausalLM), Mode("m", decoder=p.relative))
    model.save_pretrained(tmp_path)
    ids = {"input_ids": NEXT, "attention_mask": torch.ones_like(NEXT)}
    assert torch.equal(generate(hf.from_pretrained(tmp_path), ids), generate(model, ids))


def test_a_class_of_ones_own_is_read(tmp_path):
    class Reader(MarianMTModel):
        pass

    model = hf.apply(marian(Reader), DECODER)
    model.save_pretrained(tmp_path)
    again = hf.from_pretrained(tmp_path, Reader)
    assert type(again) is Reader
    assert_same(again, model)
    assert complaint(tmp_path) == (
        "FOLDER/config.json: architectures names ['Reader'], which transformers does not have as a "
        "model; if it is a class of yours, give it as from_pretrained(folder, YourClass)"
    )


def test_a_variant_of_the_weights_is_read(tmp_path):
    model = trained()
    model.save_pretrained(tmp_path, variant="best")
    assert_same(hf.from_pretrained(tmp_path, variant="best"), model)
    model.save_pretrained(tmp_path / "parts", variant="best", max_shard_size="20KB")
    assert_same(hf.from_pretrained(tmp_path / "parts", variant="best"), model)


def test_the_base_model_of_a_mode_is_remembered(tmp_path):
    model = trained()
    model.config.name_or_path = "somebody/marian"
    model.save_pretrained(tmp_path / "one")
    again = hf.from_pretrained(tmp_path / "one")
    again.save_pretrained(tmp_path / "two")
    assert "Base model: `somebody/marian`" in (tmp_path / "two/README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "two/README.md").read_text()
    assert str(tmp_path) not in (tmp_path / "two/config.json").read_text()


def test_an_entry_of_the_configuration_may_be_changed(shared):
    assert hf.from_pretrained(shared, dropout=0.25).config.dropout == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust_remote_code": True}, "takes no trust_remote_code: no code from a folder is run"),
        ({"use_safetensors": False}, "takes no use_safetensors: weights are read from safetensors"),
        ({"subfolder": "a"}, "takes no subfolder: give the folder itself"),
        (
            {"dropuot": 0.1},
            "'dropuot' is no option of from_pretrained, no entry of MarianMTModel's",
        ),
        ({"max_memmory": {}}, "did you mean 'max_memory'?"),
        ({"kind": Mode}, "is no class of models; give one of transformers' classes"),
        ({"kind": "MarianModel"}, "'MarianModel' is no class of models"),
    ],
)
def test_options_that_cannot_be_are_refused(shared, options, message):
    with pytest.raises(InputError) as error:
        hf.from_pretrained(shared, **options)
    assert message in str(error.value)


def test_a_class_of_another_architecture_is_refused(shared):
    assert complaint(shared, BertModel) == (
        "FOLDER/config.json: model_type is 'marian', that of BertModel is 'bert'; "
        "they do not belong together"
    )
    assert complaint(shared, AutoModelForImageClassification) == (
        "FOLDER/config.json: AutoModelForImageClassification has no model for model_type 'marian'"
    )


def test_a_class_that_lacks_a_role_of_the_mode_is_refused(shared):
    assert complaint(shared, MarianForCausalLM).startswith(
        "FOLDER/mode.json: mode 'everywhere' has a program for role 'encoder', which this model"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"architectures": ["pipeline"]},
            "architectures names ['pipeline'], which transformers does not have as a model; ",
        ),
        ({"architectures": []}, "architectures names [], which transformers does not have"),
        ({"architectures": None}, "architectures names None, which transformers does not have"),
        ({"architectures": "Marian"}, "architectures names Marian, which transformers does not"),
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


def test_code_in_the_folder_is_not_run(folder, tmp_path):
    lines = f"open({str(tmp_path / 'ran')!r}, 'w')\n"
    (folder / "modeling.py").write_text(lines + "class Model: pass\n")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate/generate.py").write_text(lines + "def generate(model): pass\n")
    named = {"AutoConfig": "modeling.Model", "AutoModelForSeq2SeqLM": "modeling.Model"}
    expected = logits(hf.from_pretrained(folder))
    rewrite(folder / "config.json", lambda value: value.update(auto_map=named))
    assert torch.equal(logits(hf.from_pretrained(folder)), expected)
    assert torch.equal(logits(hf.from_pretrained(folder, AutoModelForSeq2SeqLM)), expected)
    rewrite(folder / "config.json", lambda value: value.update(model_type="mine"))
    assert "FOLDER/config.json: " in complaint(folder)
    assert not (tmp_path / "ran").exists()
