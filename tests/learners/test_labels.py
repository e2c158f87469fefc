"""Classification and tagging: toys that are learned in a second, and what is written down."""

import json

import pytest
import torch
import yaml

from regard.learners.text_model import pool
from regard.tasks import load_task
from regard.train import evaluate_run, load_learner, train
from regard.train.report import write_run_report
from tests.train.tiny import PROGRAMS

COLOURS = ("red", "green", "blue")
THINGS = ("apple", "sky", "leaf", "sea", "car", "house", "rose", "book")
MODEL = {"width": 32, "layers": 1, "heads": 2, "ffn": 32, "dropout": 0.0, "positions": 24}
TRAINING = {
    "steps": 60, "batch_tokens": 200, "lr": 0.01, "warmup": 5, "label_smoothing": 0.0,
    "save_every": 60, "eval_every": 30, "threads": 1,
}  # fmt: skip


def sentences():
    """Each thing in each colour, in two orders of words: (words, colour)."""
    for thing in THINGS:
        for colour in COLOURS:
            yield ("the", thing, "is", colour), colour
            yield ("a", colour, thing), colour


def make(folder, kind, rows, **parts):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    split = {"test": 9, "valid": 6}
    task = {
        "task": kind, "data": {"path": "rows.jsonl", "split": split}, "tokenizer": {"size": 80},
        "model": MODEL, "training": TRAINING, **parts,
    }  # fmt: skip
    (folder / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return load_task(folder / "task.yaml")


def classify(folder, **parts):
    rows = [{"text": " ".join(words), "label": colour} for words, colour in sentences()]
    return make(folder, "classification", rows, **parts)


def tag(folder, **parts):
    rows = [
        {"tokens": words, "tags": ["B-colour" if word in COLOURS else "O" for word in words]}
        for words, _ in sentences()
    ]
    return make(folder, "tagging", rows, **parts)


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classified")
    return train(classify(folder), folder / "run", progress=False)


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagged")
    return train(tag(folder), folder / "run", progress=False)


def test_labels_are_learned_and_the_baseline_is_not_enough(classified):
    test = classified.metrics["test"]
    assert test["scores"]["accuracy"] == 1.0 > test["baseline"]["accuracy"]
    assert test["baseline_name"] == "the most frequent label"


def test_tags_are_learned_token_by_token(tagged):
    test = tagged.metrics["test"]
    assert test["scores"]["span F1"] > 0.99
    assert len(tagged.metrics["scores"]) == 3


@pytest.mark.parametrize("run", ["classified", "tagged"])
def test_a_run_is_scored_again_from_its_folder(run, request):
    result = request.getfixturevalue(run)
    assert evaluate_run(result.folder).metrics() == result.metrics["test"]


def test_labels_come_back_with_the_model(classified, tagged):
    learner, model = load_learner(classified.folder)
    assert learner.labels == tuple(sorted(COLOURS))
    assert model.head.out_features == 3
    learner, _ = load_learner(tagged.folder)
    assert learner.labels == ("B-colour", "O")


def test_report_needs_no_translations(tagged, tmp_path):
    write_run_report({"tags": tagged.folder}, tmp_path / "report.html", "Tags")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "most frequent tag" in page and "O B-colour O" in page


def test_an_encoder_is_programmed_and_comes_back(tmp_path):
    (tmp_path / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    task = classify(tmp_path, mode={"encoder": "mine.py:relative"})
    result = train(task, tmp_path / "run", progress=False)
    assert result.metrics["test"]["scores"]["accuracy"] == 1.0
    _, model = load_learner(result.folder)
    learned = [value for name, value in model.named_parameters() if ".regard." in name]
    assert len(learned) == 1 and learned[0].abs().max() > 0
    assert evaluate_run(result.folder).metrics() == result.metrics["test"]


def test_pooling_leaves_padding_out():
    rows = torch.tensor([[[1.0], [5.0], [99.0]], [[4.0], [-2.0], [7.0]]])
    there = torch.tensor([[1, 1, 0], [1, 1, 1]])
    wanted = {"mean": [3.0, 3.0], "first": [1.0, 4.0], "last": [5.0, 7.0], "max": [5.0, 7.0]}
    for how, values in wanted.items():
        torch.testing.assert_close(pool(rows, there, how)[:, 0], torch.tensor(values))
    left = torch.tensor([[0, 1, 1], [1, 1, 1]])
    assert pool(rows, left, "first")[0].item() == 5.0
