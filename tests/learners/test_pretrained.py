"""Pretrained encoders: of any architecture, of a run with its mode, and of wrong folders."""

import json

import pytest
import torch
from transformers import AutoModel, ViTConfig, ViTModel

from regard.errors import FileError
from regard.hf.apply import part_of_mode
from regard.learners import learner_class
from regard.learners.pretrained import fit, read_encoder
from regard.learners.text_model import pool
from regard.learners.tokenizer import read_tokenizer, train_tokenizer
from regard.modes import load_mode
from regard.train import load_model, save_model, train
from regard.train.model import build_model
from tests.learners.pretrained import MAKERS, TOKENIZER, pretrained
from tests.learners.test_labels import COLOURS, TRAINING, classify, tag
from tests.train.tiny import PROGRAMS, make_task

SHORT = {**TRAINING, "steps": 6, "save_every": 6, "eval_every": 0, "warmup": 1}
CAUSAL = ("gpt2", "llama")


def built(task, tokenizer=TOKENIZER, mode=None):
    return build_model(learner_class(task)(task, tokenizer, COLOURS), mode)


def batch():
    ids = TOKENIZER(["the apple is red", "a blue sky"], padding=True, return_tensors="pt")
    return ids["input_ids"], ids["attention_mask"]


@pytest.mark.parametrize("kind", MAKERS)
def test_encoder_of_an_architecture_reads_as_it_did(kind, tmp_path):
    folder = pretrained(kind, tmp_path / "base")
    task = classify(tmp_path, model={"pretrained": str(folder), "dropout": 0.0})
    model, (ids, there) = built(task).eval(), batch()
    whole = AutoModel.from_pretrained(folder).eval()
    alone = whole.get_encoder() if whole.config.is_encoder_decoder else whole
    with torch.no_grad():
        rows = alone(input_ids=ids, attention_mask=there).last_hidden_state
        found = model(ids, there).logits
        wanted = model.head(pool(rows, there, "last" if kind in CAUSAL else "mean"))
    assert torch.equal(found, wanted)
    save_model(model, TOKENIZER, tmp_path / "again")
    again, _ = load_model(tmp_path / "again", type(model))
    with torch.no_grad():
        assert torch.equal(again(ids, there).logits, found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "gpt2", "marian"])
def test_pretrained_model_learns_both_tasks(kind, tmp_path):
    shape = {"pretrained": str(pretrained(kind, tmp_path / "base"))}
    for make in (classify, tag):
        folder = tmp_path / make.__name__
        folder.mkdir()
        task = make(folder, model=shape, training=SHORT)
        assert train(task, folder / "run", progress=False).finished


@pytest.mark.parametrize("how", ["mean", "first", "last", "max"])
def test_pooling_is_as_the_task_says(how, tmp_path):
    folder = pretrained("gpt2", tmp_path / "base")
    task = classify(tmp_path, model={"pretrained": str(folder), "pooling": how})
    assert built(task).config.pooling == how


@pytest.mark.parametrize(
    ("kind", "asked", "given"),
    [("bert", 256, 40), ("bert", 24, 24), ("roberta", 256, 39), ("gpt2", 99, 40), ("t5", 600, 600)],
)
def test_texts_are_no_longer_than_the_model_reads(kind, asked, given, tmp_path):
    folder = pretrained(kind, tmp_path / "base")
    task = fit(classify(tmp_path, model={"pretrained": str(folder), "positions": asked}))
    assert task.model.positions == given
    model = built(task).eval()
    model(torch.full((1, min(given, 100)), 5), torch.ones(1, min(given, 100), dtype=torch.long))


