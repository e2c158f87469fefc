"""Each option of training does what it says."""

import math

import pytest
import torch
from torch import nn
from transformers import TrainerCallback
from transformers.optimization import Adafactor

from regard.data import load_corpus
from regard.learners import learner_class
from regard.learners.batches import IGNORED
from regard.learners.tokenizer import train_tokenizer
from regard.tasks.plan_data import plan_task_data
from regard.train import evaluate_run, train
from regard.train.model import build_model
from regard.train.selection import Selection
from regard.train.trainer import build_trainer
from regard.train.tuning import Tuning
from tests.train.test_run import log_of
from tests.train.tiny import PROGRAMS, make_task, weights_of


def trainer_of(folder, callbacks=(), **training):
    task = make_task(folder, model={"dropout": 0.0}, training=training)
    kind, corpus = learner_class(task), load_corpus(plan_task_data(task))
    texts = (text for row in corpus.splits.train for text in kind.texts_of(row))
    learner = kind(task, train_tokenizer(texts, task.tokenizer.size), corpus.labels)
    selection = Selection(task.training, rising=False)
    tuning = Tuning(build_model(learner))
    return build_trainer(
        learner, tuning, corpus.splits, folder / "checkpoints", list(callbacks), selection
    )


@pytest.mark.parametrize(
    ("training", "kind", "options"),
    [
        ({"betas": [0.7, 0.8]}, torch.optim.AdamW, {"betas": (0.7, 0.8), "fused": True}),
        ({}, torch.optim.AdamW, {"betas": (0.9, 0.98), "weight_decay": 0.01}),
        ({"optimiser": "adafactor"}, Adafactor, {"relative_step": False}),
        ({"optimiser": "sgd", "momentum": 0.4}, torch.optim.SGD, {"momentum": 0.4}),
    ],
)
def test_optimiser_is_made_with_its_options(tmp_path, training, kind, options):
    made = trainer_of(tmp_path, **training).create_optimizer()
    assert type(made) is kind
    assert options.items() <= made.param_groups[0].items()


def test_biases_and_norms_do_not_decay(tmp_path):
    trainer = trainer_of(tmp_path, weight_decay=0.3)
    groups = trainer.create_optimizer().param_groups
    decays = {id(one): group["weight_decay"] for group in groups for one in group["params"]}
    norms = [module for module in trainer.model.modules() if isinstance(module, nn.LayerNorm)]
    spared = {id(one) for norm in norms for one in norm.parameters()}
    spared |= {id(one) for name, one in trainer.model.named_parameters() if name.endswith("bias")}
    assert len(norms) == 5 and len(spared) > 20
    for one in trainer.model.parameters():
        if one.requires_grad:
            assert decays[id(one)] == (0.0 if id(one) in spared else 0.3)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        ("linear", lambda step: (100 - step) / 80),
        ("cosine", lambda step: 0.5 * (1 + math.cos(math.pi * (step - 20) / 80))),
        ("constant", lambda _: 1.0),
        ("inverse_sqrt", lambda step: math.sqrt(20 / step)),
    ],
)
def test_learning_rate_follows_its_schedule(tmp_path, schedule, formula):
    trainer = trainer_of(tmp_path, steps=100, warmup=20, lr=0.5, schedule=schedule)
    trainer.create_optimizer_and_scheduler(100)
    for step in range(100):
        share = step / 20 if step < 20 else formula(step)
        assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.5 * share)
        trainer.optimizer.step()
        trainer.lr_scheduler.step()


class Gradients(TrainerCallback):
    """Keeps the gradients of the first update."""

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        if state.global_step == 0:
            self.found = [one.grad.clone() for one in model.parameters() if one.grad is not None]


def test_accumulated_batches_are_averaged_over_all_their_tokens(tmp_path):
    seen = Gradients()
    trainer = trainer_of(tmp_path, [seen], accumulate=50, steps=1, max_grad_norm=0)
    fresh = trainer_of(tmp_path).model
    trainer.train()
    trainer.batches.set_epoch(0)
    parts = list(trainer.batches)
    batches = [trainer.data_collator([trainer.train_dataset[k] for k in one]) for one in parts]
    labels = [batch.pop("labels") for batch in batches]
    tokens = [int(one.ne(IGNORED).sum()) for one in labels]
    assert len(tokens) > 2 and len(set(tokens)) == 2
    total = sum(
        trainer.learner.loss(fresh(**batch), one) * count
        for batch, one, count in zip(batches, labels, tokens, strict=True)
    )
    (total / sum(tokens)).backward()
    wanted = [one.grad for one in fresh.parameters() if one.grad is not None]
    for got, right in zip(seen.found, wanted, strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("limit", [0.0, 1e-3])
def test_long_gradients_are_cut(tmp_path, limit):
    seen = Gradients()
    trainer_of(tmp_path, [seen], steps=1, max_grad_norm=limit).train()
    norm = torch.linalg.vector_norm(torch.stack([one.norm() for one in seen.found]))
    assert norm == pytest.approx(1e-3, rel=1e-3) if limit else norm > 0.1


def test_epochs_say_how_long(tmp_path):
    trainer = trainer_of(tmp_path, steps=None, epochs=1.5, accumulate=2)
    trainer.train()
    assert trainer.state.max_steps == math.ceil(1.5 * math.ceil(len(trainer.batches) / 2))


def test_order_has_a_seed_of_its_own(tmp_path):
    orders = {}
    for name, seeds in {"one": {}, "other": {"order_seed": 7}, "both": {"seed": 7}}.items():
        trainer = trainer_of(tmp_path, **seeds)
        first = next(iter(trainer.model.parameters())).detach().clone()
        orders[name] = (list(trainer.batches), first)
    assert orders["one"][0] != orders["other"][0] == orders["both"][0]
    assert torch.equal(orders["one"][1], orders["other"][1])
    assert not torch.equal(orders["one"][1], orders["both"][1])


def test_bfloat16_stays_near_float32_and_is_scored_without(tmp_path):
    (tmp_path / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    losses = {}
    for bfloat16 in (False, True):
        settings = {"steps": 25, "bfloat16": bfloat16, "lr": 0.003}
        task = make_task(
            tmp_path,
            model={"dropout": 0.0},
            training=settings,
            mode={"encoder": "mine.py:relative"},
        )
        result = train(task, tmp_path / str(bfloat16), progress=False)
        losses[bfloat16] = [line["loss"] for line in log_of(result.folder) if "loss" in line]
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=5e-3)
    assert all(one.dtype == torch.float32 for one in weights_of(result.folder).values())
    assert evaluate_run(result.folder).metrics() == result.metrics["test"]
