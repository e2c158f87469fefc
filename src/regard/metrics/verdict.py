"""Whether one system is better than another on the same examples, or no difference is shown.

The interval of the difference comes from a paired bootstrap (Koehn 2004), the probability from a
permutation test (approximate randomisation, Noreen 1989; exact for few examples), and several
comparisons are corrected together (Holm 1979).
Leaves to others: reading the examples of runs (`train`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from regard.errors import DataError, InputError
from regard.metrics.measure import Measure
from regard.metrics.score import Interval
from regard.metrics.uncertainty import (
    LEVEL,
    RESAMPLES,
    check_options,
    chunks,
    draw_resamples,
    interval_of,
)

PERMUTATIONS = 10_000
Answer = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Verdict:
    """What is shown of a system against a baseline, in one metric.

    A difference is shown if its interval leaves out 0 and its corrected p is below 1 − level.

    Attributes:
        name: Of the metric.
        baseline: Its value for the baseline.
        value: Its value for the system.
        interval: Of the difference, value − baseline.
        p: How probable so large a difference is if the systems are alike.
        corrected_p: The same, corrected for the other comparisons made with it.
        higher_is_better: Whether a larger number is a better one.
        examples: How many examples both were given.
    """

    name: str
    baseline: float
    value: float
    interval: Interval
    p: float
    corrected_p: float
    higher_is_better: bool
    examples: int

    @property
    def difference(self) -> float:
        """The system's value less the baseline's."""
        return self.value - self.baseline

    @property
    def answer(self) -> Answer:
        """The verdict in words."""
        apart = self.interval.low > 0 or self.interval.high < 0
        if not apart or self.corrected_p >= 1 - self.interval.level:
            return "no difference shown"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.answer} ({self.difference:+.4g}, {self.interval}, "
            f"p = {self.corrected_p:.2g})"
        )


def compare(
    baseline: Measure,
    system: Measure,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Verdict:
    """Compare a system with a baseline in one metric, over the same examples in the same order.

    Args:
        baseline: The metric of the baseline.
        system: The same metric of the system.
        level: Of the interval; a difference is shown if p is below 1 − level.
        resamples: Of the paired bootstrap.
        permutations: Of the permutation test; all there are if they are not more.
        seed: Of both.

    Returns:
        The verdict, as if no other comparison were made.

    Raises:
        DataError: If the metrics or the numbers of examples differ, or a metric is undefined.
        InputError: If an option is out of range.
    """
    check_options(level, resamples)
    _check_alike(baseline, system)
    before, after = baseline.score(), system.score()
    p = permutation_p(baseline, system, permutations, seed)
    return Verdict(
        name=baseline.name,
        baseline=before.value,
        value=after.value,
        interval=paired_interval(baseline, system, level, resamples, seed),
        p=p,
        corrected_p=p,
        higher_is_better=baseline.higher_is_better,
        examples=len(baseline),
    )


def _check_alike(baseline: Measure, system: Measure) -> None:
    if baseline.name != system.name:
        raise DataError(
            f"'{system.name}' cannot be compared with '{baseline.name}'; compare one metric at once"
        )
    if len(baseline) != len(system):
        raise DataError(
            f"the baseline has {len(baseline)} examples and the system {len(system)}; "
            "a paired comparison needs the same examples of both"
        )


def paired_interval(
    baseline: Measure, system: Measure, level: float, resamples: int, seed: int
) -> Interval:
    """Return the interval of the difference, both systems resampled alike.

    Args:
        baseline: The metric of the baseline.
        system: The same metric of the system.
        level: Of the interval.
        resamples: How many corpora are drawn.
        seed: Of the draws.

    Returns:
        Of the system's value less the baseline's.
    """
    values = [
        system.of(weights) - baseline.of(weights)
        for weights in draw_resamples(len(system), resamples, seed)
    ]
    return interval_of(np.concatenate(values), level)


def permutation_p(baseline: Measure, system: Measure, permutations: int, seed: int) -> float:
    """Return how often systems whose answers are swapped at random differ as much, or more.

    Args:
        baseline: The metric of the baseline.
        system: The same metric of the system.
        permutations: How many swaps are drawn; if there are no more than that, all are tried.
        seed: Of the draws.

    Returns:
        A probability above 0; the swap of nothing is counted.

    Raises:
        InputError: If there are fewer than 100 permutations.
    """
    if permutations < 100:
        raise InputError(f"permutations is {permutations}; fewer than 100 show no difference")
    both = baseline.joined(system)
    examples = len(system)
    straight = np.concatenate([np.zeros(examples), np.ones(examples)])[None]
    seen = abs(float(both.of(straight)[0] - both.of(1 - straight)[0]))
    # Sums in another order may err in their last digits; such a difference is as large.
    enough = seen - 1e-9 * max(1.0, seen)
    exact = examples < 60 and 2**examples <= permutations
    as_large, tried = (0, 0) if exact else (1, 1)
    for swapped in _all_swaps(examples) if exact else _some_swaps(examples, permutations, seed):
        weights = np.concatenate([swapped, 1 - swapped], axis=1)
        found = np.abs(both.of(weights) - both.of(1 - weights))
        usable = np.isfinite(found)
        as_large += int((found[usable] >= enough).sum())
        tried += int(usable.sum())
    return as_large / tried


def _all_swaps(examples: int) -> Iterator[np.ndarray]:
    numbers = np.arange(2**examples)[:, None]
    yield (numbers >> np.arange(examples) & 1).astype(np.float64)


def _some_swaps(examples: int, permutations: int, seed: int) -> Iterator[np.ndarray]:
    random = np.random.default_rng(seed)
    for rows in chunks(2 * examples, permutations):
        yield random.integers(2, size=(rows, examples), dtype=np.uint8).astype(np.float64)


def correct(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """Correct comparisons that are read together, by Holm's method.

    Args:
        verdicts: All that were made.

    Returns:
        The same, each with its `corrected_p`.
    """
    corrected = holm([one.p for one in verdicts])
    return [replace(one, corrected_p=p) for one, p in zip(verdicts, corrected, strict=True)]


def holm(p: Sequence[float]) -> list[float]:
    """Return probabilities such that the chance of any false alarm is kept.

    Args:
        p: Uncorrected probabilities.

    Returns:
        Corrected ones in the same order, at most 1.
    """
    corrected, largest = [1.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
        largest = max(largest, min(1.0, (len(p) - place) * p[index]))
        corrected[index] = largest
    return corrected
