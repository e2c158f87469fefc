"""A label for each text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor

from regard.data.record import Record
from regard.learners.batches import Example
from regard.learners.encoders import text_model
from regard.learners.learner import Learner
from regard.learners.text_model import TextModel


class ClassificationLearner(Learner):
    """A label for each text."""

    model_class: ClassVar[type | None] = TextModel
    baseline_name: ClassVar[str] = "the most frequent label"

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield the text."""
        yield record.values["text"]

    def build(self) -> TextModel:
        """Return an encoder with one output a label."""
        return text_model(self.task, self.tokenizer, self.labels, self.pad)

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return `input_ids`, cut to what the model reads, and the label's number in `labels`."""
        if not rows:
            return []
        texts = [row.values["text"] for row in rows]
        ids = self.tokenizer(texts, truncation=True, max_length=self.limit)["input_ids"]
        examples: list[Example] = [{"input_ids": one} for one in ids]
        if learning:
            number = {label: place for place, label in enumerate(self.labels)}
            for example, row in zip(examples, rows, strict=True):
                example["labels"] = number[row.values["label"]]
        return examples

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[str]:
        """Return the likeliest label of each text."""
        return [self.labels[place] for place in model(**batch).logits.argmax(-1).tolist()]

    def record(self, row: Record, answer: str) -> dict[str, Any]:
        """Keep the text, its label and the answer."""
        return {
            "input": row.values["text"],
            "reference": row.values["label"],
            "prediction": answer,
        }

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[str]:
        """Say the most frequent label each time."""
        counts = Counter(row.values["label"] for row in train)
        return [counts.most_common(1)[0][0]] * len(rows)

    @property
    def options(self) -> dict[str, Any]:
        """All labels, so that those never seen count as well."""
        return {"labels": list(self.labels)}