@pytest.fixture(scope="module")
def programmed(tmp_path_factory):
    """A finished run whose encoder has learned biases."""
    folder = tmp_path_factory.mktemp("programmed")
    (folder / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    task = classify(folder, mode={"encoder": "mine.py:relative"})
    return train(task, folder / "run", progress=False).folder


def test_encoder_of_a_run_is_taken_with_its_mode_and_what_that_learned(programmed, tmp_path):
    model = built(tag(tmp_path, model={"pretrained": str(programmed / "model")}))
    source = load_model(programmed / "model", type(model))[0].encoder.state_dict()
    taken = model.encoder.state_dict()
    assert source.keys() == taken.keys() and any(".regard." in name for name in taken)
    assert all(torch.equal(source[name], taken[name]) for name in source)
    assert model.regard_mode.hash == load_mode(programmed / "model" / "mode.json").hash


def test_run_from_a_run_keeps_the_mode_and_goes_on_from_its_own_task_file(programmed, tmp_path):
    task = tag(tmp_path, model={"pretrained": str(programmed / "model")}, training=SHORT)
    result = train(task, tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "model" / "mode.json").is_file()
    assert result.metrics["mode"]["name"] == "task"
    mode = load_mode(tmp_path / "run" / "model" / "mode.json")
    again = built(task, mode=mode).encoder.state_dict()
    # The same mode, named by the task, does not make its parameters new.
    source = built(task).encoder.state_dict()
    assert all(torch.equal(source[name], again[name]) for name in source)


def test_mode_of_the_task_replaces_that_of_the_folder(programmed, tmp_path):
    task = classify(
        tmp_path, mode={"encoder": "alibi"}, training=SHORT,
        model={"pretrained": str(programmed / "model")},
    )  # fmt: skip
    result = train(task, tmp_path / "run", progress=False)
    mode = load_mode(tmp_path / "run" / "model" / "mode.json")
    assert [one.program.name for one in mode.assignments] == ["alibi"]
    assert result.metrics["mode"]["hash"] == mode.hash


def test_of_a_translator_the_encoder_is_taken_with_its_part_of_the_mode(tmp_path):
    (tmp_path / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    mode = {"encoder": "mine.py:relative", "cross": "mine.py:relative"}
    training = {"steps": 2, "save_every": 2, "eval_every": 0}
    first = train(
        make_task(tmp_path, mode=mode, training=training), tmp_path / "first", progress=False
    )
    words = read_tokenizer(first.folder / "model")
    task = classify(tmp_path, model={"pretrained": str(first.folder / "model")})
    model = built(task, words)
    assert [one.role for one in model.regard_mode.assignments] == ["encoder"]
    learned = [value for name, value in model.named_parameters() if ".regard." in name]
    assert len(learned) == 1 and learned[0].abs().max() > 0
    assert part_of_mode(load_mode(first.folder / "model" / "mode.json"), model) == model.regard_mode


def test_weights_are_trained_in_float32(tmp_path):
    torch.manual_seed(0)
    save_model(MAKERS["bert"]().bfloat16(), TOKENIZER, tmp_path / "base")
    found = read_encoder(str(tmp_path / "base"))
    assert {weight.dtype for weight in found.weights.values() if weight.is_floating_point()} == {
        torch.float32
    }


def lose(name):
    return lambda folder: (folder / name).unlink()


def shrink(folder):
    train_tokenizer(["a", "b"], 5).save_pretrained(folder)


def widen(folder):
    more = TOKENIZER.__class__.from_pretrained(folder)
    more.add_tokens(["apples", "skies"])
    more.save_pretrained(folder)


def see(folder):
    shape = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=8, patch_size=4,
    )  # fmt: skip
    ViTModel(shape).save_pretrained(folder)


def rename(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "nobody"}))


WRONG = [
    (lose("config.json"), r"^model\.pretrained: .*base: no config\.json; is this a folder that sa"),
    (lose("tokenizer.json"), r"base: no tokenizer\.json; is this the folder of a model"),
    (lose("model.safetensors"), r"^model\.pretrained: .*base: no model\.safetensors and no"),
    (
        widen,
        r"^model\.pretrained: .*base: the tokenizer has 68 tokens and the model vectors",
    ),
    (see, r"^model\.pretrained: .*base: this model reads pixel_values, and texts are needed"),
    (rename, r"^model\.pretrained: .*config\.json: .*nobody"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG)
def test_wrong_folder_is_refused_before_a_run_begins(spoil, message, tmp_path):
    folder = pretrained("bert", tmp_path / "base")
    spoil(folder)
    task = classify(tmp_path, model={"pretrained": str(folder)})
    with pytest.raises(FileError, match=message):
        train(task, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_folder_that_is_not_there_is_refused(tmp_path):
    task = classify(tmp_path, model={"pretrained": "nowhere"})
    with pytest.raises(FileError, match=r"^model\.pretrained: .*nowhere: no such folder; what"):
        train(task, tmp_path / "run", progress=False)


def test_folder_of_a_run_is_answered_with_that_of_its_model(programmed, tmp_path):
    task = classify(tmp_path, model={"pretrained": str(programmed)})
    with pytest.raises(FileError, match=r"the folder of a run; its model is .*run/model$"):
        train(task, tmp_path / "again", progress=False)


def test_smaller_tokenizer_is_no_mistake(tmp_path):
    folder = pretrained("bert", tmp_path / "base")
    shrink(folder)
    built(classify(tmp_path, model={"pretrained": str(folder)}), read_tokenizer(folder))
