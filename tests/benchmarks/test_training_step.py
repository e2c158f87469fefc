"""What benchmarks/training_step.py compares: steps that train alike; how long is not looked at."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
TINY = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
    "vocab_size": 50, "hidden_dropout_prob": 0.0,
}  # fmt: skip


@pytest.fixture
def script(monkeypatch):
    before = set(sys.modules)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.delenv("REGARD_WEIGHTS", raising=False)
    found = importlib.import_module("training_step")
    monkeypatch.setattr(found, "SHAPE", TINY)
    yield found
    for name in {"training_step", "_measure"} - before:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("padded", [False, True])
def test_contenders_of_equal_attention_have_equal_gradients(script, tmp_path, padded):
    folder, batch = script.weights(tmp_path / "model"), script.batch_of(3, 8, padded)
    assert batch["attention_mask"].all() != padded
    found = []
    for name in ("sdpa", "scaled_dot_product"):
        trainer = script.trainer_of(folder, script.DROPOUT["0"], script.MODES[name])
        assert hasattr(trainer.model, "regard_mode") == (name != "sdpa")
        trainer.model.dropout.p = 0.0
        trainer.training_step(trainer.model, dict(batch), 3)
        found.append({key: one.grad for key, one in trainer.model.named_parameters()})
    first, other = found
    assert first.keys() == other.keys()
    for name, grad in first.items():
        assert (grad is None) == (other[name] is None)
        assert grad is None or torch.allclose(grad, other[name], rtol=1e-4, atol=1e-6), name
    assert sum(grad is not None and bool(grad.any()) for grad in first.values()) > 20


def test_step_changes_the_weights(script, tmp_path):
    folder, batch = script.weights(tmp_path / "model"), script.batch_of(3, 8, True)
    trainer = script.trainer_of(folder, script.DROPOUT["0"], script.MODES["alibi"])
    before = trainer.model.head.weight.clone()
    # The first step of a warm-up has a rate of 0.
    script.step(trainer, batch)
    script.step(trainer, batch)
    assert not torch.equal(before, trainer.model.head.weight)
    assert all(one.grad is None for one in trainer.model.parameters())


def test_bar_is_held_by_equal_attention_alone(script):
    times = {"sdpa": [1.0, 2.0, 4.0], "scaled_dot_product": [1.1, 2.2, 4.0], "alibi": [9.0] * 3}
    rows = {row["attention"]: row for row in script.rows_of({"rows": 3}, times)}
    assert rows["scaled_dot_product"]["times sdpa"] == pytest.approx(1.1)
    assert [rows[name][""] for name in times] == ["", "not reached", ""]
