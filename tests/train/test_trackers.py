"""Trackers: what they are told, once and for all steps, and what is said of one that is missing."""

import json
import struct
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from regard.errors import TaskError
from regard.train import train
from regard.train.folder import RunFolder
from regard.train.heads import Head
from regard.train.record import LogFile
from regard.train.table import read_table
from regard.train.trackers import Tracking, WeightsAndBiases, check_trackers, open_trackers
from tests.train.tiny import make_task

HEADS = [Head("encoder", 0, head, 0.5 + head, 1.0, 0.1) for head in range(3)]
PICTURE = np.full((8, 12, 3), 200, np.uint8)


@pytest.fixture
def dies_at():
    # What other fixtures put in place stays there.
    with pytest.MonkeyPatch.context() as patch:

        def arrange(step):
            def on_step_begin(_, args, state, control, **__):
                if state.global_step == step:
                    patch.undo()
                    raise OSError("no space left")

            patch.setattr(LogFile, "on_step_begin", on_step_begin)

        yield arrange


def log_of(folder):
    lines = RunFolder(folder).log.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def stopped_and_continued(task, folder, dies_at):
    dies_at(7)
    with pytest.raises(OSError, match="no space left"):
        train(task, folder, progress=False)
    assert [line["step"] for line in log_of(folder)] == [4, 6]
    assert train(task, folder, resume=True, progress=False).finished


