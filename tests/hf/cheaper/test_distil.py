import copy
import signal

import pytest
import torch

from regard import hf
from regard.errors import FileError
from regard.hf.cheaper.candidates import candidates_for
from regard.hf.cheaper.distil import Distillation, trained_of
from regard.hf.cheaper.layers import find_layers, mode_of
from tests.hf.cheaper.tiny import TOKENS, bert, llama, text

CANDIDATES = candidates_for(TOKENS)


def distillation(model, *, file=None, planned=6, rate=3e-3, pieces=None):
    student = copy.deepcopy(model)
    pieces = text(1) if pieces is None else pieces
    layers = find_layers(student, CANDIDATES, pieces[:1])
    state = ((1,) * layers[0].units, (0,) * layers[1].units)
    hf.apply(student, mode_of(layers, CANDIDATES, state))
    made = Distillation(
        model, student, trained_of(student, layers, state), pieces,
        writes=hasattr(model, "lm_head"), rate=rate, seed=0, file=file,
    )  # fmt: skip
    made.planned = planned
    return made


@pytest.mark.parametrize("make", [llama, bert])
def test_a_student_comes_nearer_to_the_original(make):
    one = distillation(make(), planned=40, rate=1e-2)
    with torch.no_grad():
        before = float(one._loss(one.pieces))
    found = one.run(1.0, lambda line: None)
    with torch.no_grad():
        one.step = 0
        assert float(one._loss(one.pieces)) < 0.7 * before
    assert found.steps == 40 and not found.asked


def test_only_projections_of_changed_layers_are_trained():
    model = llama()
    one = distillation(model)
    one.run(1.0, lambda line: None)
    changed = {
        name
        for (name, old), new in zip(model.named_parameters(), one.student.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    first = "model.layers.0.self_attn"
    assert changed == {f"{first}.{part}_proj.weight" for part in "qkvo"}
    assert all(parameter.requires_grad for parameter in one.student.parameters())


def test_a_distillation_that_was_stopped_ends_where_it_would_have(tmp_path):
    model = llama()
    whole = distillation(model, pieces=text(3))
    whole.run(1.0, lambda line: None)

    def stop(line):
        if "step 3" in line:
            signal.raise_signal(signal.SIGINT)

    first = distillation(model, file=tmp_path / "distil.safetensors", pieces=text(3))
    found = first.run(1.0, stop)
    assert found.asked and found.steps == 3
    second = distillation(model, file=tmp_path / "distil.safetensors", pieces=text(3), planned=0)
    assert second.run(1.0, lambda line: None).steps == 6
    for one, two in zip(whole.student.parameters(), second.student.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_second_ctrl_c_ends_everything():
    def stop(line):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        distillation(llama()).run(1.0, stop)


def test_a_checkpoint_that_is_none_is_refused(tmp_path):
    file = tmp_path / "distil.safetensors"
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(FileError, match=r"distil\.safetensors: no checkpoint of this distillation"):
        distillation(llama(), file=file).run(1.0, lambda line: None)


def test_steps_are_as_many_as_fit_the_minutes():
    one = distillation(llama(), planned=0)
    found = one.run(0.01, lambda line: None)
    assert found.steps == found.planned >= 2
