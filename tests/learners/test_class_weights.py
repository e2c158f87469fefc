"""What errors in each label count."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from regard.errors import TaskError
from regard.learners.batches import IGNORED
from regard.learners.class_weights import class_weights
from regard.train import train
from tests.learners.test_labels import TRAINING, classify
from tests.learners.test_loss import smoothed_loss
from tests.train.tiny import make_task

LABELS = ("a", "b", "c", "d")
EXAMPLES = [
    {"labels": 0},
    {"labels": 0},
    {"labels": 0},
    {"labels": 1},
    {"labels": 1},
    {"labels": 2},
]


def test_balanced_weights_make_up_for_how_often_labels_occur():
    found = class_weights("balanced", LABELS, EXAMPLES)
    torch.testing.assert_close(found, torch.tensor([6 / 9, 6 / 6, 6 / 3, 0.0]))
    counts = torch.tensor([3, 2, 1, 0])
    torch.testing.assert_close((found * counts).sum() / counts.sum(), torch.tensor(1.0))


def test_tags_are_counted_where_they_are_learned():
    examples = [{"labels": [0, IGNORED, 1]}, {"labels": [0, 0, IGNORED]}]
    torch.testing.assert_close(
        class_weights("balanced", ("O", "B"), examples), torch.tensor([4 / 6, 4 / 2])
    )


def test_labels_that_are_not_listed_count_one():
    found = class_weights({"b": 0.25}, LABELS, EXAMPLES)
    assert found.tolist() == [1.0, 0.25, 1.0, 1.0]
    assert class_weights(None, LABELS, EXAMPLES) is None


def test_loss_is_weighed(tmp_path):
    loss = smoothed_loss(tmp_path, 0.0)
    loss.__self__.class_weights = torch.tensor([1.0, 3.0, 0.0])
    logits, labels = torch.randn(4, 3), torch.tensor([1, 0, 2, IGNORED])
    each = F.cross_entropy(logits[:3], labels[:3], reduction="none")
    found = loss(SimpleNamespace(logits=logits), labels)
    torch.testing.assert_close(found, (3 * each[0] + each[1]) / 3)


def test_a_run_weighs_its_labels(tmp_path):
    weights = {"red": 0.0, "green": 0.0}
    settings = {**TRAINING, "steps": 20, "class_weights": weights}
    result = train(classify(tmp_path, training=settings), tmp_path / "run", progress=False)
    lines = (result.folder / "records.jsonl").read_text()
    # Only errors in blue count, so all is blue.
    assert lines.count('"prediction": "blue"') == 9


def test_labels_that_do_not_occur_are_refused_before_a_folder_is_made(tmp_path):
    settings = {**TRAINING, "class_weights": {"gren": 2.0}}
    with pytest.raises(TaskError, match="'gren' is no label of the data; did you mean 'green'"):
        train(classify(tmp_path, training=settings), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_tasks_without_labels_have_no_weights_of_them(tmp_path):
    task = make_task(tmp_path, training={"class_weights": "balanced"})
    with pytest.raises(TaskError, match="a task of this kind has no labels; delete it"):
        train(task, tmp_path / "run", progress=False)