def test_table_says_what_the_log_says(tmp_path, dies_at):
    task = make_task(tmp_path)
    stopped_and_continued(task, tmp_path / "run", dies_at)
    rows = read_table(tmp_path / "run" / "log.csv")
    lines = [{k: str(v) for k, v in line.items()} for line in log_of(tmp_path / "run")]
    assert [{k: v for k, v in row.items() if v} for row in rows] == lines
    assert [row["step"] for row in rows] == ["4", "6", "8", "12", "12"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("tensorboard", True,
         r"^tracking\.tensorboard: the package tensorboard is not installed; install it with: pip "
         r"install 'regard\[tasks\]', or set tracking\.tensorboard to false$"),
        ("wandb", "offline",
         r"^tracking\.wandb: the package wandb is not installed; install it with: pip install "
         r"'regard\[wandb\]', or set tracking\.wandb to null$"),
    ],
)  # fmt: skip
def test_package_that_is_missing_is_named_before_anything_begins(
    tmp_path, monkeypatch, name, value, said
):
    monkeypatch.setattr("regard.train.trackers._installed", lambda package: False)
    task = make_task(tmp_path, tracking={name: value})
    with pytest.raises(TaskError, match=said):
        train(task, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_run_goes_without_trackers_that_are_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("regard.train.trackers._installed", lambda package: False)
    task = make_task(tmp_path)
    check_trackers(task.tracking)
    assert open_trackers(task, tmp_path) == []
    task = make_task(tmp_path, tracking={"tensorboard": False})
    monkeypatch.setattr("regard.train.trackers._installed", lambda package: True)
    assert open_trackers(task, tmp_path) == []


class Events:
    """What TensorBoard reads from a run."""

    def __init__(self, folder):
        pytest.importorskip("tensorboard")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        # All there are, where a few are kept otherwise.
        every = {"histograms": 0, "images": 0}
        self.found = EventAccumulator(str(folder / "tensorboard"), every)
        self.found.Reload()

    def curve(self, name):
        return [(one.step, one.value) for one in self.found.Scalars(name)]


def test_tensorboard_shows_a_continued_run_as_one(tmp_path, dies_at):
    pytest.importorskip("tensorboard")
    task = make_task(
        tmp_path, tracking={"tensorboard": True}, attention={"log": True},
        training={"eval_every": 2},
    )  # fmt: skip
    dies_at(7)
    with pytest.raises(OSError, match="no space left"):
        train(task, tmp_path / "run", progress=False)
    assert [step for step, _ in Events(tmp_path / "run").curve("valid/loss")] == [2, 4, 6]
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    found, log = Events(tmp_path / "run"), log_of(tmp_path / "run")
    for name, ours in (("train/loss", "loss"), ("valid/loss", "valid_loss"), ("train/lr", "lr")):
        wanted = [(line["step"], pytest.approx(line[ours])) for line in log if ours in line]
        assert found.curve(name) == wanted, name
    assert [one.step for one in found.found.Histograms("entropy/cross")] == [2, 4, 6, 8, 10, 12]
    assert [one.step for one in found.found.Images("attention/encoder")] == [2, 4, 6, 8, 10, 12]
    means = {
        role: np.mean([float(row["entropy"]) for row in read_table(tmp_path / "run/attention.csv")
                       if (row["step"], row["role"]) == ("12", role)])
        for role in ("encoder", "decoder")
    }  # fmt: skip
    for role, mean in means.items():
        assert found.curve(f"entropy_mean/{role}")[-1] == (12, pytest.approx(mean, rel=1e-5))


def records_of(file):
    """The records of a .wandb file: a header of 7 bytes, then LevelDB's log in blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2 as proto

    data, at, whole = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + size]
        at += 7 + size
        # 1: whole, 4: the last part.
        if kind in (1, 4):
            record = proto.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def told(folder):
    """By sitting, what was told of each step."""
    for file in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        rows = []
        for record in records_of(file):
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append(
                    {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
                )
        yield rows


@pytest.mark.slow
def test_weights_and_biases_are_told_offline_and_nothing_twice(tmp_path, dies_at):
    pytest.importorskip("wandb")
    task = make_task(
        tmp_path, tracking={"wandb": "offline", "tensorboard": False}, attention={"log": True}
    )
    stopped_and_continued(task, tmp_path / "run", dies_at)
    first, second = told(tmp_path / "run")
    assert [row["_step"] for row in first] == [4, 6]
    assert [row["_step"] for row in second] == [8, 12]
    log = {}
    for line in log_of(tmp_path / "run"):
        log.setdefault(line["step"], {}).update(line)
    for row in [*first, *second]:
        line = log[row["_step"]]
        assert ("train/loss" in row) == ("loss" in line)
        if "loss" in line:
            assert row["train/loss"] == pytest.approx(line["loss"])
        if "valid_BLEU" in line:
            assert row["valid/BLEU"] == pytest.approx(line["valid_BLEU"])
            assert row["attention/cross/_type"] == "image-file"
            assert row["entropy/decoder/_type"] == "histogram"
    names = [
        path.name.rpartition("-")[2] for path in (tmp_path / "run/wandb").glob("offline-run-*")
    ]
    assert len(names) == 2 and set(names) == {(tmp_path / "run/wandb/id").read_text()}


@pytest.fixture
def stand_in(monkeypatch):
    """A module with the part of wandb's interface that is used; keeps what it is told."""
    kept = SimpleNamespace(init=[], log=[], finished=0)

    def finish():
        kept.finished += 1

    def init(**given):
        if given["mode"] == "online":
            raise module.Error("no API key")
        kept.init.append(given)
        return SimpleNamespace(
            log=lambda values, step: kept.log.append((step, values)), finish=finish
        )

    module = SimpleNamespace(
        init=init, Error=type("Error", (Exception,), {}), Settings=lambda **given: given,
        Histogram=lambda values: ("histogram", list(values)), Image=lambda pixels: pixels.shape,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setattr("regard.train.trackers._installed", lambda package: package == "wandb")
    return kept


def test_weights_and_biases_are_told_what_the_log_says(tmp_path, stand_in, dies_at):
    task = make_task(tmp_path, tracking={"wandb": "offline", "project": "toys"})
    stopped_and_continued(task, tmp_path / "run", dies_at)
    assert [step for step, _ in stand_in.log] == [4, 6, 8, 12, 12]
    log = log_of(tmp_path / "run")
    for (_, values), line in zip(stand_in.log, log, strict=True):
        assert sorted(values.values()) == sorted(
            value for name, value in line.items() if name not in ("step", "seconds")
        )
    assert {"train/loss", "train/lr", "train/grad_norm"} == set(stand_in.log[0][1])
    one, other = stand_in.init
    assert one["id"] == other["id"] and one["resume"] == "allow" and stand_in.finished == 2
    assert (one["project"], one["name"], one["mode"]) == ("toys", "run", "offline")
    assert one["config"]["training"]["steps"] == 12


def test_weights_and_biases_are_told_of_heads(tmp_path, stand_in):
    task = make_task(tmp_path, tracking={"wandb": "offline"})
    WeightsAndBiases(tmp_path / "wandb", task).heads(5, HEADS, {"encoder": PICTURE})
    ((step, values),) = stand_in.log
    assert step == 5 and values["entropy/encoder"] == ("histogram", [0.5, 1.5, 2.5])
    assert values["entropy_mean/encoder"] == 1.5 and values["attention/encoder"] == (8, 12, 3)


def test_weights_and_biases_that_cannot_be_reached_are_named(tmp_path, stand_in):
    task = make_task(tmp_path, tracking={"wandb": "online"})
    with pytest.raises(
        TaskError, match=r"^tracking\.wandb: Weights & Biases cannot be told \(no API key\); run `"
    ):
        open_trackers(task, tmp_path)


def test_terms_of_attention_have_a_group_of_their_own():
    seen = {}
    tracker = SimpleNamespace(told=3, numbers=lambda step, values: seen.update({step: values}))
    tracking = Tracking([tracker])
    logs = {"loss": 1.0, "attention_entropy": 0.5, "epoch": 2.0}
    for step in (3, 4):
        tracking.on_log(None, SimpleNamespace(global_step=step), None, logs)
    tracking.on_log(None, SimpleNamespace(global_step=5), None, {"train_runtime": 3})
    assert seen == {4: {"loss": 1.0, "attention_entropy": 0.5}}
