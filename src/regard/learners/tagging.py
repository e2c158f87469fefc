"""A tag for each token."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor

from regard.data.check_rows import is_span_scheme
from regard.data.record import Record
from regard.learners.batches import IGNORED, Example
from regard.learners.encoders import text_model
from regard.learners.learner import Learner
from regard.learners.text_model import TextModel
from regard.learners.tokenizer import words_as_in_texts

# Where a token begins that has no subword, and what it is then taken for.
_NOWHERE, _OUTSIDE = -1, "O"


class TaggingLearner(Learner):
    """A tag for each token; the first subword of a token has its tag."""

    model_class: ClassVar[type | None] = TextModel
    baseline_name: ClassVar[str] = "each token's most frequent tag"

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield the tokens as one text."""
        yield " ".join(record.values["tokens"])

    def build(self) -> TextModel:
        """Return an encoder with one output a tag for each subword."""
        return text_model(self.task, self.tokenizer, self.labels, self.pad)

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return `input_ids`, and tags in `labels` or the places where tokens begin in `first`."""
        if not rows:
            return []
        number = {tag: place for place, tag in enumerate(self.labels)}
        found = self.tokenizer(
            words_as_in_texts(self.tokenizer, [row.values["tokens"] for row in rows]),
            is_split_into_words=True,
        )
        examples: list[Example] = []
        for place, row in enumerate(rows):
            ids = found["input_ids"][place]
            self.check_length(ids, row)
            first = _first_subwords(found.word_ids(place), len(row.values["tokens"]))
            example: Example = {"input_ids": ids}
            if learning:
                tags = [number[tag] for tag in row.values["tags"]]
                example["labels"] = [IGNORED] * len(ids)
                for at, tag in zip(first, tags, strict=True):
                    # A token may have no subword, such as a lone accent.
                    if at != _NOWHERE:
                        example["labels"][at] = tag
            else:
                example["first"] = first
            examples.append(example)
        return examples

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[list[str]]:
        """Return the likeliest tag of each token."""
        first = batch["first"].tolist()
        logits = model(batch["input_ids"], batch["attention_mask"]).logits
        best = logits.argmax(-1).tolist()
        return [
            [self._tag(tags[at] if at != _NOWHERE else None) for at in places if at != IGNORED]
            for tags, places in zip(best, first, strict=True)
        ]

    def _tag(self, number: int | None) -> str:
        return _OUTSIDE if number is None else self.labels[number]

    def record(self, row: Record, answer: Sequence[str]) -> dict[str, Any]:
        """Keep the tokens, their tags and the answer."""
        return {
            "input": list(row.values["tokens"]),
            "reference": list(row.values["tags"]),
            "prediction": list(answer),
        }

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[list[str]]:
        """Give each token the tag it has most often, or else the most frequent one of all."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in train:
            for token, tag in zip(row.values["tokens"], row.values["tags"], strict=True):
                counts[token][tag] += 1
        most = sum(counts.values(), Counter()).most_common(1)[0][0]
        usual = {token: seen.most_common(1)[0][0] for token, seen in counts.items()}
        return [[usual.get(token, most) for token in row.values["tokens"]] for row in rows]

    @property
    def options(self) -> dict[str, Any]:
        """How tags mark spans."""
        return {"scheme": "BIO" if is_span_scheme(set(self.labels)) else "plain"}


def _first_subwords(words: Sequence[int | None], count: int) -> list[int]:
    """Return where each of `count` tokens begins among subwords, `_NOWHERE` if it has none."""
    first = [_NOWHERE] * count
    for place, word in enumerate(words):
        if word is not None and first[word] == _NOWHERE:
            first[word] = place
    return first
