"""Hugging Face's trainer, with a learner's batches, its loss and its validation scores."""

import math
from pathlib import Path
from typing import Any

import torch
from accelerate.data_loader import DataLoaderShard
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import EvalLoopOutput

from regard.data.record import Record
from regard.data.split import Splits
from regard.errors import TaskError
from regard.learners.batches import Batches, EpochExamples
from regard.learners.evaluation import records_of, values_of
from regard.learners.guides import GUIDES, GuidedCollate, add_guides
from regard.learners.joint_model import UNCERTAINTIES
from regard.learners.learner import Learner, evaluating
from regard.metrics.records import measures_of
from regard.tasks.settings import TrainingSettings
from regard.train import processes
from regard.train.checkpoint import (
    check_names,
    check_numbers,
    check_optimiser,
    loading,
    writing,
)
from regard.train.processes import CollateShare, SharedBatches
from regard.train.r_drop import RDrop, twice
from regard.train.regularise import Regularisers
from regard.train.selection import VALID, Selection
from regard.train.tuning import Tuning

# Draws of one process and seed are none of another's.
_MANY_PROCESSES = 1_000_003
# Steps of warm-up beyond which more of them are no advice.
_LONG_WARMUP = 1000
_OPTIMISERS = {"adamw": "adamw_torch_fused", "adafactor": "adafactor", "sgd": "sgd"}
_SCHEDULES = {
    "linear": "linear",
    "cosine": "cosine",
    "constant": "constant_with_warmup",
    "inverse_sqrt": "inverse_sqrt",
}


