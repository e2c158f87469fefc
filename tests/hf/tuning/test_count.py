"""The one way to count parameters."""

import peft
import torch

from regard import hf
from regard.hf import tuning
from tests.hf.tuning.models import bert, programmed


def test_every_parameter_counts_once_and_in_one_group():
    model = programmed()
    found = hf.trainable(model)
    assert found.all == sum(p.numel() for p in model.parameters()) == found.trainable
    assert found.share == 1.0
    # Two layers of four heads with 17 distances.
    assert found["programs"].all == 2 * 4 * 17
    assert found["attention"].all == 2 * 4 * (16 * 16 + 16)
    assert found["norms"].all == 5 * 2 * 16
    assert found["adapters"] == tuning.Count("adapters", 0, 0)


def test_adapters_and_programs_are_what_is_trained():
    adapted = tuning.adapt(programmed(), peft.LoraConfig(target_modules=["query"], r=2))
    found = hf.trainable(adapted)
    assert found["adapters"] == tuning.Count("adapters", 2 * 2 * 32, 2 * 2 * 32)
    # The programs as they were stay beside those that are trained.
    assert found["programs"] == tuning.Count("programs", 136, 272)
    assert {one.group for one in found.groups if one.trainable} == {"adapters", "programs"}


def test_shared_parameters_count_once():
    layer = torch.nn.Linear(3, 3, bias=False)
    assert hf.trainable(torch.nn.Sequential(layer, layer)).all == 9


def test_table_reads_well():
    model = bert()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.shape == (16,))
    total = sum(parameter.numel() for parameter in model.parameters())
    lines = repr(hf.trainable(model)).splitlines()
    assert lines[0].split() == ["trainable", "all", "share"]
    assert lines[-1].split() == ["together", "336", f"{total:,}", f"{336 / total:.2%}"]
    assert len({len(line) for line in lines}) == 1


def test_model_without_parameters_has_no_share():
    assert hf.trainable(torch.nn.Identity()).share == 0.0
