"""When a run ends, and which weights it ends with."""

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerState

from regard.errors import TaskError
from regard.train import train
from regard.train.selection import Selection, best_of
from tests.train.test_run import log_of
from tests.train.tiny import make_task, weights_of


def test_best_is_the_first_of_the_best():
    assert best_of([3.0, 1.0, 1.0, 2.0], rising=False) == 1
    assert best_of([3.0, 1.0, 3.0], rising=True) == 0
    assert best_of([math.nan, 2.0], rising=True) == 1
    assert best_of([math.nan], rising=True) is None and best_of([], rising=True) is None


@pytest.mark.parametrize(
    ("scores", "rising", "ends"),
    [
        ([3, 2, 1], False, False),
        ([3, 4, 5], False, True),
        ([3, 4, 2, 3], False, False),
        ([3, 4, 2, 2, 2], False, True),
        ([1, 2, 3], True, False),
        ([3, 2, 2], True, True),
        ([math.nan, math.nan], True, True),
    ],
)
def test_patience_is_counted_from_the_best(tmp_path, scores, rising, ends):
    settings = make_task(tmp_path, training={"patience": 2}).training
    history = [{"step": 6 * place, "eval_loss": score} for place, score in enumerate(scores)]
    state = TrainerState(log_history=history, max_steps=100)
    assert Selection(settings, rising).ran_out(state) is ends


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    """A run that learns for a while, then falls apart: its learning rate is far too high."""
    folder = tmp_path_factory.mktemp("selected")
    settings = {
        "steps": 40, "lr": 0.5, "warmup": 30, "eval_every": 3, "save_every": 7, "patience": 3,
        "keep": "best",
    }  # fmt: skip
    return train(make_task(folder, training=settings), folder / "run", progress=False)


def test_training_ends_when_it_gets_no_better(selected):
    losses = {line["step"]: line["valid_loss"] for line in log_of(selected.folder)
              if "valid_loss" in line}  # fmt: skip
    best = min(losses, key=losses.get)
    assert selected.finished and selected.steps == 40
    assert selected.step == max(losses) == best + 9 < 40
    trained = selected.metrics["training"]
    assert (trained["steps"], trained["kept_step"]) == (selected.step, best)


def test_the_best_weights_are_kept(selected):
    best = selected.metrics["training"]["kept_step"]
    checkpoints = {path.name for path in (selected.folder / "checkpoints").iterdir()}
    assert f"checkpoint-{best}" in checkpoints and len(checkpoints) == 3
    saved = load_file(selected.folder / "checkpoints" / f"checkpoint-{best}" / "model.safetensors")
    kept = weights_of(selected.folder)
    assert all(torch.equal(kept[name], tensor) for name, tensor in saved.items())


def test_a_metric_may_be_watched(tmp_path):
    settings = {"steps": 6, "eval_every": 2, "watch": "chrF", "keep": "best", "save_every": 50}
    result = train(make_task(tmp_path, training=settings), tmp_path / "run", progress=False)
    scores = {line["step"]: line["valid_chrF"] for line in log_of(result.folder)
              if "valid_chrF" in line}  # fmt: skip
    assert result.metrics["training"]["kept_step"] == max(scores, key=scores.get)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({"training": {"keep": "best", "watch": "bleu"}}, r"watch: 'bleu' is not measured; .*BLEU"),
        ({"training": {"patience": 1}, "data": {"valid_pairs": 0}}, r"patience goes by validation"),
    ],
)
def test_scores_that_there_are_not_are_refused_before_a_folder_is_made(tmp_path, parts, why):
    with pytest.raises(TaskError, match=why):
        train(make_task(tmp_path, **parts), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
