"""Batches of pairs of like length, each within a budget of tokens.

Leaves to others: the training loop (`train`), which tells the sampler its epoch.
"""

from collections.abc import Iterator, Sequence
from typing import TypedDict

import torch
from torch import Tensor
from torch.utils.data import Sampler
from transformers import PreTrainedTokenizerBase

from regard.errors import DataError
from regard.tasks.data import Pair

# What cross-entropy leaves out of the loss.
IGNORED = -100
# More epochs than any run has, so that no two (seed, epoch) draw alike.
_MANY_EPOCHS = 1_000_003


class Example(TypedDict):
    """One pair as token ids.

    Attributes:
        input_ids: Of the source.
        labels: Of the target.
    """

    input_ids: list[int]
    labels: list[int]


def encode_pairs(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, limit: int
) -> list[Example]:
    """Return pairs as token ids.

    Args:
        pairs: Any number of pairs.
        tokenizer: Ends each text with its end token.
        limit: The most tokens the model reads.

    Returns:
        One example a pair.

    Raises:
        DataError: If a text is longer than the limit.
    """
    if not pairs:
        return []
    sources = tokenizer([pair.source for pair in pairs])["input_ids"]
    targets = tokenizer([pair.target for pair in pairs])["input_ids"]
    for pair, source, target in zip(pairs, sources, targets, strict=True):
        longest = max(len(source), len(target))
        if longest > limit:
            raise DataError(
                f"line {pair.line}: {longest} tokens, but the model reads at most {limit}; "
                "shorten the text or lower data.max_words"
            )
    return [
        Example(input_ids=source, labels=target)
        for source, target in zip(sources, targets, strict=True)
    ]


class TokenBudgetBatches(Sampler[list[int]]):
    """Draws batches of indices: examples of like length, padded size within the budget.

    A batch takes rows × longest ≤ budget tokens on either side. Examples of equal length are
    shuffled, and so are the batches, by (seed, epoch) alone; the number of batches is the same in
    every epoch. So a run that stopped can find its place again.
    """

    def __init__(self, examples: Sequence[Example], budget: int, seed: int = 0) -> None:
        """Sort out the sizes.

        Args:
            examples: What is drawn from.
            budget: Tokens a batch; a longer example gets a batch of its own.
            seed: Another seed is another order.
        """
        self.seed, self.epoch = seed, 0
        self.lengths = torch.tensor([max(len(e["input_ids"]), len(e["labels"])) for e in examples])
        self.bounds = _bounds(self.lengths.sort().values.tolist(), budget)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next.

        Args:
            epoch: Counted from 0.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[list[int]]:
        random = torch.Generator().manual_seed(self.seed * _MANY_EPOCHS + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=random)
        order = shuffled[self.lengths[shuffled].sort(stable=True).indices].tolist()
        for number in torch.randperm(len(self.bounds), generator=random).tolist():
            start, stop = self.bounds[number]
            yield order[start:stop]


def _bounds(lengths: list[int], budget: int) -> list[tuple[int, int]]:
    """Cut ascending lengths into runs of at most `budget` tokens, padded."""
    bounds, start = [], 0
    for place, length in enumerate(lengths):
        if place > start and length * (place + 1 - start) > budget:
            bounds.append((start, place))
            start = place
    return [*bounds, (start, len(lengths))]


class PadExamples:
    """Makes tensors of examples, and the decoder's inputs out of their labels."""

    def __init__(self, pad: int) -> None:
        """Remember the id to pad with.

        Args:
            pad: It also starts the decoder, as Marian does.
        """
        self.pad = pad

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return one batch.

        Args:
            examples: B examples.

        Returns:
            `input_ids` and `attention_mask`, both (B, M), `labels` and `decoder_input_ids`, both
            (B, N).
        """
        inputs = _stack([example["input_ids"] for example in examples], self.pad)
        labels = _stack([example["labels"] for example in examples], IGNORED)
        start = labels.new_full((len(examples), 1), self.pad)
        shifted = torch.cat([start, labels[:, :-1]], dim=1)
        return {
            "input_ids": inputs,
            "attention_mask": inputs.ne(self.pad).long(),
            "labels": labels,
            "decoder_input_ids": shifted.masked_fill(shifted == IGNORED, self.pad),
        }


def _stack(rows: list[list[int]], filler: int) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])
