"""An adapter read back: bit for bit, in another process too, or an error that says why not."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

import regard as rg
from regard import hf
from regard.errors import FileError, InputError
from regard.hf import tuning
from tests.hf.tuning.models import MODE, bert, inputs, make, moved, output, programmed
from tests.nn import programs as p

ROOT = Path(__file__).parents[3]
CONFIGS = {
    "lora": lambda: peft.LoraConfig(target_modules=["query", "value"], r=2),
    "bottleneck": lambda: tuning.BottleneckConfig(width=3),
    "heads": lambda: tuning.HeadLoraConfig(heads={"encoder": [(0, 1), (1, 2)]}, r=2),
}
OTHER = rg.Mode("other", "", encoder=p.plain)


def fingerprint(model):
    """A hash over every bit of what a model gives."""
    return hashlib.sha256(output(model).contiguous().numpy().tobytes()).hexdigest()


@pytest.fixture
def folder(tmp_path):
    moved(tuning.adapt(programmed(), CONFIGS["lora"]())).save_pretrained(tmp_path)
    return tmp_path


def test_another_process_reads_the_same_model_bit_for_bit(tmp_path):
    expected = []
    for name, config in CONFIGS.items():
        model = moved(tuning.adapt(programmed(), config()))
        model.save_pretrained(tmp_path / name)
        expected.append(fingerprint(model))
    # The other process knows nothing of mode and method but the folders.
    script = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from regard.hf import tuning\n"
        "from tests.hf.tuning.models import bert\n"
        "from tests.hf.tuning.test_read import fingerprint\n"
        "for folder in sys.argv[1:]: print(fingerprint(tuning.load(bert(), folder)))\n"
    )
    folders = [str(tmp_path / name) for name in CONFIGS]
    done = subprocess.run(
        [sys.executable, "-c", script, *folders], cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.split() == expected, done.stderr


@pytest.mark.parametrize("name", CONFIGS)
def test_adapter_brings_its_mode_to_a_model_without_one(tmp_path, name):
    model = moved(tuning.adapt(programmed(), CONFIGS[name]()))
    model.save_pretrained(tmp_path)
    plain = bert()
    again = tuning.load(plain, tmp_path)
    assert plain.regard_mode.hash == MODE.hash
    assert torch.equal(output(again), output(model))


def test_adapter_is_read_into_a_model_that_runs_its_mode(folder):
    model = programmed()
    again = tuning.load(model, folder, "read")
    assert again.active_adapter == "read"
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert torch.equal(output(again), output(tuning.load(bert(), folder)))


def test_adapter_is_trained_further(folder):
    again = tuning.load(bert().train(), folder, trainable=True)
    names = {name for name, parameter in again.named_parameters() if parameter.requires_grad}
    assert names and all("lora_" in n or "regard.modules_to_save" in n for n in names)
    assert again.training
    again(**inputs())[0].square().mean().backward()


def test_what_was_read_is_saved_again_with_its_mode(folder, tmp_path):
    again = tuning.load(bert(), folder)
    again.save_pretrained(tmp_path / "again")
    assert torch.equal(output(tuning.load(bert(), tmp_path / "again")), output(again))


def test_adapter_of_a_model_without_a_mode_has_no_mode_file(folder):
    moved(tuning.adapt(bert(), CONFIGS["lora"]())).save_pretrained(folder)
    assert not (folder / "mode.json").exists()
    assert not hasattr(tuning.load(bert(), folder).get_base_model(), "regard_mode")


def test_base_in_half_precision_is_the_same_base(folder):
    tuning.load(bert().to(torch.bfloat16), folder)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_adapter_that_peft_alone_saved_is_read(tmp_path):
    model = moved(peft.get_peft_model(bert(), CONFIGS["lora"]()))
    model.save_pretrained(tmp_path)
    assert torch.equal(output(tuning.load(bert(), tmp_path)), output(model))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_peft_alone_reads_what_was_saved_here(folder):
    again = peft.PeftModel.from_pretrained(programmed(), folder)
    assert torch.equal(output(again), output(tuning.load(bert(), folder)))


def unchanged(model, state):
    assert not isinstance(model.get_submodule("encoder.layer.0"), peft.PeftModel)
    names = {name for name, _ in model.named_modules()}
    assert not any("lora" in name or "_to_save" in name for name in names)
    assert model.state_dict().keys() == state.keys()
    assert all(parameter.requires_grad for parameter in model.parameters())


def refused(folder, message, model=None, kind=FileError, **options):
    model = bert() if model is None else model
    state, mode = model.state_dict(), getattr(model, "regard_mode", None)
    with pytest.raises(kind, match=message):
        tuning.load(model, folder, **options)
    unchanged(model, state)
    assert getattr(model, "regard_mode", None) is mode


def test_other_weights_are_refused_unless_one_insists(folder):
    with torch.random.fork_rng():
        torch.manual_seed(99)
        other = type(bert())(bert().config).eval()
    refused(folder, "belongs to another model: .* starts with .* here, with .* there", other)
    tuning.load(other, folder, check_base=False)


def test_other_architecture_is_refused(folder):
    with pytest.raises(FileError, match="a model of type 'bert', this one is 'distilbert'"):
        tuning.load(make("distilbert"), folder)


def test_other_depth_is_refused(folder):
    model = bert()
    del model.encoder.layer[1]
    refused(folder, "a model with encoder.layer.1.*, which this one lacks", model)


def test_other_mode_is_refused(folder):
    message = "trained with mode 'distant' .*, the model runs 'other' .*restore"
    refused(folder, message, hf.apply(bert(), OTHER), InputError)


def test_mode_is_refused_by_an_adapter_without_one(tmp_path):
    tuning.adapt(bert(), CONFIGS["lora"]()).save_pretrained(tmp_path)
    message = "trained without a mode, the model runs 'distant'"
    refused(tmp_path, message, programmed(), InputError)


def test_adapter_with_a_mode_is_refused_beside_one_without(folder):
    model = tuning.adapt(bert(), CONFIGS["lora"]())
    with pytest.raises(InputError, match="has adapters that were trained without one"):
        tuning.load(model, folder, "second")
    assert not hasattr(model.get_base_model(), "regard_mode")


def test_taken_name_is_refused(folder):
    model = tuning.load(bert(), folder)
    with pytest.raises(InputError, match="'default' is taken"):
        tuning.load(model, folder)


def rewrite(folder, change):
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path)


PROGRAM = "base_model.model.encoder.layer.0.attention.self.regard.groups.0.learned.bias"
LORA = "base_model.model.encoder.layer.1.attention.self.query.lora_A.weight"


@pytest.mark.parametrize("key", [PROGRAM, LORA])
def test_missing_weight_is_refused_by_name(folder, key):
    rewrite(folder, lambda weights: weights.pop(key))
    refused(folder, f"lacks {key}")


def test_surplus_weight_is_refused_by_name(folder):
    rewrite(folder, lambda weights: weights.update({f"{LORA}.more": torch.ones(1)}))
    refused(folder, "lora_A.weight.more, which the model does not")


def test_weight_of_another_shape_is_refused_by_name(folder):
    rewrite(folder, lambda weights: weights.update({LORA: torch.ones(3, 16)}))
    refused(folder, r"query.lora_A.weight has shape \(3, 16\), the model's is \(2, 16\)")


def test_a_failed_second_adapter_leaves_the_first_at_work(folder):
    model = tuning.load(bert(), folder, "first")
    expected = output(model)
    rewrite(folder, lambda weights: weights.pop(LORA))
    with pytest.raises(FileError, match="lacks"):
        tuning.load(model, folder, "second")
    assert list(model.peft_config) == ["first"] and torch.equal(output(model), expected)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_file_is_told(folder, name):
    (folder / name).unlink()
    refused(folder, f"no {name}")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\udcff"])
def test_broken_configuration_is_refused(folder, text):
    (folder / "adapter_config.json").write_text(text, errors="surrogateescape")
    refused(folder, r"adapter_config\.json: no readable JSON")


def test_broken_weights_are_refused(folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refused(folder, r"adapter_model\.safetensors")


def change_config(folder, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("kind", ["TOMORROW", None, 3])
def test_unknown_method_is_refused(folder, kind):
    change_config(folder, peft_type=kind)
    refused(folder, f"peft_type names {kind!r}, which PEFT does not know")


def test_configuration_that_is_no_object_is_refused(folder):
    (folder / "adapter_config.json").write_text("[1]")
    refused(folder, "peft_type names None")


def test_impossible_configuration_is_refused(folder):
    change_config(folder, peft_type="REGARD_BOTTLENECK", width=0)
    for name in ("r", "target_modules"):
        change_config(folder, **{name: None})
    path = folder / "adapter_config.json"
    fields = {
        key: value
        for key, value in json.loads(path.read_text()).items()
        if key in ("peft_type", "width", "placement")
    }
    path.write_text(json.dumps(fields))
    refused(folder, "adapter_config.json: width=0")


def test_broken_record_of_the_base_is_refused(folder):
    change_config(folder, auto_mapping={"regard": {"model_type": "bert", "weights": 3}})
    refused(folder, "what it says of its model cannot be read")
