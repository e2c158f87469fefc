"""Runs whose processes are killed end with the weights they would have had, bit for bit."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from regard.tasks import load_task
from regard.train import train
from regard.train.folder import RunFolder
from tests.train.test_run import log_of
from tests.train.tiny import PROGRAMS, assert_same_weights, write_task

KILLED = Path(__file__).with_name("killed.py")
# All that has a state of its own, in runs of twelve steps.
OPTIONS = {
    "plain": {},
    "accumulation": {"accumulate": 3},
    "bfloat16": {"bfloat16": True},
    "r_drop": {"r_drop": 1.0},
    "head_dropout": {"head_dropout": 0.5, "attention_dropout": 0.2},
    "early": {"patience": 1, "eval_every": 1, "watch": "BLEU"},
    "best": {"keep": "best", "eval_every": 2, "save_every": 5},
    "adafactor": {"optimiser": "adafactor", "schedule": "cosine"},
    "sgd": {"optimiser": "sgd", "schedule": "inverse_sqrt"},
    "epochs": {"epochs": 1.3},
}
ALL = {
    "accumulate": 2, "bfloat16": True, "r_drop": 0.5, "head_dropout": 0.3, "keep": "best",
    "patience": 50, "eval_every": 2, "save_every": 3, "epochs": 3, "steps": None,
}  # fmt: skip


def kill(task, folder, *points):
    done = subprocess.run(
        [sys.executable, str(KILLED), str(task), str(folder), *points],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def compare(tmp_path, options, points, **parts):
    (tmp_path / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    if "epochs" in options:
        options = {"steps": None, **options}
    task = write_task(tmp_path, training=options, **parts)
    whole = train(load_task(task), tmp_path / "whole", progress=False)
    kill(task, tmp_path / "run", *points(whole.step))
    assert_same_weights(tmp_path / "whole", tmp_path / "run")
    assert log_of(tmp_path / "run") == log_of(tmp_path / "whole")
    return whole


def test_killed_run_ends_as_if_it_had_not_been(tmp_path):
    mode = {"encoder": "mine.py:relative"}
    points = ("save:3", "step:5", "log:7", "score:0")
    whole = compare(tmp_path, ALL, lambda _: points, mode=mode)
    assert whole.step == 9
    assert len(RunFolder(tmp_path / "run").sittings.read_text().splitlines()) == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIONS)
def test_killed_anywhere_with_any_option(tmp_path, name):
    dice = random.Random(name)

    def points(steps):
        found = [f"{dice.choice(('step', 'save'))}:{dice.randrange(1, steps)}" for _ in range(3)]
        return sorted(found, key=lambda point: int(point.partition(":")[2]))

    compare(tmp_path, OPTIONS[name], points)
