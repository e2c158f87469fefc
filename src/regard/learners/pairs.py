"""A label or a score for two texts, which one encoder reads together."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from regard.data.record import Record
from regard.learners.batches import Collate, Example
from regard.learners.encoders import text_model
from regard.learners.learner import Learner
from regard.learners.text_model import TextModel
from regard.learners.tokenizer import train_word_tokenizer
from regard.learners.words import words_of
from regard.tasks.kinds import Task


class PairLearner(Learner):
    """A label for two texts."""

    model_class: ClassVar[type | None] = TextModel
    baseline_name: ClassVar[str] = "the most frequent label"

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield both texts."""
        yield record.values["first"]
        yield record.values["second"]

    @classmethod
    def make_tokenizer(cls, task: Task, texts: Iterable[str]) -> PreTrainedTokenizerBase:
        """Learn subwords that tell two texts apart.

        Args:
            task: The task.
            texts: Those of the training records.

        Returns:
            The tokenizer.
        """
        return train_word_tokenizer(texts, task.tokenizer.size)

    def build(self) -> TextModel:
        """Return an encoder with one output a label."""
        return text_model(self.task, self.tokenizer, self.labels, self.pad)

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return `input_ids` of both texts, the longer cut first, and what is right in `labels`."""
        if not rows:
            return []
        first, second = ([row.values[name] for row in rows] for name in ("first", "second"))
        found = self.tokenizer(first, second, truncation=True, max_length=self.limit)
        examples: list[Example] = columns_of(found)
        if learning:
            for example, row in zip(examples, rows, strict=True):
                example["labels"] = self._right(row)
        return examples

    def _right(self, row: Record) -> int | float:
        return self.labels.index(row.values["label"])

    @property
    def collate(self) -> Collate:
        """Batches that say which of the two texts a token is of."""
        return Collate({"input_ids": self.pad, "token_type_ids": 0})

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[Any]:
        """Return the likeliest label of each pair."""
        return [self.labels[place] for place in model(**batch).logits.argmax(-1).tolist()]

    def record(self, row: Record, answer: Any) -> dict[str, Any]:
        """Keep both texts, what is right and the answer."""
        values = row.values
        right = values["score"] if "score" in values else values["label"]
        return {
            "input": [values["first"], values["second"]],
            "reference": right,
            "prediction": answer,
        }

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[Any]:
        """Say the most frequent label each time."""
        counts = Counter(row.values["label"] for row in train)
        return [counts.most_common(1)[0][0]] * len(rows)

    @property
    def options(self) -> dict[str, Any]:
        """All labels, so that those never seen count as well."""
        return {"labels": list(self.labels)}


class ScoredPairLearner(PairLearner):
    """A score for two texts."""

    baseline_name: ClassVar[str] = "words in common"
    squares: ClassVar[bool] = True

    def build(self) -> TextModel:
        """Return an encoder with one output."""
        return text_model(self.task, self.tokenizer, self.outputs, self.pad)

    @property
    def outputs(self) -> int:
        """The score."""
        return 1

    def _right(self, row: Record) -> float:
        return row.values["score"]

    def loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        """Return the mean squared error.

        Args:
            outputs: Of the model, with `logits` (B, 1).
            labels: (B,), scores.
            num_items_in_batch: What to divide by where a batch comes in parts; None: the labels.

        Returns:
            A scalar.
        """
        total = (outputs.logits[:, 0] - labels).square().sum()
        return total / (labels.numel() if num_items_in_batch is None else num_items_in_batch)

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[float]:
        """Return the score of each pair."""
        return model(**batch).logits[:, 0].tolist()

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[float]:
        """Fit the scores by a line in the share of words that both texts have."""
        shares = [[1.0, _share(row)] for row in train]
        scores = [row.values["score"] for row in train]
        line, *_ = np.linalg.lstsq(np.array(shares), np.array(scores), rcond=None)
        return [float(line @ [1.0, _share(row)]) for row in rows]

    @property
    def options(self) -> dict[str, Any]:
        """None: scores are numbers."""
        return {}


def columns_of(found: Any) -> list[Example]:
    """Return what a tokenizer found, an example a text, as far as encoders read it.

    Args:
        found: What it returned.

    Returns:
        `input_ids`, and `token_type_ids` where the tokenizer gives them.
    """
    names = [name for name in ("input_ids", "token_type_ids") if name in found]
    rows = zip(*(found[name] for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def _share(row: Record) -> float:
    first, second = (set(words_of(row.values[name])) for name in ("first", "second"))
    return len(first & second) / max(len(first | second), 1)
