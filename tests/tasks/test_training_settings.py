"""What a task may say of its training, and the answer to what it may not."""

import pytest

from regard.errors import TaskError
from regard.tasks import load_task, save_task
from tests.train.tiny import make_task, write_task


def settings(folder, **training):
    path = write_task(folder, training=training)
    text = path.read_text().replace("  steps: null\n", "")
    path.write_text(text)
    return load_task(path).training


@pytest.mark.parametrize(
    ("training", "why"),
    [
        ({"epochs": 3, "steps": 9}, "steps and epochs both say how long; give one, and null"),
        ({"steps": "null"}, r"training\.steps: should be a whole number"),
        ({"epochs": 0}, r"training\.epochs: should be greater than 0"),
        ({"optimiser": "lion"}, r"optimiser: should be 'adamw', 'adafactor' or 'sgd'"),
        ({"betas": [0.9, 1.0]}, r"betas\.1: should be less than 1"),
        ({"betas": [0.9]}, r"betas\.1 is missing"),
        ({"optimiser": "sgd", "betas": [0.8, 0.9]}, "betas is an option of adamw, but optimiser"),
        ({"momentum": 0.5}, "momentum is an option of sgd, but optimiser is adamw; delete it"),
        ({"weight_decay": -1}, "weight_decay: should be greater than or equal to 0"),
        ({"max_grad_norm": -1}, "max_grad_norm: should be greater than or equal to 0"),
        ({"accumulate": 0}, "accumulate: should be greater than or equal to 1"),
        ({"schedule": "step"}, "schedule: should be 'linear', 'cosine', 'constant' or 'inverse"),
        ({"bfloat16": "yes please"}, "bfloat16: should be a boolean"),
        ({"head_dropout": 1}, "head_dropout: should be less than 1"),
        ({"attention_dropout": 1.5}, "attention_dropout: should be less than 1"),
        ({"r_drop": -0.5}, "r_drop: should be greater than or equal to 0"),
        ({"keep": "first"}, "keep: should be 'last' or 'best'"),
        ({"keep": "best", "eval_every": 0}, "keep: best goes by validation scores, but eval_ev"),
        ({"patience": 2, "eval_every": 0}, "patience goes by validation scores, but eval_every"),
        ({"watch": "BLEU"}, "watch is 'BLEU', but nothing goes by it; set keep: best or patience"),
        ({"class_weights": "even"}, "class_weights.*: should be 'balanced'"),
        ({"class_weights": {"a": -1}}, "class_weights.*a: should be greater than or equal to 0"),
        ({"optimizer": "adamw"}, "optimizer is not a setting; did you mean 'optimiser'"),
    ],
)
def test_what_has_no_meaning_is_refused(tmp_path, training, why):
    with pytest.raises(TaskError, match=why):
        settings(tmp_path, **training)


def test_epochs_stand_in_for_steps_and_come_back_from_a_file(tmp_path):
    path = write_task(tmp_path)
    path.write_text(path.read_text().replace("  steps: 12\n", "  epochs: 1.5\n"))
    task = load_task(path)
    assert task.training.steps is None and task.training.epochs == 1.5
    save_task(task, tmp_path / "again.yaml")
    assert load_task(tmp_path / "again.yaml") == task
    path.write_text(path.read_text().replace("  epochs: 1.5\n", "  steps: null\n"))
    with pytest.raises(TaskError, match="neither steps nor epochs says how long; give one"):
        load_task(path)


def test_options_come_back_from_a_file(tmp_path):
    changes = {"betas": [0.8, 0.9], "class_weights": {"a": 2.0}, "keep": "best", "watch": "chrF"}
    task = make_task(tmp_path, training=changes)
    save_task(task, tmp_path / "again.yaml")
    assert load_task(tmp_path / "again.yaml") == task
