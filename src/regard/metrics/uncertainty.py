"""How sure a metric is: percentile bootstrap over examples (Efron 1979), seeded.

An interval speaks of other test examples of the same kind, not of other training runs.
Leaves to others: comparing two systems (`verdict`).
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from regard.errors import InputError
from regard.metrics.measure import Measure
from regard.metrics.score import Interval, Score

RESAMPLES = 2000
LEVEL = 0.95
# Weights drawn at a time, so that memory stays small for any number of examples.
_DRAWN = 4_000_000


def bootstrap(
    measure: Measure, level: float = LEVEL, resamples: int = RESAMPLES, seed: int = 0
) -> Score:
    """Return a metric with its interval.

    Args:
        measure: The metric of a system.
        level: The share of such intervals that hold the true number.
        resamples: How many corpora are drawn from the examples, with replacement.
        seed: Of the draws; the same seed gives the same interval.

    Returns:
        The score.

    Raises:
        DataError: If the metric is undefined for the examples.
        InputError: If an option is out of range.
    """
    check_options(level, resamples)
    found = measure.score()
    values = np.concatenate(
        [measure.of(weights) for weights in draw_resamples(len(measure), resamples, seed)]
    )
    return replace(found, interval=interval_of(values, level))


def check_options(level: float, resamples: int) -> None:
    """Refuse options that make no interval.

    Args:
        level: Between 0 and 1.
        resamples: Enough for both ends of the interval.

    Raises:
        InputError: If one is out of range.
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level:g}; it lies between 0 and 1, e.g. 0.95")
    if resamples < 100:
        raise InputError(f"resamples is {resamples}; fewer than 100 give no interval worth having")


def draw_resamples(examples: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw corpora of as many examples, with replacement.

    Args:
        examples: N.
        resamples: How many corpora.
        seed: Of the draws.

    Yields:
        float64 (R, N): how often each example was drawn; all R together are `resamples`.
    """
    random = np.random.default_rng(seed)
    for rows in chunks(examples, resamples):
        drawn = random.integers(examples, size=(rows, examples))
        drawn += np.arange(rows)[:, None] * examples
        counts = np.bincount(drawn.ravel(), minlength=rows * examples)
        yield counts.reshape(rows, examples).astype(np.float64)


def chunks(examples: int, draws: int) -> Iterator[int]:
    """Cut a number of draws into numbers small enough for memory.

    Args:
        examples: Numbers a draw.
        draws: How many.

    Yields:
        Draws at a time.
    """
    step = max(1, _DRAWN // examples)
    for start in range(0, draws, step):
        yield min(step, draws - start)


def interval_of(values: np.ndarray, level: float) -> Interval:
    """Return the middle part of resampled values.

    Args:
        values: (R,); those that are not finite are left out.
        level: The share that lies inside.

    Returns:
        The interval; its ends are NaN if the metric was undefined in every resample.
    """
    usable = values[np.isfinite(values)]
    if not len(usable):
        return Interval(float("nan"), float("nan"), level, 0)
    low, high = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level, len(usable))
