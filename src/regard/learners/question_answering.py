"""The answer to a question, found in a text of any length.

A text too long for the model is read in windows that overlap by half. A window that lacks the
answer is taught to point at its first token, and so is one without an answer.
Source: Devlin et al., "BERT", 2019, section 4.3.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import TokenClassifierOutput

from regard.data.fields import Answer
from regard.data.record import Record
from regard.errors import DataError
from regard.learners.batches import Collate, Example
from regard.learners.choices import choice_loss
from regard.learners.encoders import text_model
from regard.learners.learner import Learner
from regard.learners.nearby import find_nearby, usual_length
from regard.learners.pairs import columns_of
from regard.learners.text_model import TextModel
from regard.learners.tokenizer import train_word_tokenizer
from regard.tasks.data_settings import AnswerData
from regard.tasks.kind_settings import AnswerSettings
from regard.tasks.kinds import Task

# The place that says "not here", and the fewest tokens of a text that are worth a window.
_NOT_HERE, _FEWEST = 0, 8


class SpanModel(TextModel):
    """A text model whose two outputs a token say where an answer starts and where it ends."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        allowed: Tensor | None = None,
        **_: Any,
    ) -> TokenClassifierOutput:
        """Return how likely an answer starts and ends at each token.

        Args:
            input_ids: (B, N), whole numbers.
            attention_mask: (B, N), 0 where there is padding.
            token_type_ids: (B, N), 0 for the question, 1 for the text.
            allowed: (B, N), 1 where an answer may start or end; None: everywhere.

        Returns:
            `logits`, (B, 2, N): −∞ where no answer may be.
        """
        rows = super().forward(input_ids, attention_mask, token_type_ids=token_type_ids)
        found = rows.logits.transpose(1, 2)  # type: ignore[union-attr]
        if allowed is not None:
            found = found.masked_fill(allowed[:, None] == 0, float("-inf"))
        return TokenClassifierOutput(logits=found)


class Window(NamedTuple):
    """A part of a text that the model reads in one piece, with the question.

    Attributes:
        row: The number of its record.
        example: Tokens, and where an answer may be.
        spans: For each token its first character of the text and the one after its last.
    """

    row: int
    example: Example
    spans: list[tuple[int, int]]


class Found(NamedTuple):
    """The best answer of a window.

    Attributes:
        score: The sum of its logits.
        start: Its first token.
        end: Its last token.
        nothing: The same sum for there being none.
    """

    score: float
    start: int
    end: int
    nothing: float


