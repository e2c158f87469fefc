"""Texts into texts: translation, by an encoder and a decoder."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from torch import Tensor
from transformers import MarianConfig, MarianMTModel, PreTrainedModel

from regard.data.record import Record
from regard.learners.batches import Collate, Example
from regard.learners.learner import Learner
from regard.learners.tokenizer import END, PAD


def most_tokens(source: int, limit: int) -> int:
    """Return how many tokens a translation may have.

    Args:
        source: Tokens of its source.
        limit: The most tokens the model reads.

    Returns:
        Enough for any fair translation; one that has not ended by then never will.
    """
    return min(2 * source + 8, limit - 1)


class TranslationLearner(Learner):
    """Texts into texts of another language."""

    baseline_name: ClassVar[str] = "copying the source"

    @staticmethod
    def texts_of(record: Record) -> Iterator[str]:
        """Yield both texts: the languages share one vocabulary."""
        yield record.values["source"]
        yield record.values["target"]

    def build(self) -> PreTrainedModel:
        """Return an untrained Marian model."""
        return MarianMTModel(self._config())

    def encode(self, rows: Sequence[Record], learning: bool = True) -> list[Example]:
        """Return `input_ids` of the sources, and `labels` of the targets."""
        named = {"input_ids": "source", **({"labels": "target"} if learning else {})}
        columns: dict[str, Any] = {
            name: self.tokenizer([row.values[field] for row in rows])["input_ids"] if rows else []
            for name, field in named.items()
        }
        for ids in columns.values():
            for row, one in zip(rows, ids, strict=True):
                self.check_length(one, row)
        return [dict(zip(columns, ids, strict=True)) for ids in zip(*columns.values(), strict=True)]

    @property
    def collate(self) -> Collate:
        """Batches with the decoder's inputs; padding also starts the decoder, as Marian does."""
        return Collate({"input_ids": self.pad}, start=self.pad)

    def read(self, model: Any, batch: dict[str, Tensor]) -> list[str]:
        """Write translations, each by its most likely next token, with the model's cache."""
        longest = batch["input_ids"].shape[1]
        rows = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            # The decoder's start counts as well.
            max_length=1 + most_tokens(longest, self.limit),
            num_beams=1,
            do_sample=False,
        )
        lengths = batch["attention_mask"].sum(1).tolist()
        # A text's own bound, whatever longer neighbours were allowed to write.
        own = [
            row[: 1 + most_tokens(length, self.limit)]
            for row, length in zip(rows, lengths, strict=True)
        ]
        return [str(self.tokenizer.decode(row, skip_special_tokens=True)) for row in own]

    def record(self, row: Record, answer: str) -> dict[str, Any]:
        """Keep the source, the target and the translation."""
        values = row.values
        return {"input": values["source"], "reference": values["target"], "prediction": answer}

    def baseline(self, train: Sequence[Record], rows: Sequence[Record]) -> list[str]:
        """Copy each source."""
        return [row.values["source"] for row in rows]

    def _config(self) -> MarianConfig:
        shape, known = self.task.model, self.tokenizer.get_vocab()
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
