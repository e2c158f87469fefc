"""`save_pretrained` writes the mode, whoever calls it, on whatever became of the model."""

import copy
import json
import pickle

import pytest
import torch
from accelerate import Accelerator
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import AutoModelForSeq2SeqLM, Trainer, TrainingArguments

from regard import hf
from regard.errors import FileError, InputError
from regard.hf import saving
from regard.modes import Mode, load_mode
from tests.hf.folders import NEXT, assert_same, logits, trained
from tests.hf.models import DECODER, ENCODER, EVERYWHERE, marian, padded
from tests.nn import programs as p


def test_a_folder_holds_what_transformers_writes_the_mode_and_a_card(tmp_path):
    trained().save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "mode.json",
        "model.safetensors",
    ]
    assert load_mode(tmp_path / "mode.json") == EVERYWHERE


def test_a_model_without_a_mode_is_saved_as_ever(tmp_path):
    marian().save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors"}
    assert "regard" not in (tmp_path / "config.json").read_text()


def test_transformers_refuses_to_load_a_model_without_its_mode(tmp_path):
    hf.apply(marian(), Mode("m", decoder=p.causal)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r'attn_implementation="regard\.hf\.from_pretrained"` is'):
        AutoModelForSeq2SeqLM.from_pretrained(tmp_path)


def test_saving_changes_nothing_in_the_model(tmp_path):
    model = trained()
    expected, attention = logits(model), model.config._attn_implementation
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(model), expected)
    assert model.config._attn_implementation == attention
    assert not hasattr(model.config, "regard_mode")


@pytest.mark.parametrize("size", ["1KB", "20KB", 10**9])
def test_a_mode_is_saved_beside_shards(tmp_path, size):
    model = trained()
    model.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / "model.safetensors").exists() == (size == 10**9)
    assert_same(hf.from_pretrained(tmp_path), model)


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")
@pytest.mark.parametrize(
    "change",
    [
        copy.deepcopy,
        copy.copy,
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: Accelerator(cpu=True).prepare(model),
        lambda model: Accelerator().unwrap_model(torch.nn.DataParallel(model)),
        torch.compile,
    ],
    ids=["deepcopy", "copy", "pickle", "prepare", "unwrap", "compile"],
)
def test_whatever_became_of_a_model_its_mode_is_saved(tmp_path, change):
    model = trained()
    expected = logits(model)
    changed = change(model)
    del model
    changed.save_pretrained(tmp_path)
    assert torch.equal(logits(hf.from_pretrained(tmp_path)), expected)


def test_a_copy_that_is_restored_does_not_save_the_mode_of_the_first(tmp_path):
    model = trained()
    hf.restore(copy.deepcopy(model)).save_pretrained(tmp_path / "plain")
    model.save_pretrained(tmp_path / "mode")
    assert not (tmp_path / "plain/mode.json").exists()
    assert (tmp_path / "mode/mode.json").exists()


def test_a_given_state_is_what_is_saved(tmp_path):
    model = trained()
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path, state_dict=dict(state))
    again = hf.from_pretrained(tmp_path).state_dict()
    learned = [name for name in again if "regard" in name]
    assert learned and all(torch.equal(again[name], state[name]) for name in learned)


def test_other_processes_write_no_mode(tmp_path):
    trained().save_pretrained(tmp_path, is_main_process=False)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_of_a_trainer_hold_the_mode(tmp_path):
    model = trained()
    rows = [{"input_ids": padded()["input_ids"][0], "labels": NEXT[0]}] * 4
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, save_steps=1, per_device_train_batch_size=2,
        report_to=[], use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(model, arguments, train_dataset=rows)
    trainer.train()
    trainer.save_model(str(tmp_path / "last"))
    first, last = (hf.from_pretrained(tmp_path / f"checkpoint-{step}") for step in (1, 2))
    assert_same(last, model.eval())
    assert_same(hf.from_pretrained(tmp_path / "last"), model)
    names = [name for name, _ in model.named_parameters() if "regard" in name]
    assert any(not torch.equal(first.state_dict()[n], last.state_dict()[n]) for n in names)
    # A run goes on from a checkpoint, learned parameters and all.
    again = Trainer(trained(), arguments, train_dataset=rows)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert_same(again.model.eval(), last)


def test_saving_over_another_mode_replaces_it(tmp_path):
    trained().save_pretrained(tmp_path)
    model = hf.apply(marian(), ENCODER)
    model.save_pretrained(tmp_path)
    assert_same(hf.from_pretrained(tmp_path), model)
    assert (tmp_path / "README.md").read_text().count("## Attention") == 1


@pytest.mark.parametrize("plain", [marian, lambda: hf.restore(trained())])
def test_saving_over_a_mode_leaves_none_behind(tmp_path, plain):
    trained().save_pretrained(tmp_path)
    plain().save_pretrained(tmp_path)
    assert not (tmp_path / "mode.json").exists()
    assert "Attention" not in (tmp_path / "README.md").read_text()
    assert "regard" not in (tmp_path / "config.json").read_text()
    assert torch.equal(logits(hf.from_pretrained(tmp_path)), logits(plain()))


