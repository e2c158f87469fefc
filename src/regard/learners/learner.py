"""What a kind of task does with a model: makes it, feeds it, judges it, reads its answers.

A new kind is one subclass, and one entry in `kinds`. Leaves to others: the data (`data`), what
answers are worth (`metrics`), the training loop and the run folder (`train`).
"""

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regard.data.record import Record
from regard.errors import DataError, TaskError
from regard.learners.batches import IGNORED, Batches, Collate, Example, TokenBudgetBatches, alike
from regard.learners.class_weights import check_class_weights, class_weights
from regard.learners.tokenizer import train_tokenizer
from regard.metrics import records
from regard.tasks.kinds import Task

# Rows answered at once.
BATCH = 64
# The name of the loss of validation rows.
LOSS = "loss"


class Learner(abc.ABC):
    """What a kind of task does with a model.

    Attributes:
        task: The task.
        tokenizer: Its subwords.
        labels: All labels or tags, in the order of the model's outputs; empty without any.
        model_class: How a saved model is read: a class, or None for the one that was saved.
        part_class: What stands for the task on an encoder that several share; None: as
            `model_class`.
        baseline_name: What the baseline does, for reports.
        squares: Whether the loss is a squared error; if not, a negative log likelihood.
        class_weights: What errors in each label count, (C,); None: all the same.
    """

    model_class: ClassVar[type | None] = None
    part_class: ClassVar[type | None] = None
    baseline_name: ClassVar[str]
    squares: ClassVar[bool] = False
    class_weights: Tensor | None = None

    def __init__(
        self, task: Task, tokenizer: PreTrainedTokenizerBase, labels: Sequence[str] = ()
    ) -> None:
        """Remember what the task is about.

        Args:
            task: The task.
            tokenizer: Its subwords.
            labels: All labels or tags there are.
        """
        self.task, self.tokenizer, self.labels = task, tokenizer, tuple(labels)

    @staticmethod
    @abc.abstractmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Return the texts that subwords are learned from.

        Args:
            record: A training record.

        Returns:
            Its texts.
        """

    @classmethod
    def make_tokenizer(cls, task: Task, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """Learn the subwords of a new model.

        Args:
            task: The task.
            texts: Those of the training records.

        Returns:
            Subwords, as many as the task says at most.

        Raises:
            TaskError: If the task says too few.
        """
        return train_tokenizer(texts, task.tokenizer.size)

    def check(self) -> None:
        """Refuse settings of the task that do not fit its data.

        Raises:
            TaskError: If one does not; the message names it.
        """
        check_class_weights(self.task.training.class_weights, self.labels)

    @property
    def outputs(self) -> Sequence[str] | int:
        """What the outputs of the head mean, or how many there are if they are no labels."""
        return self.labels

    @abc.abstractmethod
    def build(self) -> PreTrainedModel:
        """Return the model that is to be trained; torch's seed decides what is new in it."""

    @abc.abstractmethod
    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return records as token ids.

        Args:
            rows: Any number of records.
            learning: With what is to be learned, under `labels`; otherwise with what `read` needs.

        Returns:
            One example a record; where texts are cut into pieces, as many as there are.

        Raises:
            DataError: If a record is longer than the model reads.
        """

    def vary(self, example: Example, seed: str) -> Example:
        """Return an example as one epoch sees it; without noise of its own, as it is.

        Args:
            example: One that `encode` returned with what is to be learned.
            seed: Of the noise; another one for each example and epoch.

        Returns:
            An example of the same length.
        """
        return example

    @abc.abstractmethod
    def read(self, model: Any, batch: dict[str, Tensor]) -> list[Any]:
        """Return what a model answers to a batch.

        Args:
            model: In evaluation mode.
            batch: What `collate` made of B examples without labels.

        Returns:
            B answers; a record's `prediction` as `metrics.records` has it.
        """

    @abc.abstractmethod
    def record(self, row: Record, answer: Any) -> records.Record:
        """Return what a run keeps of a test row.

        Args:
            row: What was asked.
            answer: What was answered.

        Returns:
            Its input, reference and prediction, as `metrics.records` describes them.
        """

    @abc.abstractmethod
    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[Any]:
        """Return what can be answered without a model.

        Args:
            train: The training records.
            rows: What is asked.

        Returns:
            One answer for each of `rows`.
        """

    def weigh(self, examples: Sequence[Example]) -> None:
        """Fix what errors in each label count.

        Args:
            examples: Those of the training records, with `labels`.
        """
        setting = self.task.training.class_weights
        self.class_weights = class_weights(setting, self.labels, examples)

    def batches(self, examples: Sequence[Example], seed: int) -> Batches:
        """Return what draws the training batches.

        Args:
            examples: Those of the training records.
            seed: Of their order.

        Returns:
            A sampler of places in `examples`.
        """
        return TokenBudgetBatches(examples, self.task.training.batch_tokens, seed)

    def alike(self, examples: Sequence[Example], rows: int) -> Iterator[list[int]]:
        """Cut examples into batches of like length, which can be collated.

        Args:
            examples: Any number.
            rows: Examples of a batch.

        Returns:
            Places in `examples`; each place once.
        """
        return alike(examples, rows)

    def only(self, name: str | None, model: PreTrainedModel) -> tuple["Learner", PreTrainedModel]:
        """Return one of the tasks that a run may join.

        Args:
            name: Of the task; None where a run has one.
            model: Of the run.

        Returns:
            What the task does with a model, and its model.

        Raises:
            TaskError: If there is no such task.
        """
        if name is not None:
            raise TaskError(f"--task {name}: this run has one task; leave it out")
        return self, model

    @property
    def options(self) -> dict[str, Any]:
        """Settings of the metrics, as `metrics.records.measures_of` takes them."""
        return {}

    @property
    def limit(self) -> int:
        """The most tokens the model reads."""
        return self.task.model.positions

    @property
    def batch(self) -> int:
        """How many examples are answered at once."""
        return BATCH

    @property
    def pad(self) -> int:
        """The token that fills up shorter texts."""
        pad: Any = self.tokenizer.pad_token_id
        return 0 if pad is None else int(pad)

    @property
    def collate(self) -> Collate:
        """What makes tensors of examples."""
        return Collate({"input_ids": self.pad})

    def loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        """Return the loss: cross-entropy with smoothed labels, averaged over what is to be learned.

        Args:
            outputs: Of the model, with `logits` (…, C).
            labels: (…), `IGNORED` where nothing is to be learned.
            num_items_in_batch: What to divide by where a batch comes in parts; None: the labels.

        Returns:
            A scalar.
        """
        logits, weights = outputs.logits, self.class_weights
        total = F.cross_entropy(
            logits.flatten(0, -2),
            labels.flatten(),
            weight=None if weights is None else weights.to(logits),
            ignore_index=IGNORED,
            label_smoothing=self.task.training.label_smoothing,
            reduction="sum",
        )
        return total / (
            labels.ne(IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        )

    @property
    def losses(self) -> list[str]:
        """The names of the losses of validation rows; the first is that of all."""
        return [LOSS]

    def measure(self, outputs: Any, labels: Tensor) -> dict[str, float]:
        """Return the losses of a validation batch.

        Args:
            outputs: Of the model.
            labels: As `loss` takes them.

        Returns:
            Numbers by name; those that `summarise` is given.
        """
        return {LOSS: self.loss(outputs, labels).item()}

    def summarise(self, measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Return the losses of all validation batches.

        Args:
            measured: What `measure` said of each.

        Returns:
            Each of `losses` that was measured.
        """
        return means_of(measured)

    def learned(self) -> dict[str, tuple[float, float]]:
        """Return what the log says of training beside the loss, and forget it.

        Returns:
            By name a sum since it was last asked, and over how many items.
        """
        return {}

    def answer(self, model: PreTrainedModel, rows: Sequence[Record]) -> list[Any]:
        """Return what a model answers.

        Args:
            model: The model; it is left in the mode, training or not, it was in.
            rows: Any number of records.

        Returns:
            One answer a record, in their order.

        Raises:
            DataError: If a record is longer than the model reads.
        """
        return self.read_all(model, self.encode(rows, learning=False))

    def read_all(self, model: PreTrainedModel, examples: Sequence[Example]) -> list[Any]:
        """Return what a model answers to examples.

        Args:
            model: The model; it is left in the mode, training or not, it was in.
            examples: Any number, without labels for the model.

        Returns:
            What `read` says of each, in their order.
        """
        found: list[Any] = [None] * len(examples)
        with evaluating(model):
            for places in alike(examples, self.batch):
                batch = self.collate([examples[place] for place in places])
                on_device = {name: value.to(model.device) for name, value in batch.items()}
                for place, one in zip(places, self.read(model, on_device), strict=True):
                    found[place] = one
        return found

    def check_length(self, ids: list[int], row: Record) -> None:
        """Refuse a row that the model cannot read in whole.

        Args:
            ids: Its tokens.
            row: The row.

        Raises:
            DataError: If there are more tokens than the model reads.
        """
        if len(ids) > self.limit:
            raise DataError(
                f"{row.place}: {len(ids)} tokens, but the model reads at most {self.limit}; "
                "shorten the text or lower data.max_words"
            )


def means_of(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number over the mappings that have it.

    Args:
        measured: Numbers by name.

    Returns:
        Means by name, in the order of their first appearance.
    """
    names = dict.fromkeys(name for one in measured for name in one)
    found = {name: [one[name] for one in measured if name in one] for name in names}
    return {name: sum(values) / len(values) for name, values in found.items()}


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Have a model in evaluation mode, without gradients, while this lasts.

    Args:
        model: The model.

    Yields:
        Nothing.
    """
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
