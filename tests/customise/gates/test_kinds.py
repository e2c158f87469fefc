"""Gates in tasks of all kinds whose models take modes."""

import pytest
import torch

import regard as rg
from regard.customise import learn_gates
from regard.train import evaluate_run, train
from tests.learners.toys import toy
from tests.train.tiny import weights_of

PLAIN = rg.catalogue.scaled_dot_product.program
NEAR = rg.modes.find("local")
TRAINING = {
    "steps": 6, "batch_tokens": 200, "lr": 0.01, "warmup": 1, "save_every": 50, "eval_every": 0,
    "threads": 1,
}  # fmt: skip


@pytest.mark.parametrize("name", ["causal", "masked", "pairs", "retrieval", "question_answering"])
def test_gates_are_learned_in_a_task_of_any_kind(tmp_path, name):
    role = "decoder" if name == "causal" else "encoder"
    plain = rg.catalogue.causal.program if role == "decoder" else PLAIN
    task = toy(tmp_path, name, training=TRAINING)
    found = learn_gates(
        task, {"plain": plain, "near": NEAR(role, window=2)}, tmp_path / "run", progress=False
    )  # fmt: skip
    assert found.finished and {one.role for one in found.mode().assignments} == {role}
    assert found.before.keys() == found.after.keys() == found.final.keys() != set()
    assert evaluate_run(tmp_path / "run").metrics()["scores"].keys() == found.final.keys()


def test_gates_choose_for_a_pretrained_model_that_is_not_trained_itself(tmp_path):
    first = train(toy(tmp_path, "pairs", training=TRAINING), tmp_path / "first", progress=False)
    task = toy(tmp_path, "pairs", training=TRAINING)
    parts = {
        "model": type(task.model)(pretrained=str(first.folder / "model")),
        "tuning": type(task.tuning)(method="head_only"),
    }
    task = task.model_copy(update=parts)
    reader = rg.modes.find("reader")("encoder")
    found = learn_gates(task, {"plain": PLAIN, "reader": reader}, tmp_path / "run", progress=False)
    shares = {row["share"] for row in found.shares()}
    assert found.finished and len(shares) > 1
    before, after = weights_of(tmp_path / "first"), weights_of(tmp_path / "run")
    kept = [name for name in after if name.startswith("encoder.") and ".regard." not in name]
    assert kept and all(torch.equal(before[name], after[name]) for name in kept)
    assert not torch.equal(before["head.weight"], after["head.weight"])
