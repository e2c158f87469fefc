"""Heirs: what a child takes over from its parent, and that its run then goes on as any other."""

import json

import pytest
import torch
from safetensors.torch import load_file

from regard.customise.ground import survey
from regard.customise.heritage import keep, kept_at, sow
from regard.modes import Mode
from regard.modes.collection import READY
from regard.search import Children
from regard.train import train
from regard.train.folder import RunFolder
from tests.train.tiny import assert_same_weights, make_task

# With learned parameters in it: a number for each distance and head.
READER = READY["reader"]("encoder")


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A run with a kept checkpoint of its step 4, which went on to its end at step 8."""
    folder = tmp_path_factory.mktemp("grown")
    task = make_task(
        folder, training={"steps": 8, "save_every": 4, "eval_every": 4}, mode={"encoder": "alibi"}
    )
    from regard.modes import save_mode

    save_mode(READER, folder / "reader.json")
    task = task.model_copy(update={"mode": str(folder / "reader.json")})
    ground, root = survey(task), RunFolder(folder / "run")
    train(ground.task, root.path, progress=False, test=False, known=ground.known)
    keep(root, 4)
    return ground, root


def test_a_child_of_the_same_programs_runs_as_its_parent_did(grown, tmp_path):
    ground, root = grown
    child = RunFolder(tmp_path / "child")
    took = sow(ground.learner, root, READER, child, READER, 4)
    assert took.new == 0 and took.taken > 0
    task = ground.task
    done = train(task, child.path, resume=True, progress=False, test=False, known=ground.known)
    assert done.finished and done.step == 8
    assert_same_weights(root.path, child.path)


def test_parameters_are_taken_where_name_and_shape_agree(grown, tmp_path):
    ground, root = grown
    child = RunFolder(tmp_path / "child")
    # The encoder keeps its program and its numbers; the decoder gets one with numbers of its own.
    programs = {"encoder": READER.assignments[0].program}
    decoder = READY["selective"].programs["decoder"]
    mode = Mode("child", **programs, decoder=decoder)
    took = sow(ground.learner, root, READER, child, mode, 4)
    own = load_file(child.checkpoints / "checkpoint-4" / "model.safetensors")
    theirs = load_file(kept_at(root) / "model.safetensors")
    learned = [name for name in own if ".regard." in name]
    new = [name for name in learned if "decoder" in name]
    assert new and len(new) < len(learned)
    assert took.new == sum(own[name].numel() for name in new)
    for name, weight in own.items():
        assert name in new or torch.equal(weight, theirs[name]), name
    assert child.read_task().training == ground.task.training


def test_what_the_optimiser_knows_of_a_weight_goes_with_it(grown, tmp_path):
    ground, root = grown
    child = RunFolder(tmp_path / "child")
    sow(
        ground.learner,
        root,
        READER,
        child,
        Mode("child", cross=READY["aligned"].programs["cross"]),
        4,
    )
    theirs = torch.load(kept_at(root) / "optimizer.pt", weights_only=True)
    own = torch.load(child.checkpoints / "checkpoint-4" / "optimizer.pt", weights_only=True)
    # Moments are told apart by what they hold; each is that of the weight it belongs to.
    sums = {round(one["exp_avg_sq"].sum().item(), 12) for one in theirs["state"].values()}
    kept = [round(one["exp_avg_sq"].sum().item(), 12) for one in own["state"].values()]
    assert len(kept) > 10 and set(kept) <= sums
    assert [group["lr"] for group in own["param_groups"]] == [
        group["lr"] for group in theirs["param_groups"]
    ]


def test_a_kept_checkpoint_outlives_the_runs_own(grown):
    _, root = grown
    assert not (root.checkpoints / "checkpoint-2").exists()
    keep(root, 2)
    state = json.loads((kept_at(root) / "trainer_state.json").read_text())
    assert state["global_step"] == 4


def test_every_child_of_many_can_be_sown_and_trained(grown, tmp_path):
    ground, root = grown
    children = Children(ground.space, seed=3)
    for number, mode in enumerate(children.draw(children.starts(), 2)):
        child = RunFolder(tmp_path / str(number))
        sow(ground.learner, root, READER, child, mode, 4)
        from regard.modes import save_mode

        save_mode(mode, tmp_path / f"{number}.json")
        task = ground.task.model_copy(update={"mode": str(tmp_path / f"{number}.json")})
        done = train(task, child.path, resume=True, progress=False, test=False, known=ground.known)
        assert done.finished
