"""Hugging Face's trainer, with a learner's batches, its loss and its validation scores."""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from regard.data.record import Record
from regard.data.split import Splits
from regard.learners.batches import TokenBudgetBatches
from regard.learners.evaluation import records_of, values_of
from regard.learners.learner import BATCH, Learner
from regard.metrics.records import measures_of
from regard.tasks.settings import TrainingSettings

# How the trainer names a score of the validation rows.
VALID = "eval_"


class LearnerTrainer(Trainer):
    """A trainer whose batches are drawn by a budget of tokens, and which scores real answers.

    Attributes:
        batches: Draws the training batches.
        learner: Knows the task.
        valid: The validation rows.
    """

    batches: TokenBudgetBatches
    learner: Learner
    valid: list[Record]

    def get_train_dataloader(self) -> DataLoader:
        """Return the training batches.

        Returns:
            A loader that draws by `batches`, told its epoch by the trainer.
        """
        assert self.train_dataset is not None
        loader: DataLoader = DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_sampler=self.batches,
            collate_fn=self.data_collator,
        )
        return self.accelerator.prepare(loader)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Return the loss of the validation rows, and the metrics of what the model answers.

        Args:
            *args: As the trainer's own.
            **kwargs: Likewise.

        Returns:
            As the trainer's own, with metrics named `eval_NAME`.
        """
        kwargs["prediction_loss_only"] = True
        output = super().evaluation_loop(*args, **kwargs)
        assert isinstance(self.model, PreTrainedModel)
        answers = self.learner.answer(self.model, self.valid)
        records = records_of(self.learner, self.valid, answers)
        (measures,) = measures_of(self.learner.task.task, [records], self.learner.options)
        found = {f"{VALID}{name}": value for name, value in values_of(measures).items()}
        return output._replace(metrics={**(output.metrics or {}), **found})


def build_trainer(
    learner: Learner,
    model: PreTrainedModel,
    splits: Splits[Record],
    checkpoints: Path,
    callbacks: list[TrainerCallback],
) -> LearnerTrainer:
    """Put a trainer together.

    Args:
        learner: How to feed and judge the model.
        model: What to train.
        splits: What to train on, and what to watch.
        checkpoints: Where checkpoints go.
        callbacks: Who else is told of each step.

    Returns:
        The trainer.
    """
    settings = learner.task.training
    examples, watched = learner.encode(splits.train), learner.encode(splits.valid)
    # Alike in length, so that little is padded when they are scored.
    watched.sort(key=lambda example: len(example["input_ids"]))
    trainer = LearnerTrainer(
        model=model,
        args=_arguments(settings, checkpoints, watching=bool(watched)),
        data_collator=learner.collate,
        train_dataset=examples,  # type: ignore[arg-type]
        eval_dataset=watched or None,  # type: ignore[arg-type]
        compute_loss_func=learner.loss,
        callbacks=callbacks,
    )
    trainer.learner, trainer.valid = learner, splits.valid
    trainer.batches = TokenBudgetBatches(examples, settings.batch_tokens, settings.seed)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(
    settings: TrainingSettings, checkpoints: Path, *, watching: bool
) -> TrainingArguments:
    eval_every = (settings.eval_every or None) if watching else None
    return TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=settings.steps,
        learning_rate=settings.lr,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,
        optim="adamw_torch_fused",
        adam_beta2=0.98,
        weight_decay=0.01,
        seed=settings.seed,
        logging_steps=min(25, settings.steps),
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,
        eval_strategy="steps" if eval_every else "no",
        eval_steps=eval_every,
        per_device_eval_batch_size=BATCH,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
    )
