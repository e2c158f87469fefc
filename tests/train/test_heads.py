"""Statistics of heads during training: what they are, when they are written, and their picture."""

import numpy as np
import pytest
import torch

from regard import hf
from regard.errors import TaskError, UnsupportedError
from regard.modes import Mode
from regard.train import train
from regard.train.folder import RunFolder
from regard.train.heads import STATISTICS, draw_maps, head_statistics, observable
from regard.train.report import write_run_report
from regard.train.table import Table, read_table
from tests.hf.models import marian
from tests.learners.test_labels import TRAINING, classify
from tests.nn import programs as p
from tests.train.test_regularise import dense, statistic
from tests.train.tiny import make_task

BATCHES = [
    {
        "input_ids": torch.tensor([[5, 6, 7, 8], [9, 3, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "decoder_input_ids": torch.tensor([[0, 4, 5], [0, 0, 0]]),
        "labels": torch.tensor([[4, 5, 1], [1, -100, -100]]),
    },
    {
        "input_ids": torch.tensor([[5, 9, 1]]),
        "attention_mask": torch.tensor([[1, 1, 1]]),
        "decoder_input_ids": torch.tensor([[0, 4]]),
        "labels": torch.tensor([[4, 1]]),
    },
]


@pytest.mark.parametrize("role", ["encoder", "decoder", "cross"])
def test_statistics_are_means_over_the_rows_that_are_there(role):
    model = marian().train()
    found = head_statistics(model, BATCHES, observable(model))
    assert model.training
    own = [head for head in found if head.role == role]
    assert [(head.layer, head.head) for head in own] == [(n, h) for n in (0, 1) for h in range(4)]
    with torch.no_grad():
        weights = [dense(model.eval(), batch, role) for batch in BATCHES]
    for head in own:
        for name, hand in (("entropy", "entropy"), ("distance", "distance"), ("sink", "first")):
            rows = []
            for batch, layers in zip(BATCHES, weights, strict=True):
                one = statistic(layers[head.layer], hand, batch, role)[:, head.head]
                there = batch["attention_mask"] == 1 if role == "encoder" else (
                    batch["labels"] != -100
                )  # fmt: skip
                rows.append(one[there])
            assert getattr(head, name) == pytest.approx(torch.cat(rows).mean().item(), abs=1e-5)


def test_program_without_a_statistic_has_none():
    model = hf.apply(marian(), Mode("counting", "", encoder=p.counting))
    names = observable(model)
    assert names["encoder"] == ["distance", "sink"] and names["cross"] == list(STATISTICS)
    found = head_statistics(model, BATCHES, names)
    assert all((head.entropy is None) == (head.role == "encoder") for head in found)


def test_pictures_show_every_role():
    model = marian()
    pictures = draw_maps(model, BATCHES[1], ["encoder", "cross"])
    assert pictures.keys() == {"encoder", "cross"}
    for picture in pictures.values():
        assert picture.dtype == "uint8" and picture.shape[2] == 3 and picture.std() > 0
    assert not np.array_equal(pictures["encoder"], pictures["cross"])


@pytest.mark.parametrize(("log", "steps"), [(True, [10, 20, 30]), (2, [20])])
def test_lines_are_written_at_every_so_many_evaluations_and_drawn(tmp_path, log, steps):
    training = {**TRAINING, "steps": 30, "save_every": 30, "eval_every": 10}
    task = classify(tmp_path, training=training, attention={"log": log})
    run = train(task, tmp_path / "run", progress=False)
    rows = read_table(RunFolder(run.folder).heads)
    assert [int(row["step"]) for row in rows] == [step for step in steps for _ in range(2)]
    assert [row["head"] for row in rows[:2]] == ["0", "1"]
    assert all(float(row["entropy"]) > 0 and row["role"] == "encoder" for row in rows[:2])
    page = tmp_path / "report.html"
    write_run_report({"colours": run.folder}, page, "Colours")
    text = page.read_text(encoding="utf-8")
    assert "the entropy of the weights of each head on validation rows" in text
    assert "Entropy of every head of colours over training." in text


def test_nothing_is_written_unless_asked(finished):
    assert not RunFolder(finished.folder).heads.exists()


def test_rows_to_look_at_are_needed(tmp_path):
    task = make_task(tmp_path, data={"valid_pairs": 0}, attention={"log": True})
    with pytest.raises(TaskError, match=r"^attention\.log looks at validation rows, but none are"):
        train(task, tmp_path / "run", progress=False)


def test_attention_that_cannot_be_reached_is_named(tmp_path, monkeypatch):
    task = make_task(tmp_path, attention={"log": True})

    def refuse(model):
        raise UnsupportedError("models of type 'x' run attention of their own")

    monkeypatch.setattr("regard.train.heads.find_places", refuse)
    with pytest.raises(UnsupportedError, match=r"^attention\.log: models of type 'x' run att"):
        train(task, tmp_path / "run", progress=False)


def test_columns_of_a_table_grow_with_its_rows(tmp_path):
    path = tmp_path / "some.csv"
    table = Table(path, [{"step": 1, "loss": 0.5}])
    table.add({"step": 2, "score": "a,b"})
    table.add({"step": 3, "loss": 0.25})
    assert path.read_text() == 'step,loss,score\n1,0.5,\n2,,"a,b"\n3,0.25,\n'
    assert read_table(path)[1] == {"step": "2", "loss": "", "score": "a,b"}
    assert read_table(tmp_path / "none.csv") == []
    Table(path)
    assert path.read_text() == ""
