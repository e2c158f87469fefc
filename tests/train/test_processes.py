"""Several processes of one run: what each does, and that together they do what one would."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from regard.learners.batches import IGNORED, Collate, TokenBudgetBatches
from regard.tasks import load_task
from regard.train import processes, train
from regard.train.processes import CollateShare, SharedBatches
from tests.train.test_run import log_of
from tests.train.tiny import PROGRAMS, assert_same_weights, weights_of, write_task

HERE = Path(__file__).parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
# On CPUs too: with --cpu it would start one process.
ACCELERATE = [
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
    "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
    "--main_process_port", "0",
]  # fmt: skip


@pytest.fixture
def one_of_two(monkeypatch):
    def become(rank):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")

    return become


def test_alone_a_process_is_all_there_is():
    assert (processes.rank(), processes.count(), processes.is_first()) == (0, 1, True)
    assert processes.share("abc") == processes.joined("abc") == ["a", "b", "c"]
    assert processes.anyone(True) and not processes.anyone(False)


def test_processes_share_every_batch(one_of_two):
    examples = [{"input_ids": [0] * (1 + k % 5)} for k in range(31)]
    batches = TokenBudgetBatches(examples, budget=12)
    batches.set_epoch(3)
    whole, parts = list(batches), []
    for rank in (0, 1):
        one_of_two(rank)
        shared = SharedBatches(TokenBudgetBatches(examples, budget=12))
        shared.set_epoch(3)
        parts.append(list(shared))
        assert len(shared) == len(whole)
    for batch, first, second in zip(whole, *parts, strict=True):
        assert first == batch[::2] and second == batch[1::2]


def test_a_process_without_rows_learns_nothing():
    collate = CollateShare(Collate({"input_ids": 0}), {"input_ids": [5, 6], "labels": [1, 2]})
    batch = collate([])
    assert batch["input_ids"].tolist() == [[5, 6]]
    assert batch["labels"].tolist() == [[IGNORED, IGNORED]]
    assert collate([{"input_ids": [7], "labels": [3]}])["labels"].tolist() == [[3]]


def launch(launcher, *words, **more):
    separator = ["--"] if launcher is TORCHRUN else []
    return subprocess.Popen(
        [*launcher, "-m", *separator, "regard", "train", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, **more,
    )  # fmt: skip


def whole_and_task(folder, **training):
    (folder / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    # No dropout: each process draws its own.
    task = write_task(
        folder, model={"dropout": 0.0}, mode={"encoder": "mine.py:relative"}, training=training
    )
    train(load_task(task), folder / "one", progress=False)
    return task


def assert_same_curve(one, two):
    for first, second in zip(log_of(one), log_of(two), strict=True):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert second[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    for name, tensor in weights_of(one).items():
        torch.testing.assert_close(weights_of(two)[name], tensor, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "training"),
    [
        (TORCHRUN, {"accumulate": 2, "keep": "best", "patience": 30, "eval_every": 2}),
        # Batches of one row: one process has none.
        (TORCHRUN, {"batch_tokens": 5}),
        (ACCELERATE, {}),
    ],
    ids=["torchrun", "one row", "accelerate"],
)
def test_two_processes_learn_what_one_does(tmp_path, launcher, training):
    task = whole_and_task(tmp_path, **training)
    run = launch(launcher, task, "--run", tmp_path / "two")
    said = run.communicate()[0]
    assert run.returncode == 0, said
    # One alone speaks.
    assert said.count("kept in") == said.count("copying the source") == 1
    assert_same_curve(tmp_path / "one", tmp_path / "two")
    (sitting,) = (tmp_path / "two" / "sittings.jsonl").read_text().splitlines()
    assert json.loads(sitting)["processes"] == 2


@pytest.mark.slow
def test_ctrl_c_stops_both_processes_and_they_go_on_together(tmp_path):
    training = {"steps": 90, "save_every": 1000, "eval_every": 0, "head_dropout": 0.4}
    task = whole_and_task(tmp_path, **training)
    words = (task, "--run", tmp_path / "two")
    whole = launch(TORCHRUN, task, "--run", tmp_path / "whole")
    said = whole.communicate()[0]
    assert whole.returncode == 0, said
    run = launch(TORCHRUN, *words)
    log = tmp_path / "two" / "log.jsonl"
    while not (log.is_file() and log.read_text()) and run.poll() is None:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    said = run.communicate()[0]
    assert "stopped at step" in said, said
    (stopped,) = (tmp_path / "two" / "checkpoints").iterdir()
    assert (stopped / "whole").is_file() and (stopped / "rng_state_1.pth").is_file()
    run = launch(TORCHRUN, *words, "--resume")
    said = run.communicate()[0]
    assert run.returncode == 0, said
    assert_same_weights(tmp_path / "whole", tmp_path / "two")


@pytest.mark.slow
def test_programs_are_sharded_by_fsdp():
    done = subprocess.run(
        [*TORCHRUN, HERE / "sharded.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "rank 0 agrees" in done.stdout and "rank 1 agrees" in done.stdout
