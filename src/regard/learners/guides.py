"""What rows say of attention, carried from words to subwords, and into the batches.

Leaves to others: reading it (`data`), the loss (`train`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from regard.data.guides import Guide, words_of
from regard.data.record import Record
from regard.learners.batches import IGNORED, Example
from regard.learners.learner import Learner
from regard.learners.tokenizer import words_as_in_texts

# The key of guides, in an example and in a batch.
GUIDES = "guides"


def add_guides(
    learner: Learner, rows: Sequence[Record], examples: Sequence[Example], names: set[str]
) -> None:
    """Add to examples what their rows say of attention.

    Args:
        learner: Made the examples.
        rows: What they were made of.
        examples: Get a key `GUIDES`: guides of subwords by name.
        names: The guides wanted.
    """
    for row, example in zip(rows, examples, strict=True):
        example[GUIDES] = {
            name: _of_subwords(row.values[name], *_sides(learner, row, example, name))
            for name in sorted(names)
        }


def _sides(
    learner: Learner, row: Record, example: Example, name: str
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Return where subwords of the rows' and of the columns' words are."""
    tokenizer, values = learner.tokenizer, row.values
    if name == "alignment":
        target = subwords_of(tokenizer, values["target"], len(example["labels"]))
        return target, subwords_of(tokenizer, values["source"], len(example["input_ids"]))
    given = values["tokens"] if "tokens" in values else values["text"]
    # Attention of a whole text has one row.
    return {0: [0]}, subwords_of(tokenizer, given, len(example["input_ids"]))


def subwords_of(
    tokenizer: PreTrainedTokenizerBase, given: str | Sequence[str], limit: int
) -> dict[int, list[int]]:
    """Return where the subwords of words stand.

    Args:
        tokenizer: A fast one.
        given: A text, whose words stand between blanks, or its words.
        limit: Tokens that the model is given.

    Returns:
        Places among the tokens by the number of the word; a word that is cut off has none.
    """
    if isinstance(given, str):
        words = _words_by_offset(tokenizer, given)
    else:
        (split,) = words_as_in_texts(tokenizer, [given])
        words = tokenizer(split, is_split_into_words=True).word_ids()
    found: dict[int, list[int]] = {}
    for place, word in enumerate(words[:limit]):
        if word is not None:
            found.setdefault(word, []).append(place)
    return found


def _words_by_offset(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int | None]:
    word_at: list[int | None] = [None] * len(text)
    at = 0
    for number, word in enumerate(words_of({"text": text})):
        at = text.index(word, at)
        word_at[at : at + len(word)] = [number] * len(word)
        at += len(word)
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    # A subword may begin with the blank in front of its word; special tokens have no characters.
    return [word_at[stop - 1] if stop > start else None for start, stop in offsets]


def _of_subwords(
    guide: Guide | None, rows: Mapping[int, list[int]], columns: Mapping[int, list[int]]
) -> Guide:
    """Return a guide of subwords: all subwords of a word count as it does."""
    return {
        (row, column): weight
        for (row_word, column_word), weight in (guide or {}).items()
        for row in rows.get(row_word, ())
        for column in columns.get(column_word, ())
    }


class GuidedCollate:
    """Makes tensors of examples and of their guides."""

    def __init__(self, collate: Callable[[Sequence[Example]], dict[str, Tensor]]) -> None:
        """Remember who makes the other tensors.

        Args:
            collate: Takes examples without guides.
        """
        self.collate = collate

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Return one batch.

        Args:
            examples: B examples.

        Returns:
            What the other collate makes, and for examples with guides `GUIDES`: by name (B, N, M)
            of an alignment, (B, 1, M) otherwise; each row adds up to 1, or to 0 if it says nothing.
        """
        plain = [{k: v for k, v in one.items() if k != GUIDES} for one in examples]
        batch: dict[str, Any] = self.collate(plain)
        if GUIDES in examples[0]:
            batch[GUIDES] = {
                name: self._stacked(name, [one[GUIDES][name] for one in examples], batch)
                for name in examples[0][GUIDES]
            }
        return batch

    def _stacked(self, name: str, guides: list[Guide], batch: dict[str, Any]) -> Tensor:
        rows = batch["labels"].shape[1] if name == "alignment" else 1
        found = torch.zeros(len(guides), rows, batch["input_ids"].shape[1])
        for number, guide in enumerate(guides):
            if guide:
                places = torch.tensor(list(guide))
                found[number, places[:, 0], places[:, 1]] = torch.tensor(list(guide.values()))
        return found / found.sum(-1, keepdim=True).clamp_min(torch.finfo(found.dtype).tiny)


def rows_of(batch: Mapping[str, Any], role: str | None) -> Tensor:
    """Return which query rows of a batch stand for tokens, not padding.

    Args:
        batch: Of any learner.
        role: Of the attention.

    Returns:
        bool (B, N).
    """
    if "decoder_input_ids" in batch and role in ("decoder", "cross"):
        return batch["labels"] != IGNORED
    return batch["attention_mask"].bool()


def keys_of(batch: Mapping[str, Any], role: str | None) -> Tensor:
    """Return the tokens that are attended to.

    Args:
        batch: Of any learner.
        role: Of the attention.

    Returns:
        Token ids (B, M).
    """
    return batch["decoder_input_ids" if "decoder_input_ids" in batch and role == "decoder"
                 else "input_ids"]  # fmt: skip
