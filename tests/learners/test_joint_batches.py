"""Batches of several tasks: how often each is drawn, in which order, and that it can be resumed."""

from collections import Counter
from itertools import chain, pairwise

import pytest
import torch

from regard.learners.batches import TokenBudgetBatches
from regard.learners.joint_batches import JointBatches, shares

SIZES = (600, 60, 6)


def batches(sizes=SIZES, temperature=1.0, accumulate=1, seed=0, budget=3):
    """Tasks of so many examples of one token, and three of them a batch."""
    start, parts = 0, []
    for size in sizes:
        own = TokenBudgetBatches([{"input_ids": [0]}] * size, budget, seed)
        parts.append((range(start, start + size), own))
        start += size
    return JointBatches(parts, temperature, accumulate, seed)


def task_of(batch, sizes=SIZES):
    ends = [sum(sizes[: place + 1]) for place in range(len(sizes))]
    (task,) = {next(k for k, end in enumerate(ends) if number < end) for number in batch}
    return task


def epochs(drawn, first, last):
    for epoch in range(first, last):
        drawn.set_epoch(epoch)
        yield from drawn


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, float("inf")])
def test_tasks_are_drawn_as_often_as_the_formula_says(temperature):
    wanted = [size ** (1 / temperature) for size in SIZES]
    wanted = [one / sum(wanted) for one in wanted]
    torch.testing.assert_close(
        shares(SIZES, temperature), torch.tensor(wanted, dtype=torch.float64)
    )
    drawn = batches(temperature=temperature)
    counts = Counter(task_of(batch) for batch in epochs(drawn, 0, 20))
    total = 20 * len(drawn)
    assert counts.total() == total == 20 * 222
    for place, share in enumerate(wanted):
        # Four standard deviations of a binomial.
        assert abs(counts[place] - share * total) < 4 * (share * (1 - share) * total) ** 0.5


def test_rows_of_a_task_are_seen_alike():
    drawn = batches(temperature=3.0)
    counts = Counter(chain.from_iterable(epochs(drawn, 0, 5)))
    ends = (0, 600, 660, 666)
    for start, stop in pairwise(ends):
        seen = [counts[number] for number in range(start, stop)]
        assert max(seen) - min(seen) <= 1
    # A small task comes more often than once an epoch.
    assert counts[665] > 5


def test_an_epoch_follows_from_seed_and_number_alone():
    whole = list(epochs(batches(temperature=2.0), 0, 4))
    assert list(epochs(batches(temperature=2.0), 2, 4)) == whole[2 * 222 :]
    assert list(epochs(batches(temperature=2.0, seed=1), 0, 4)) != whole
    assert whole[:222] != whole[222:444]


def test_batches_of_an_update_are_of_one_task():
    drawn = batches(temperature=5.0, accumulate=4)
    for epoch in (0, 1):
        drawn.set_epoch(epoch)
        tasks = [task_of(batch) for batch in drawn]
        assert len(tasks) == 222
        updates = [set(tasks[start : start + 4]) for start in range(0, 222, 4)]
        assert all(len(one) == 1 for one in updates)
        assert {0, 1, 2} == set(tasks)