@pytest.mark.parametrize("text", ['{"regard": "program"}', "[1]", "{", '{"mode": "dark"}'])
def test_a_file_of_that_name_that_is_no_mode_stays(tmp_path, text):
    (tmp_path / "mode.json").write_text(text)
    marian().save_pretrained(tmp_path)
    assert (tmp_path / "mode.json").read_text() == text


def test_files_of_others_stay(tmp_path):
    names = ["tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "notes.txt"]
    for name in names:
        (tmp_path / name).write_text("theirs")
    trained().save_pretrained(tmp_path)
    assert all((tmp_path / name).read_text() == "theirs" for name in names)


def test_a_mode_that_cannot_be_written_is_heard_of_before_the_weights(tmp_path):
    model = hf.apply(marian(), Mode("two\nlines", decoder=p.causal))
    with pytest.raises(FileError, match=r"mode\.json: name: "):
        model.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="a model is saved in a folder"):
        trained().save_pretrained(tmp_path / "file")


def test_a_part_of_a_programmed_model_is_not_saved_alone(tmp_path):
    model = trained()
    with pytest.raises(InputError) as error:
        model.model.save_pretrained(tmp_path)
    assert str(error.value) == (
        "this MarianModel is a part of a re-programmed model, whose mode would be lost; save the "
        "whole model: rg.hf.from_pretrained(folder, MarianModel) reads the part from it"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_model_with_a_programmed_part_is_not_saved(tmp_path):
    model = marian()
    hf.apply(model.get_decoder(), DECODER)
    with pytest.raises(InputError) as error:
        model.save_pretrained(tmp_path)
    assert str(error.value) == (
        "mode 'decoder' was applied to 'model.decoder', a part of this model, and would be lost; "
        "apply it to the whole MarianMTModel, or save the part alone"
    )
    model.get_decoder().save_pretrained(tmp_path)
    assert (tmp_path / "mode.json").exists()


def test_extending_a_second_time_changes_nothing(tmp_path):
    before = type(marian()).save_pretrained
    saving.register()
    assert type(marian()).save_pretrained is before


class Hub:
    """What transformers asks of a hub, keeping what is sent."""

    def __init__(self):
        self.files = {}

    def create_repo(self, repo_id, **_):
        return type("Repository", (), {"repo_id": repo_id})

    def create_commit(self, operations, **_):
        for one in operations:
            with open(one.path_or_fileobj, "rb") as file:
                self.files[one.path_in_repo] = file.read()


@pytest.fixture
def hub(monkeypatch):
    made = Hub()

    def card(*_, **__):
        if "README.md" not in made.files:
            raise LocalEntryNotFoundError("no card")
        return ModelCard(made.files["README.md"].decode())

    for module in ("transformers.utils.hub", "transformers.modeling_utils"):
        monkeypatch.setattr(f"{module}.hf_api", lambda: made)
    monkeypatch.setattr("transformers.utils.hub.ModelCard.load", card)
    return made


def pushed(model, way, folder):
    if way == "push":
        model.push_to_hub("somebody/reader", tags=["tested"])
    else:
        model.save_pretrained(folder, push_to_hub=True, repo_id="somebody/reader")


@pytest.mark.parametrize("way", ["push", "save"])
def test_what_goes_to_a_hub_comes_back_with_its_mode(hub, way, tmp_path):
    model = trained()
    pushed(model, way, tmp_path / "sent")
    (tmp_path / "back").mkdir()
    for name, data in hub.files.items():
        (tmp_path / "back" / name).write_bytes(data)
    assert_same(hf.from_pretrained(tmp_path / "back"), model)
    card = hub.files["README.md"].decode()
    assert card.count("## Attention: everywhere") == 1
    assert 'rg.hf.from_pretrained(snapshot_download("somebody/reader"))' in card
    assert ModelCard(card).data.library_name == "transformers"
    assert json.loads(hub.files["config.json"])["attn_implementation"] == saving.GUARD


@pytest.mark.parametrize("way", ["push", "save"])
def test_a_card_that_people_wrote_on_a_hub_stays(hub, way, tmp_path):
    hub.files["README.md"] = b"---\nlicense: mit\n---\n# Ours\n\nWhat we wrote.\n"
    for model in (trained(), hf.apply(marian(), ENCODER)):
        pushed(model, way, tmp_path)
    card = hub.files["README.md"].decode()
    assert "# Ours\n\nWhat we wrote.\n" in card and "license: mit" in card
    assert card.count("## Attention") == 1 and "## Attention: encoder" in card


def test_a_model_without_a_mode_goes_to_a_hub_as_ever(hub, tmp_path):
    pushed(marian(), "push", tmp_path)
    assert set(hub.files) == {
        "README.md", "config.json", "generation_config.json", "model.safetensors",
    }  # fmt: skip
    assert b"Attention" not in hub.files["README.md"]
