"""Batches of several tasks: each update is of one of them, drawn at random.

Leaves to others: the batches of each task (`batches`).
"""

from collections.abc import Iterator, Sequence
from itertools import count, islice

import torch
from torch import Tensor

from regard.learners.batches import MANY_EPOCHS, Batches


def shares(sizes: Sequence[int], temperature: float) -> Tensor:
    """Return how often each task is drawn: p_k ∝ n_k^(1/T).

    Args:
        sizes: n, how much there is of each.
        temperature: T.

    Returns:
        float64 (K,), which add up to 1. Source: Arivazhagan et al. 2019 (arXiv 1907.05019),
        section 4; with α = 1/T also Xue et al. 2021 (mT5, arXiv 2010.11934), section 3.1.
    """
    return (torch.tensor(sizes, dtype=torch.float64).log() / temperature).softmax(0)


class JointBatches(Batches):
    """Draws batches of one task at a time.

    Which task an update is of is drawn; it then takes the batches of that task that come next, so
    that of each task every row is seen as often as another. An epoch is as many batches as all
    tasks have together.
    """

    def __init__(
        self,
        parts: Sequence[tuple[Sequence[int], Batches]],
        temperature: float = 1.0,
        accumulate: int = 1,
        seed: int = 0,
    ) -> None:
        """Remember the tasks.

        Args:
            parts: For each task the places of its examples among all, and what draws from them.
            temperature: T of `shares`, over numbers of batches.
            accumulate: Batches of an update.
            seed: Another seed is another order.
        """
        self.parts, self.accumulate, self.seed = parts, accumulate, seed
        self.shares = shares([len(batches) for _, batches in parts], temperature)

    def __len__(self) -> int:
        return sum(len(batches) for _, batches in self.parts)

    def __iter__(self) -> Iterator[list[int]]:
        taken = torch.zeros(len(self.parts), dtype=torch.long)
        for epoch in range(self.epoch):
            taken += self.tasks(epoch).bincount(minlength=len(self.parts))
        streams = [self._from(place, int(start)) for place, start in enumerate(taken)]
        for place in self.tasks(self.epoch).tolist():
            yield next(streams[place])

    def tasks(self, epoch: int) -> Tensor:
        """Return which task each batch of an epoch is of.

        Args:
            epoch: Counted from 0.

        Returns:
            Places of tasks, (batches,); those of one update are the same.
        """
        random = torch.Generator().manual_seed(self.seed * MANY_EPOCHS + epoch)
        updates = -(-len(self) // self.accumulate)
        drawn = torch.multinomial(self.shares, updates, replacement=True, generator=random)
        return drawn.repeat_interleave(self.accumulate)[: len(self)]

    def _from(self, place: int, start: int) -> Iterator[list[int]]:
        """Yield the batches of a task without end, from a number on."""
        examples, batches = self.parts[place]
        epoch, skipped = divmod(start, len(batches))
        for own in count(epoch):
            batches.set_epoch(own)
            for batch in islice(list(batches), skipped, None):
                yield [examples[number] for number in batch]
            skipped = 0
