"""Several processes of one run: which is the first, and how they come to agree.

They are started by `torchrun` or `accelerate launch`, which tell each its rank. Alone, a process is
the first of one and nothing here costs anything. Leaves to others: gradients (torch's DDP).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.utils.data import Sampler

from regard.learners.batches import IGNORED, Batches, Example

T = TypeVar("T")


def rank() -> int:
    """Return the number of this process among those of the run.

    Returns:
        From 0.
    """
    return int(os.environ.get("RANK", "0"))


def count() -> int:
    """Return how many processes the run has.

    Returns:
        From 1.
    """
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Return whether this is the process that writes files and shows progress.

    Returns:
        True in exactly one process of a run.
    """
    return rank() == 0


def anyone(asked: bool) -> bool:
    """Return whether any process says yes; all must ask.

    Args:
        asked: What this one says.

    Returns:
        The same in all.
    """
    return any(gathered(asked))


def gathered(one: T) -> list[T]:
    """Return what every process says; all must ask.

    Args:
        one: What this one says.

    Returns:
        The same in all, in the order of ranks.
    """
    if count() == 1:
        return [one]
    answers: list[Any] = [None] * count()
    distributed.all_gather_object(answers, one)
    return answers


def wait_for_all() -> None:
    """Wait until every process has come here."""
    if count() > 1:
        distributed.barrier()


def share(whole: Sequence[T]) -> list[T]:
    """Return this process's part of something.

    Args:
        whole: The same in all processes.

    Returns:
        Every item whose place is this rank, modulo the number of processes.
    """
    return list(whole[rank() :: count()])


def joined(part: Sequence[T]) -> list[T]:
    """Return what all processes made of their parts, in the order of the whole.

    Args:
        part: One item for each of `share`.

    Returns:
        The same in all.
    """
    parts = gathered(list(part))
    whole: list[Any] = [None] * sum(map(len, parts))
    for number, one in enumerate(parts):
        whole[number :: count()] = one
    return whole


class SharedBatches(Sampler[list[int]]):
    """Batches of which each process takes every count-th row, so that a step trains on the whole.

    A batch of fewer rows than processes leaves some of them with none.
    """

    def __init__(self, batches: Batches) -> None:
        """Remember whose batches.

        Args:
            batches: Draws whole batches, alike in all processes.
        """
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches come next.

        Args:
            epoch: Counted from 0.
        """
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return map(share, iter(self.batches))


class CollateShare:
    """Collates the rows of a process; with none, one row of which nothing is learned."""

    def __init__(
        self, collate: Callable[[Sequence[Example]], dict[str, torch.Tensor]], filler: Example
    ) -> None:
        """Remember what to do.

        Args:
            collate: Makes tensors of examples.
            filler: Any example.
        """
        self.collate, self.filler = collate, filler

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Return a batch.

        Args:
            examples: Any number.

        Returns:
            Tensors by name.
        """
        if examples:
            return self.collate(examples)
        batch = self.collate([self.filler])
        return {**batch, "labels": torch.full_like(batch["labels"], IGNORED)}
