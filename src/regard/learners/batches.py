"""Batches of examples of like length, each within a budget of tokens.

Leaves to others: what an example holds (each learner), the training loop (`train`), which tells
the sampler its epoch.
"""

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

# What cross-entropy leaves out of the loss.
IGNORED = -100
# More epochs than any run has, so that no two (seed, epoch) draw alike.
MANY_EPOCHS = 1_000_003

# An example: lists of token ids and their like by name, and single numbers.
Example = dict[str, Any]


def length_of(example: Example) -> int:
    """Return how long an example is.

    Args:
        example: Of any learner.

    Returns:
        The length of its longest list.
    """
    return max(len(value) for value in example.values() if isinstance(value, list))


def alike(examples: Sequence[Example], rows: int) -> Iterator[list[int]]:
    """Cut examples into batches of like length, so that little is padded.

    Args:
        examples: Any number.
        rows: Examples of a batch.

    Yields:
        Places in `examples`; each place once.
    """
    order = sorted(range(len(examples)), key=lambda place: length_of(examples[place]))
    for start in range(0, len(order), rows):
        yield order[start : start + rows]


class Batches(Sampler[list[int]], abc.ABC):
    """Draws batches of places among examples.

    What is drawn follows from the seed and the epoch alone, and the number of batches is the same
    in every epoch. So a run that stopped can find its place again.

    Attributes:
        seed: Another seed is another order.
        epoch: The one whose batches come next.
    """

    seed: int
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next.

        Args:
            epoch: Counted from 0.
        """
        self.epoch = epoch

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return how many batches an epoch has."""


class TokenBudgetBatches(Batches):
    """Draws batches of indices: examples of like length, padded size within the budget.

    A batch takes rows × longest ≤ budget tokens on either side. Examples of equal length are
    shuffled, and so are the batches.
    """

    def __init__(self, examples: Sequence[Example], budget: int, seed: int = 0) -> None:
        """Sort out the sizes.

        Args:
            examples: What is drawn from.
            budget: Tokens a batch; a longer example gets a batch of its own.
            seed: Another seed is another order.
        """
        self.seed = seed
        self.lengths = torch.tensor([length_of(example) for example in examples])
        self.bounds = _bounds(self.lengths.sort().values.tolist(), budget)

    def __len__(self) -> int:
        return len(self.bounds)

    def __iter__(self) -> Iterator[list[int]]:
        random = torch.Generator().manual_seed(self.seed * MANY_EPOCHS + self.epoch)
        shuffled = torch.randperm(len(self.lengths), generator=random)
        order = shuffled[self.lengths[shuffled].sort(stable=True).indices].tolist()
        for number in torch.randperm(len(self.bounds), generator=random).tolist():
            start, stop = self.bounds[number]
            yield order[start:stop]


class EpochExamples(Dataset[Example]):
    """Examples with the noise of the epoch at hand, the same again for the same epoch."""

    def __init__(
        self,
        examples: Sequence[Example],
        batches: Batches,
        vary: Callable[[Example, str], Example],
    ) -> None:
        """Remember where the noise comes from.

        Args:
            examples: As encoded.
            batches: Knows the seed and the epoch.
            vary: Returns an example with the noise of a seed.
        """
        self.examples, self.batches, self.vary = examples, batches, vary

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> Example:
        seed = f"{self.batches.seed} {self.batches.epoch} {place}"
        return self.vary(self.examples[place], seed)


def _bounds(lengths: list[int], budget: int) -> list[tuple[int, int]]:
    """Cut ascending lengths into runs of at most `budget` tokens, padded."""
    bounds, start = [], 0
    for place, length in enumerate(lengths):
        if place > start and length * (place + 1 - start) > budget:
            bounds.append((start, place))
            start = place
    return [*bounds, (start, len(lengths))]


class Collate:
    """Makes tensors of examples: lists are padded, numbers are stacked."""

    def __init__(
        self,
        fillers: Mapping[str, int],
        start: int | None = None,
        masks: Mapping[str, str] = MappingProxyType({"input_ids": "attention_mask"}),
    ) -> None:
        """Remember what to pad with.

        Args:
            fillers: By the name of a list; a list it does not name is padded with `IGNORED`.
            start: The token that starts a decoder, which then gets `decoder_input_ids`: the labels
                one step late. None: there is no decoder.
            masks: The name of the mask of each list that has one.
        """
        self.fillers, self.start, self.masks = dict(fillers), start, dict(masks)

    def __call__(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        """Return one batch.

        Args:
            examples: B examples with the same names.

        Returns:
            For each name a tensor (B, longest) of lists, (B,) of numbers; masks of the same
            shape, 1 where there is a token and 0 where there is padding; with `start` also
            `decoder_input_ids`, shaped as `labels`.
        """
        batch = {
            name: self._stacked(name, [example[name] for example in examples])
            for name in examples[0]
        }
        for name, mask in self.masks.items():
            if name in batch:
                lengths = torch.tensor([len(example[name]) for example in examples])
                places = torch.arange(batch[name].shape[1])
                batch[mask] = (places < lengths[:, None]).long()
        if self.start is not None and "labels" in batch:
            labels = batch["labels"]
            first = labels.new_full((len(examples), 1), self.start)
            shifted = torch.cat([first, labels[:, :-1]], dim=1)
            filler = self.fillers.get("input_ids", 0)
            batch["decoder_input_ids"] = shifted.masked_fill(shifted == IGNORED, filler)
        return batch

    def _stacked(self, name: str, values: list[Any]) -> Tensor:
        if not isinstance(values[0], list):
            return torch.tensor(values)
        longest, filler = max(map(len, values)), self.fillers.get(name, IGNORED)
        return torch.tensor([value + [filler] * (longest - len(value)) for value in values])
