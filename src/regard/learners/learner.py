"""What a kind of task does with a model: makes it, feeds it, judges it, reads its answers.

A new kind is one subclass, and one entry in `kinds`. Leaves to others: the data (`data`), what
answers are worth (`metrics`), the training loop and the run folder (`train`).
"""

import abc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regard.data.record import Record
from regard.errors import DataError
from regard.learners.batches import IGNORED, Collate, Example, alike
from regard.learners.tokenizer import train_tokenizer
from regard.metrics import records
from regard.tasks.kinds import Task

# Rows answered at once.
BATCH = 64


class Learner(abc.ABC):
    """What a kind of task does with a model.

    Attributes:
        task: The task.
        tokenizer: Its subwords.
        labels: All labels or tags, in the order of the model's outputs; empty without any.
        model_class: How a saved model is read: a class, or None for the one that was saved.
        baseline_name: What the baseline does, for reports.
        class_weights: What errors in each label count, (C,); None: all the same.
    """

    model_class: ClassVar[type | None] = None
    baseline_name: ClassVar[str]
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
