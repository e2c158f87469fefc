"""Sentence pairs: correlation of predicted with real likeness, of values or of ranks."""

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from regard.errors import DataError
from regard.metrics.check import as_numbers, check_paired
from regard.metrics.measure import Measure, Tally, mean_of


@dataclass(frozen=True)
class Correlation(Measure):
    """Correlation of weighted pairs of numbers.

    Attributes:
        pairs: float64 (2, N): predictions and references.
        ranked: Whether ranks are compared instead of values.
        constant: The value of predictions or references that are all equal.
    """

    pairs: np.ndarray
    ranked: bool
    constant: float = float("nan")

    def __len__(self) -> int:
        return self.pairs.shape[1]

    def of(self, weights: np.ndarray) -> np.ndarray:
        """Return the correlation of weighted pairs.

        Args:
            weights: (R, N), whole numbers from 0.

        Returns:
            float64 (R,); `constant` where all predictions or all references are equal.
        """
        weights = np.asarray(weights, np.float64)
        first, second = (self._values(one, weights) for one in self.pairs)
        total = weights.sum(1, keepdims=True)
        first, second = (
            one - (weights * one).sum(1, keepdims=True) / total for one in (first, second)
        )
        spread = [(weights * one * one).sum(1) for one in (first, second)]
        # What is constant but for rounding has no correlation.
        least = [1e-24 * (weights * one * one).sum(1) for one in self.pairs]
        defined = (spread[0] > least[0]) & (spread[1] > least[1])
        below = np.sqrt(np.where(defined, spread[0] * spread[1], 1.0))
        return np.where(defined, (weights * first * second).sum(1) / below, self.constant)

    def _values(self, values: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return _ranks(values, weights) if self.ranked else values[None]

    def joined(self, other: Any) -> Self:
        """Return the same correlation over the pairs of both, these first.

        Args:
            other: The same metric of another system.

        Returns:
            The metric of N + M pairs.
        """
        return replace(self, pairs=np.concatenate([self.pairs, other.pairs], axis=1))


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return mean ranks (R, N) of values (N,), each as often there as its weight (R, N) says."""
    _, places = np.unique(values, return_inverse=True)
    order = np.argsort(places, kind="stable")
    starts = np.flatnonzero(np.diff(places[order], prepend=-1))
    group = np.add.reduceat(weights[:, order], starts, axis=1)
    before = np.cumsum(group, axis=1) - group
    return (before + (group + 1) / 2)[:, places]


def pearson(predictions: Any, references: Any, constant: float | None = None) -> Correlation:
    """Return Pearson's correlation.

    Args:
        predictions: (N,) numbers.
        references: (N,) numbers.
        constant: The correlation of predictions that are all equal; None: they are an error.

    Returns:
        The metric, from −1 to 1.

    Raises:
        DataError: If the lists do not fit each other, or either is constant.
    """
    return _correlation("Pearson", predictions, references, False, constant)


def spearman(predictions: Any, references: Any, constant: float | None = None) -> Correlation:
    """Return Spearman's correlation: Pearson's, of ranks; equal numbers share their mean rank.

    Args:
        predictions: (N,) numbers.
        references: (N,) numbers.
        constant: The correlation of predictions that are all equal; None: they are an error.

    Returns:
        The metric, from −1 to 1.

    Raises:
        DataError: If the lists do not fit each other, or either is constant.
    """
    return _correlation("Spearman", predictions, references, True, constant)


def squared_error(predictions: Any, references: Any) -> Tally:
    """Return the mean squared error.

    Args:
        predictions: (N,) numbers.
        references: (N,) numbers.

    Returns:
        The metric, from 0; lower is better.

    Raises:
        DataError: If the lists do not fit each other.
    """
    found, right = as_numbers(predictions, "prediction"), as_numbers(references, "reference")
    check_paired(found, right)
    return replace(mean_of("mean squared error", (found - right) ** 2), larger_wins=False)


def _correlation(
    name: str, predictions: Any, references: Any, ranked: bool, constant: float | None
) -> Correlation:
    sides = {
        "prediction": as_numbers(predictions, "prediction"),
        "reference": as_numbers(references, "reference"),
    }
    check_paired(sides["prediction"], sides["reference"])
    for noun, values in sides.items():
        if noun == "prediction" and constant is not None:
            continue
        if (values == values[0]).all():
            raise DataError(f"all {noun}s are {values[0]:g}; a correlation needs two that differ")
    value = float("nan") if constant is None else constant
    return Correlation(name, np.stack(list(sides.values())), ranked, value)
