"""Texts into texts, by an encoder and a decoder: translation and summarisation.

Leaves to others: what surrounds generation, such as caches and beams (transformers).
"""

import abc
import re
import statistics
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
)

from regard.data.record import Record
from regard.learners.batches import Collate, Example
from regard.learners.learner import Learner
from regard.learners.tokenizer import END, PAD
from regard.learners.whole import load_whole
from regard.tasks.kind_settings import WritingSettings
from regard.tasks.kinds import SummarisationTask

# Which entries of transformers' configuration of generation speak of single tokens.
_OF_TOKENS = ("_token_id", "bad_words_ids", "suppress_tokens")
_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+|\n+")


class SequenceLearner(Learner):
    """Texts into texts.

    Attributes:
        fields: The field that is read, and the one that is written.
        start: The token that starts the decoder; padding, unless `build` read a model that starts
            otherwise.
    """

    fields: ClassVar[tuple[str, str]]
    start: int | None = None

    @staticmethod
    @abc.abstractmethod
    def fair_length(source: int) -> int:
        """Return how many tokens are enough for any fair answer.

        Args:
            source: Tokens of what is read.

        Returns:
            An answer that has not ended by then never will.
        """

    @property
    def shape(self) -> WritingSettings:
        """What the task says of the model."""
        assert isinstance(self.task.model, WritingSettings)
        return self.task.model

    def build(self) -> PreTrainedModel:
        """Return an untrained Marian model, or the pretrained one."""
        if self.shape.pretrained is None:
            return MarianMTModel(self._config())
        model = load_whole(self.task, AutoModelForSeq2SeqLM)
        if model.config.decoder_start_token_id is None:
            model.config.decoder_start_token_id = self.pad
        self.start = model.config.decoder_start_token_id
        model.generation_config = _marks(model.generation_config, self.start)
        return model

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return `input_ids` of what is read, and `labels` of what is written."""
        if not rows:
            return []
        read, written = self.fields
        texts = [self.shape.prefix + row.values[read] for row in rows]
        examples: list[Example] = [{"input_ids": ids} for ids in self._read_ids(texts)]
        if learning:
            right = [row.values[written] for row in rows]
            labels: Any = self.tokenizer(text_target=right)["input_ids"]
            for example, ids in zip(examples, labels, strict=True):
                example["labels"] = ids
        for example, row in zip(examples, rows, strict=True):
            for ids in example.values():
                self.check_length(ids, row)
        return examples

    def _read_ids(self, texts: list[str]) -> Any:
        return self.tokenizer(texts)["input_ids"]

    @property
    def collate(self) -> Collate:
        """Batches with the decoder's inputs."""
        return Collate(
            {"input_ids": self.pad}, start=self.pad if self.start is None else self.start
        )

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[str]:
        """Write answers, by as many beams as the task says, with the model's cache."""
        longest = batch["input_ids"].shape[1]
        rows = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            # The decoder's start counts as well.
            max_length=1 + self.most_tokens(longest),
            num_beams=self.shape.beams,
            do_sample=False,
        )
        lengths = batch["attention_mask"].sum(1).tolist()
        # A text's own bound, whatever longer neighbours were allowed to write.
        own = [
            row[: 1 + self.most_tokens(length)] for row, length in zip(rows, lengths, strict=True)
        ]
        return [str(self.tokenizer.decode(row, skip_special_tokens=True)) for row in own]

    def most_tokens(self, source: int) -> int:
        """Return how many tokens an answer may have.

        Args:
            source: Tokens of what is read.

        Returns:
            What the task says, or what is fair; never more than the model reads.
        """
        longest = self.shape.longest
        return min(self.fair_length(source) if longest is None else longest, self.limit - 1)

    def record(self, row: Record, answer: str) -> dict[str, Any]:
        """Keep what is read, what is right and the answer."""
        read, written = (row.values[name] for name in self.fields)
        return {"input": read, "reference": written, "prediction": answer}

    def _config(self) -> MarianConfig:
        shape, known = self.shape, self.tokenizer.get_vocab()
        return MarianConfig(
            vocab_size=len(self.tokenizer),
            d_model=shape.width,
            encoder_layers=shape.layers,
            decoder_layers=shape.layers,
            encoder_attention_heads=shape.heads,
            decoder_attention_heads=shape.heads,
            encoder_ffn_dim=shape.ffn,
            decoder_ffn_dim=shape.ffn,
            dropout=shape.dropout,
            attention_dropout=0.0,
            activation_function="relu",
            max_position_embeddings=shape.positions,
            # Marian's small weights times √width: with larger ones a small model learns no
            # alignment.
            scale_embedding=True,
            pad_token_id=known[PAD],
            eos_token_id=known[END],
            bos_token_id=None,
            decoder_start_token_id=known[PAD],
            forced_eos_token_id=None,
        )


class TranslationLearner(SequenceLearner):
    """Texts into texts of another language."""

    fields: ClassVar[tuple[str, str]] = ("source", "target")
    baseline_name: ClassVar[str] = "copying the source"

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield both texts: the languages share one vocabulary."""
        yield record.values["source"]
        yield record.values["target"]

    @staticmethod
    def fair_length(source: int) -> int:
        """Return twice as many tokens and some."""
        return 2 * source + 8

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[str]:
        """Copy each source."""
        return [row.values["source"] for row in rows]


class SummarisationLearner(SequenceLearner):
    """Long texts into short ones."""

    fields: ClassVar[tuple[str, str]] = ("text", "summary")
    baseline_name: ClassVar[str] = "the first sentences"

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield the text and its summary."""
        yield record.values["text"]
        yield record.values["summary"]

    @staticmethod
    def fair_length(source: int) -> int:
        """Return half as many tokens and some."""
        return source // 2 + 32

    def _read_ids(self, texts: list[str]) -> Any:
        """Cut texts to what the model reads: what matters most tends to come first."""
        return self.tokenizer(texts, truncation=True, max_length=self.limit)["input_ids"]

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[str]:
        """Give the first sentences, as many as training summaries have (lead-n)."""
        counts = [len(sentences(row.values["summary"])) for row in train]
        count = round(statistics.median(counts)) if counts else 1
        return [" ".join(sentences(row.values["text"])[:count]) for row in rows]

    @property
    def options(self) -> dict[str, Any]:
        """Whether ROUGE compares stems."""
        assert isinstance(self.task, SummarisationTask)
        return self.task.metrics.model_dump()


def _marks(config: GenerationConfig, start: int | None) -> GenerationConfig:
    """Return the marks that a model writes by.

    How it wrote for another task, how long and by how many beams, is none of this one's.

    Args:
        config: That of the other task.
        start: The token that starts the decoder.

    Returns:
        Likewise, with nothing but what is said of single tokens.
    """
    kept = {name: one for name, one in config.to_dict().items() if name.endswith(_OF_TOKENS)}
    return GenerationConfig(**{**kept, "decoder_start_token_id": start})


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, by the marks that end them.

    Args:
        text: A text.

    Returns:
        Sentences in order, none of them empty.
    """
    return [one for one in _SENTENCE_END.split(text.strip()) if one]
