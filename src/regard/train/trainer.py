"""Hugging Face's trainer, with our batches, our loss and our validation scores."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from regard.data.split import Splits
from regard.metrics.translation import score
from regard.tasks.batches import IGNORED, PadExamples, TokenBudgetBatches, encode_pairs
from regard.tasks.data import Pair
from regard.tasks.kinds import Task
from regard.tasks.settings import TrainingSettings
from regard.tasks.translation import BATCH, most_tokens


class TranslationTrainer(Seq2SeqTrainer):
    """A trainer whose batches are drawn by a budget of tokens."""

    batches: TokenBudgetBatches

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


def build_trainer(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    splits: Splits[Pair],
    checkpoints: Path,
    callbacks: list[TrainerCallback],
) -> TranslationTrainer:
    """Put a trainer together.

    Args:
        task: How to train.
        model: What to train.
        tokenizer: Its tokenizer.
        splits: What to train on, and what to watch.
        checkpoints: Where checkpoints go.
        callbacks: Who else is told of each step.

    Returns:
        The trainer.
    """
    limit, settings = task.model.positions, task.training
    # Alike in length, so that little is padded when they are scored.
    valid = sorted(splits.valid, key=lambda pair: len(pair.source))
    examples = encode_pairs(splits.train, tokenizer, limit)
    watched = encode_pairs(valid, tokenizer, limit)
    longest = max((len(example["input_ids"]) for example in watched), default=0)
    trainer = TranslationTrainer(
        model=model,
        args=_arguments(settings, checkpoints, most_tokens(longest, limit) if valid else 0),
        data_collator=PadExamples(model.config.pad_token_id),
        train_dataset=examples,  # type: ignore[arg-type]
        eval_dataset=watched or None,  # type: ignore[arg-type]
        compute_loss_func=smoothed_loss(settings.label_smoothing),
        compute_metrics=_score_valid(tokenizer, valid),
        callbacks=callbacks,
    )
    trainer.batches = TokenBudgetBatches(examples, settings.batch_tokens, settings.seed)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(
    settings: TrainingSettings, checkpoints: Path, valid_tokens: int
) -> Seq2SeqTrainingArguments:
    eval_every = (settings.eval_every or None) if valid_tokens else None
    return Seq2SeqTrainingArguments(
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
        predict_with_generate=True,
        # The decoder's start counts as well.
        generation_max_length=1 + valid_tokens,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
    )


def smoothed_loss(smoothing: float) -> Callable[..., Tensor]:
    """Return the loss: cross-entropy with smoothed labels, averaged over all real tokens.

    Args:
        smoothing: Probability given to all tokens alike.

    Returns:
        A function of a model's outputs and labels (B, N), as the trainer calls it.
    """

    def loss(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        logits = outputs.logits.flatten(0, 1)
        total = F.cross_entropy(
            logits,
            labels.flatten(),
            ignore_index=IGNORED,
            label_smoothing=smoothing,
            reduction="sum",
        )
        return (
            total / labels.ne(IGNORED).sum()
            if num_items_in_batch is None
            else total / num_items_in_batch
        )

    return loss


def _score_valid(
    tokenizer: PreTrainedTokenizerBase, pairs: list[Pair]
) -> Callable[[EvalPrediction], dict[str, float]]:
    def scores(found: EvalPrediction) -> dict[str, float]:
        # Rows of different batches are padded with a number that is no token.
        rows = [[token for token in row if token >= 0] for row in found.predictions.tolist()]  # type: ignore[union-attr]
        written = tokenizer.batch_decode(rows, skip_special_tokens=True)
        return score(written, [pair.target for pair in pairs])._asdict()

    return scores
