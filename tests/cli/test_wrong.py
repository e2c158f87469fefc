"""All ways to be wrong: each is answered with its place and its mend, and none runs code."""

import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from transformers import Trainer
from typer.testing import CliRunner

from regard.cli.main import app
from tests.cli.error_page import PAGE, tables
from tests.cli.test_data import WRONG
from tests.cli.world import copy_world, make_world
from tests.cli.wrong import AGAIN, LAST, PARTS, arm, bomb
from tests.train.tiny import assert_same_weights

WAYS = {f"{part}: {name}": one for part, ways in PARTS.items() for name, one in ways.items()}


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def assert_refused(done, message):
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert "Traceback" not in done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wrong") / "world"
    make_world(folder)
    return folder


@pytest.fixture
def world(made, tmp_path, monkeypatch):
    copy_world(made, tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"


@pytest.mark.parametrize("name", WAYS)
def test_what_is_wrong_is_named_with_its_place_and_its_mend(world, name):
    way = WAYS[name]
    way.spoil(world)
    assert_refused(call(*way.words), way.message.replace("{}", str(world)))
    assert not (world / "exploded").exists()


def test_page_lists_every_way():
    assert len(WAYS) + len(WRONG) > 150
    assert tables() in PAGE.read_text(encoding="utf-8"), "run: python -m tests.cli.error_page"


def test_world_that_nobody_spoiled_is_right(world):
    assert call("evaluate", "run").exit_code == 0
    assert call("compare", "run", "other").exit_code == 0
    assert call(*AGAIN).exit_code == 0
    assert_same_weights(world / "run", world / "begun")


def test_pickles_that_nobody_asked_for_are_not_read(world):
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.bin", "scaler.pt"):
        bomb(f"{LAST}/{name}")(world)
        arm(f"run/model/{name}")(world)
    (world / "begun/checkpoints/mine").mkdir()
    assert call(*AGAIN).exit_code == 0
    assert call("evaluate", "run").exit_code == 0
    assert not (world / "exploded").exists()
    assert (world / "begun/checkpoints/mine").is_dir()


NO_ROOM = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("_save_optimizer_and_scheduler", NO_ROOM),
        ("_save_optimizer_and_scheduler", RuntimeError("PytorchStreamWriter failed writing file")),
        ("save_model", SafetensorError("I/O error: No space left on device (os error 28)")),
    ],
)
def test_full_disk_ends_a_run_that_goes_on_once_there_is_room(world, monkeypatch, where, problem):
    def fail(*_, **__):
        raise problem

    with monkeypatch.context() as full:
        full.setattr(Trainer, where, fail)
        done = call(*AGAIN)
    told = getattr(problem, "strerror", None) or str(problem)
    place = "error: begun/checkpoints/checkpoint-8: it cannot be written"
    assert_refused(done, f"{place} ({told}); make room")
    assert call(*AGAIN).exit_code == 0
    assert_same_weights(world / "run", world / "begun")


def test_error_of_torch_that_is_of_no_disk_is_a_bug_and_shows_whole(world, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Trainer, "save_model", fail)
    assert isinstance(call(*AGAIN).exception, RuntimeError)


@pytest.mark.parametrize("words", [AGAIN, ("train", "colours.yaml", "--run", "new")])
def test_place_that_may_not_be_written_is_named(world, monkeypatch, words):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    # Root may write everywhere, so that no folder can be made to refuse it.
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    assert_refused(call(*words), ": Permission denied; allow it, or name another place")


def test_run_folder_that_may_not_be_read_is_named(world, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert_refused(call("evaluate", "run"), "run/task.yaml: cannot be read (")


@pytest.mark.parametrize("step", [1, 4])
def test_gradient_that_is_not_finite_ends_the_training_before_it_is_applied(
    world, monkeypatch, step
):
    own = Trainer.training_step

    def spoiled(self, model, *given):
        loss = own(self, model, *given)
        if self.state.global_step == step:
            next(model.parameters()).grad[0] = float("nan")
        return loss

    monkeypatch.setattr(Trainer, "training_step", spoiled)
    done = call("train", "colours.yaml", "--run", "new")
    assert_refused(done, f"the training diverged: in step {step + 1} the gradient is no longer fin")
    kept = sorted(one.name for one in (world / "new" / "checkpoints").glob("checkpoint-*"))
    assert kept == ["checkpoint-4"] * (step == 4)
    log = (world / "new/log.jsonl").read_text(encoding="utf-8").splitlines()
    assert all(torch.isfinite(torch.tensor(json.loads(line)["step"])) for line in log)