class LearnerTrainer(Trainer):
    """A trainer whose batches are drawn by a budget of tokens, and which scores real answers.

    Attributes:
        batches: Draws the training batches.
        learner: Knows the task.
        tuning: Knows what is trained.
        valid: The validation rows.
        selection: Knows when training ends, and with what.
        regularisers: What attention should do, as terms of the loss.
    """

    batches: Batches
    learner: Learner
    tuning: Tuning
    valid: list[Record]
    selection: Selection
    regularisers: Regularisers

    def get_train_dataloader(self) -> Any:
        """Return the training batches.

        Returns:
            A loader that draws this process's rows of `batches`, told its epoch by the trainer.
        """
        dataset: Any = self.train_dataset
        collate: Any = self.data_collator
        return DataLoaderShard(
            dataset,
            device=self.args.device,
            batch_sampler=SharedBatches(self.batches),
            collate_fn=CollateShare(collate, dataset[0]),
        )

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """Return the validation batches.

        Args:
            eval_dataset: Other rows; None: the validation rows.

        Returns:
            A loader of all of them, alike in every process.
        """
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        batches = list(self.learner.alike(dataset, self.args.eval_batch_size))
        return DataLoader(dataset, batch_sampler=batches, collate_fn=self.data_collator)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Return the loss of a training batch, with what attention should do.

        Args:
            model: The model.
            inputs: The batch.
            return_outputs: Whether the model's outputs are wanted too.
            num_items_in_batch: What the loss is divided by.

        Returns:
            The loss, or the loss and the outputs.
        """
        if self.learner.task.training.r_drop:
            inputs = twice(inputs)
        if not (self.regularisers and model.training):
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        called = {name: value for name, value in inputs.items() if name != GUIDES}
        with self.regularisers.watch(inputs, 1 / self.current_gradient_accumulation_steps) as seen:
            loss, outputs = super().compute_loss(model, called, True, num_items_in_batch)
        total = seen.add(loss)
        return (total, outputs) if return_outputs else total

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log numbers; the losses of tasks and each term of attention apart.

        Args:
            logs: What the trainer measured.
            *args: As the trainer's own.
            **kwargs: Likewise.
        """
        apart = {}
        if "loss" in logs:
            apart = self.regularisers.means() if self.regularisers else {}
            apart |= self._learned()
        super().log({**logs, **apart}, *args, **kwargs)

    def get_decay_parameter_names(self, model: Any) -> list[str]:
        """Return which weights decay.

        Args:
            model: The model.

        Returns:
            Names; the uncertainties of tasks are none of them.
        """
        names = super().get_decay_parameter_names(model)
        return [name for name in names if not name.startswith(UNCERTAINTIES)]

    def _learned(self) -> dict[str, float]:
        """Return what the learner says of training, over all processes."""
        told = processes.gathered(self.learner.learned())
        found: dict[str, tuple[float, float]] = {}
        for one in told:
            for name, (total, items) in one.items():
                before, count = found.get(name, (0.0, 0.0))
                found[name] = before + total, count + items
        return {name: total / items for name, (total, items) in found.items() if items}

    def evaluation_loop(self, dataloader: DataLoader, *_: Any, **__: Any) -> EvalLoopOutput:
        """Return the loss of the validation rows, and the metrics of what the model answers.

        Processes share the work; all come to the same numbers.

        Args:
            dataloader: The validation batches.

        Returns:
            As the trainer's own, with metrics named `eval_NAME`.
        """
        model: Any = self.model
        with evaluating(model):
            losses = processes.joined(
                [self._losses_of(batch) for batch in processes.share(list(dataloader))]
            )
        answers = processes.joined(self.learner.answer(model, processes.share(self.valid)))
        records = records_of(self.learner, self.valid, answers)
        (measures,) = measures_of(self.learner.task.task, [records], self.learner.options)
        found = {**self.learner.summarise(losses), **values_of(measures)}
        metrics = {f"{VALID}{name}": value for name, value in found.items()}
        return EvalLoopOutput(None, None, metrics, len(self.valid))  # type: ignore[arg-type]

    def _losses_of(self, batch: dict[str, Tensor]) -> dict[str, float]:
        inputs: dict[str, Any] = self._prepare_inputs(batch)
        labels = inputs.pop("labels")
        model: Any = self.model
        return self.learner.measure(model(**inputs), labels)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """Return the length of the gradient, which all processes have alike; refuse to go on."""
        found = super()._get_grad_norm(model, grad_norm)
        if found is not None and not math.isfinite(float(found)):
            raise _diverged(self.state.global_step + 1, self.learner.task.training)
        return found

    def load_weights(self, checkpoint: Path) -> None:
        """Take the weights of a checkpoint.

        Args:
            checkpoint: Its folder.
        """
        self._load_from_checkpoint(str(checkpoint))
        with loading(checkpoint):
            self.tuning.load_state(checkpoint)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        with writing(Path(str(self.args.output_dir)) / f"checkpoint-{self.state.global_step}"):
            super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._loaded = Path(resume_from_checkpoint)
        with loading(self._loaded):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            filled: Any = model or self.model
            check_numbers(filled, self._loaded)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        missing, surplus = load_result.missing_keys, load_result.unexpected_keys
        model: Any = self.model
        check_names(model, missing, surplus, self._loaded)

    def _load_scaler(self, checkpoint: str | None) -> None:
        """Read nothing: no run computes in float16, whose gradients alone are scaled."""

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with loading(Path(checkpoint or "")):
            super()._load_rng_state(checkpoint)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        self.tuning.save_state(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        with loading(Path(checkpoint)):
            super()._load_optimizer_and_scheduler(checkpoint)
            optimiser: Any = self.optimizer
            check_optimiser(optimiser, Path(checkpoint))
            self.tuning.load_state(Path(checkpoint))


def _diverged(step: int, settings: TrainingSettings) -> TaskError:
    advice = [f"a lower training.lr than {settings.lr:g}"]
    if settings.warmup < _LONG_WARMUP:
        advice.append(f"a longer training.warmup than {settings.warmup}")
    if not settings.max_grad_norm:
        advice.append("training.max_grad_norm: 1")
    if settings.bfloat16:
        advice.append("training.bfloat16: false")
    return TaskError(
        f"the training diverged: in step {step} the gradient is no longer finite; begin another "
        f"run with {' or '.join(advice)}"
    )


def build_trainer(
    learner: Learner,
    tuning: Tuning,
    splits: Splits[Record],
    checkpoints: Path,
    callbacks: list[TrainerCallback],
    selection: Selection,
) -> LearnerTrainer:
    """Put a trainer together.

    Args:
        learner: How to feed and judge the model.
        tuning: What to train of which model.
        splits: What to train on, and what to watch.
        checkpoints: Where checkpoints go.
        callbacks: Who else is told of each step.
        selection: Knows when training ends, and with what.

    Returns:
        The trainer.
    """
    settings = learner.task.training
    examples, watched = learner.encode(splits.train), learner.encode(splits.valid)
    if guides := learner.task.attention.guides:
        add_guides(learner, splits.train, examples, guides)
    # Alike in length, so that little is padded when they are scored.
    watched.sort(key=lambda example: len(example["input_ids"]))
    watched = [learner.vary(example, f"valid {k}") for k, example in enumerate(watched)]
    learner.weigh(examples)
    loss = RDrop(learner.loss, settings.r_drop) if settings.r_drop else learner.loss
    order = settings.seed if settings.order_seed is None else settings.order_seed
    batches = learner.batches(examples, order)
    trainer = LearnerTrainer(
        model=tuning.model,
        args=_arguments(settings, checkpoints, selection, learner.batch, watching=bool(watched)),
        data_collator=GuidedCollate(learner.collate),
        train_dataset=EpochExamples(examples, batches, learner.vary),
        eval_dataset=watched or None,  # type: ignore[arg-type]
        compute_loss_func=tuning.loss(loss),
        callbacks=[selection, *callbacks, *tuning.watchers],
    )
    trainer.learner, trainer.valid, trainer.selection = learner, splits.valid, selection
    trainer.tuning, trainer.regularisers = tuning, Regularisers(learner, tuning.model)
    trainer.batches = batches
    trainer.remove_callback(PrinterCallback)
    if processes.rank():
        set_seed(settings.seed * _MANY_PROCESSES + processes.rank())
    return trainer


def _arguments(
    settings: TrainingSettings,
    checkpoints: Path,
    selection: Selection,
    batch: int,
    *,
    watching: bool,
) -> TrainingArguments:
    # On CPUs both must be asked for by name.
    asks = settings.bfloat16 or processes.count() > 1
    eval_every = (settings.eval_every or None) if watching else None
    return TrainingArguments(
        output_dir=str(checkpoints),
        max_steps=settings.steps or -1,
        num_train_epochs=settings.epochs or 1,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.lr,
        lr_scheduler_type=_SCHEDULES[settings.schedule],
        warmup_steps=settings.warmup,
        optim=_OPTIMISERS[settings.optimiser],
        optim_args=f"momentum={settings.momentum}" if settings.optimiser == "sgd" else None,
        adam_beta1=settings.betas[0],
        adam_beta2=settings.betas[1],
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=settings.bfloat16,
        use_cpu=asks and not torch.cuda.is_available(),
        seed=settings.seed,
        # What is not finite ends the training.
        logging_nan_inf_filter=False,
        logging_steps=min(25, settings.steps or 25),
        save_strategy="steps",
        save_steps=settings.save_every,
        # The best one stays beside the last two.
        save_total_limit=3 if settings.keep == "best" else 2,
        metric_for_best_model=settings.watch if settings.keep == "best" else None,
        greater_is_better=selection.rising if settings.keep == "best" else None,
        eval_strategy="steps" if eval_every else "no",
        eval_steps=eval_every,
        per_device_eval_batch_size=batch,
        # Not every model has an argument of this name, by which the trainer would know.
        label_names=["labels"],
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
    )