class QuestionAnsweringLearner(Learner):
    """The answer to a question, as a part of its context."""

    model_class: ClassVar[type | None] = SpanModel
    baseline_name: ClassVar[str] = "words near those asked for"

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield the question and the context."""
        yield record.values["question"]
        yield record.values["context"]

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

    def build(self) -> SpanModel:
        """Return an encoder with two outputs a token."""
        return text_model(self.task, self.tokenizer, self.outputs, self.pad, kind=SpanModel)

    @property
    def outputs(self) -> int:
        """The first token and the last."""
        return 2

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return the windows of contexts, each after its question, and answers in `labels`.

        Args:
            rows: Any number of records.
            learning: With the first and the last token of the first answer.

        Returns:
            One example a window, those of a record one after another.

        Raises:
            DataError: If a question leaves no room for its context.
        """
        examples = []
        for window in self._windows(rows):
            if learning:
                window.example["labels"] = _place_of(_first_answer(rows[window.row]), window)
            examples.append(window.example)
        return examples

    def _windows(self, rows: Sequence[Record]) -> list[Window]:
        return [window for number, row in enumerate(rows) for window in self._cut(number, row)]

    def _cut(self, number: int, row: Record) -> Iterator[Window]:
        tokenizer: Any = self.tokenizer
        question = row.values["question"]
        asked = len(tokenizer(question, add_special_tokens=False)["input_ids"])
        room = self.limit - asked - tokenizer.num_special_tokens_to_add(pair=True)
        if room < _FEWEST:
            raise DataError(
                f"{row.place}: the question has {asked} tokens, which leaves {max(room, 0)} of the "
                f"{self.limit} that the model reads for its context; shorten it or raise "
                "model.positions"
            )
        found = tokenizer(
            question, row.values["context"], truncation="only_second", max_length=self.limit,
            stride=room // 2, return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        for place, example in enumerate(columns_of(found)):
            allowed = [int(part == 1) for part in found.sequence_ids(place)]
            allowed[_NOT_HERE] = 1
            spans = [tuple(span) for span in found["offset_mapping"][place]]
            yield Window(number, {**example, "allowed": allowed}, spans)

    @property
    def collate(self) -> Collate:
        """Batches of windows; nothing may be answered from padding."""
        return Collate({"input_ids": self.pad, "token_type_ids": 0, "allowed": 0})

    def loss(self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        """Return the cross-entropy of choosing the first and the last token.

        Args:
            outputs: Of the model, with `logits` (B, 2, N).
            labels: (B, 2), places of tokens.
            num_items_in_batch: What to divide by where a batch comes in parts; None: the labels.

        Returns:
            A scalar.
        """
        smoothing = self.task.training.label_smoothing
        return choice_loss(
            outputs.logits.flatten(0, 1), labels.flatten(), smoothing, num_items_in_batch
        )

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[Found]:
        """Return the best answer of each window, however bad it is."""
        assert isinstance(self.task.model, AnswerSettings)
        starts, ends = model(**batch).logits.float().unbind(1)
        nothing = starts[:, _NOT_HERE] + ends[:, _NOT_HERE]
        sums = starts[:, 1:, None] + ends[:, None, 1:]
        short = torch.ones_like(sums[0], dtype=torch.bool).triu()
        short &= ~short.triu(self.task.model.answer_tokens)
        best, place = sums.masked_fill(~short, float("-inf")).flatten(1).max(1)
        width = sums.shape[2]
        first, last = 1 + place // width, 1 + place % width
        columns = (best.tolist(), first.tolist(), last.tolist(), nothing.tolist())
        return [Found(*one) for one in zip(*columns, strict=True)]

    def answer(self, model: PreTrainedModel, rows: Sequence[Record]) -> list[str]:
        """Return the best answer of all windows of each context.

        Args:
            model: The model.
            rows: Any number of records.

        Returns:
            A part of each context; "" where every window rather says that there is none, if the
            task has such questions.

        Raises:
            DataError: If a question leaves no room for its context.
        """
        assert isinstance(self.task.data, AnswerData)
        windows = self._windows(rows)
        found = self.read_all(model, [window.example for window in windows])
        best: dict[int, tuple[Found, Window]] = {}
        nothing: dict[int, float] = {}
        for window, one in zip(windows, found, strict=True):
            number = window.row
            if number not in best or one.score > best[number][0].score:
                best[number] = one, window
            nothing[number] = min(one.nothing, nothing.get(number, float("inf")))
        answers = []
        for number, row in enumerate(rows):
            one, window = best[number]
            silent = self.task.data.no_answer and nothing[number] > one.score
            if silent or one.score == float("-inf"):
                answers.append("")
                continue
            text = row.values["context"][window.spans[one.start][0] : window.spans[one.end][1]]
            answers.append(text.strip())
        return answers

    def record(self, row: Record, answer: str) -> dict[str, Any]:
        """Keep the question and its context, the right answers and the answer."""
        return {
            "input": [row.values["question"], row.values["context"]],
            "reference": [one.text for one in row.values["answers"]],
            "prediction": answer,
        }

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[str]:
        """Give the words around which most words of the question stand."""
        length = usual_length([one.text for row in train for one in row.values["answers"]])
        return [find_nearby(row.values["question"], row.values["context"], length) for row in rows]


def _first_answer(row: Record) -> tuple[int, int] | None:
    """Return the first character of the answer that is learned, and the one after its last."""
    answers: Sequence[Answer] = row.values["answers"]
    if not answers:
        return None
    text, start = answers[0]
    if start is None:
        start = row.values["start"]
    if start is None:
        start = row.values["context"].find(text)
    return start, start + len(text)


def _place_of(answer: tuple[int, int] | None, window: Window) -> list[int]:
    """Return the first and the last token of an answer; `_NOT_HERE` if the window lacks a part."""
    places = [k for k, one in enumerate(window.example["allowed"]) if one and k != _NOT_HERE]
    # A token without characters cannot begin or end anything.
    places = [k for k in places if window.spans[k][0] < window.spans[k][1]]
    if answer is None or not places:
        return [_NOT_HERE, _NOT_HERE]
    start, stop = answer
    if window.spans[places[0]][0] > start or window.spans[places[-1]][1] < stop:
        return [_NOT_HERE, _NOT_HERE]
    first = next(k for k in places if window.spans[k][1] > start)
    last = next(k for k in reversed(places) if window.spans[k][0] < stop)
    return [first, last]
