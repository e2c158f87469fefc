"""AdaLoRA: a schedule from the number of steps, and ranks allocated at each of them."""

import peft
import pytest
import torch
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from regard import hf
from regard.errors import InputError
from regard.hf import tuning
from regard.hf.tuning.ranks import schedule
from tests.hf.tuning.models import MODE, SIZES, inputs

TARGETS = ["query", "value"]
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


class Rows(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, at):
        drawn = torch.Generator().manual_seed(at)
        ids = torch.randint(3, 20, (7,), generator=drawn)
        return {"input_ids": ids, "labels": (ids[0] > 10).long()}


def classifier():
    torch.manual_seed(2)
    return hf.apply(BertForSequenceClassification(BertConfig(**SIZES)), MODE)


def trainer(model, folder, steps, callbacks, **options):
    arguments = TrainingArguments(
        output_dir=str(folder), max_steps=steps, per_device_train_batch_size=4, use_cpu=True,
        learning_rate=0.01, report_to=[], logging_strategy="no", seed=1, disable_tqdm=True,
        **{"save_strategy": "no", **options},
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=callbacks)


def config(steps=12, **changes):
    options = {
        "init_r": 4,
        "target_r": 2,
        "target_modules": TARGETS,
        "modules_to_save": ["classifier"],
    }
    return tuning.adalora(steps, **{**options, **changes})


def test_schedule_leaves_steps_to_warm_up_to_prune_and_to_settle():
    for steps in (4, 12, 999, 85_000):
        found = schedule(steps)
        assert found["total_step"] == steps
        assert 0 <= found["tinit"] < steps - found["tfinal"] < steps
        assert found["deltaT"] >= 1
    assert schedule(85_000) == {
        "total_step": 85_000, "tinit": 8_500, "tfinal": 42_500, "deltaT": 85,
    }  # fmt: skip


def test_trainer_allocates_ranks_and_trains_the_programs(tmp_path):
    model = tuning.adapt(classifier(), config())
    start = {n: p.clone() for n, p in model.named_parameters() if "regard.modules_to_save" in n}
    trainer(model, tmp_path, 12, [tuning.AllocateRanks()]).train()
    pattern = model.peft_config["default"].rank_pattern
    assert len(pattern) == 4
    # Two of four ranks on average, in the four projections.
    assert sum(map(sum, pattern.values())) == 8
    assert all(not torch.equal(dict(model.named_parameters())[n], p) for n, p in start.items())
    for name, kept in pattern.items():
        singular = dict(model.base_model.model.named_parameters())[
            f"{name}.default" if not name.endswith("default") else name
        ]
        assert (singular[~torch.tensor(kept)] == 0).all()


def test_allocated_adapter_is_loaded_again(tmp_path):
    model = tuning.adapt(classifier(), config())
    trainer(model, tmp_path / "run", 12, [tuning.AllocateRanks()]).train()
    model.eval()
    with torch.no_grad():
        expected = model(**inputs()).logits
    model.save_pretrained(tmp_path / "adapter")
    again = tuning.load(hf.restore(classifier()), tmp_path / "adapter")
    with torch.no_grad():
        # Ranks that were pruned are left out, which changes the order of summing.
        torch.testing.assert_close(again(**inputs()).logits, expected, rtol=0, atol=1e-5)


def test_checkpoints_of_trainer_hold_adapter_and_mode_and_training_goes_on(tmp_path):
    def run(steps, **options):
        lora = peft.LoraConfig(target_modules=TARGETS, modules_to_save=["classifier"])
        model = tuning.adapt(classifier(), lora)
        made = trainer(model, tmp_path, steps, [], save_strategy="steps", save_steps=2)
        made.train(**options)
        with torch.no_grad():
            return model.eval()(**inputs()).logits

    straight = run(4)
    folder = tmp_path / "checkpoint-4"
    with torch.no_grad():
        again = tuning.load(hf.restore(classifier()), folder)(**inputs()).logits
    assert torch.equal(again, straight)
    resumed = run(4, resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert torch.equal(resumed, straight)


def test_schedule_made_for_other_steps_is_made_anew(tmp_path):
    model = tuning.adapt(classifier(), config(steps=500))
    trainer(model, tmp_path, 8, [tuning.AllocateRanks()]).train()
    found = model.peft_config["default"]
    assert (found.total_step, found.tinit, found.tfinal) == (8, 0, 4)
    assert sum(map(sum, found.rank_pattern.values())) == 8


def test_schedule_of_ones_own_is_kept(tmp_path):
    model = tuning.adapt(classifier(), config(steps=8, tinit=2, tfinal=2))
    trainer(model, tmp_path, 8, [tuning.AllocateRanks()]).train()
    found = model.peft_config["default"]
    assert (found.total_step, found.tinit, found.tfinal) == (8, 2, 2)


def test_too_few_steps_are_refused():
    for steps in (3, 0, 2.5, None):
        with pytest.raises(InputError, match="at least 4 steps"):
            tuning.adalora(steps, target_modules=TARGETS)


def test_callback_without_an_adalora_adapter_is_refused(tmp_path):
    message = "AllocateRanks is for a model with an AdaLoRA adapter that is trained"
    plain = tuning.adapt(classifier(), peft.LoraConfig(target_modules=TARGETS))
    for model in (plain, classifier()):
        with pytest.raises(InputError, match=message):
            trainer(model, tmp_path, 4, [tuning.AllocateRanks()]).train()
