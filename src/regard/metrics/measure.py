"""A metric of a corpus as a function of how often each example counts.

Ones give the metric itself, counts of a resample its bootstrap, ones and zeros over the examples
of two systems a permutation: so every metric has every kind of uncertainty.
Leaves to others: drawing the weights (`uncertainty`, `verdict`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from regard.errors import DataError
from regard.metrics.score import Score


@dataclass(frozen=True)
class Measure(ABC):
    """One metric over the examples of one system.

    Attributes:
        name: Of the metric.
    """

    name: str

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of examples."""

    @abstractmethod
    def of(self, weights: np.ndarray) -> np.ndarray:
        """Return the metric of weighted examples.

        Args:
            weights: (R, N), whole numbers from 0.

        Returns:
            float64 (R,); NaN where the metric is undefined.
        """

    @abstractmethod
    def joined(self, other: Any) -> Self:
        """Return the same metric over the examples of both, these first.

        Args:
            other: The same metric of another system.

        Returns:
            The metric of N + M examples.
        """

    def left_out(self) -> np.ndarray:
        """Return the metric without each example in turn.

        Returns:
            float64 (N,); NaN where it is undefined then.
        """
        found = []
        for place in range(len(self)):
            weights = np.ones((1, len(self)))
            weights[0, place] = 0
            found.append(float(self.of(weights)[0]))
        return np.array(found, dtype=np.float64)

    @property
    def counts(self) -> Mapping[str, float]:
        """What the metric is counted from."""
        return {"examples": len(self)}

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger number is a better one."""
        return True

    def score(self) -> Score:
        """Return the metric of all examples, each counted once.

        Returns:
            The score, without an interval.

        Raises:
            DataError: If the metric is undefined for these examples.
        """
        value = float(self.of(np.ones((1, len(self))))[0])
        if not np.isfinite(value):
            raise DataError(f"{self.name} is undefined for these {len(self)} examples")
        return Score(self.name, value, None, self.counts, self.higher_is_better)


@dataclass(frozen=True)
class Tally(Measure):
    """A metric that is a formula of sums over examples.

    Attributes:
        rows: float64 (N, S): what each example adds to the sums.
        formula: From sums (…, S) to values (…).
        noted: What to note beside the number of examples.
        larger_wins: False for perplexity and its like.
    """

    rows: np.ndarray
    formula: Callable[[np.ndarray], np.ndarray]
    noted: Mapping[str, float] = field(default_factory=dict)
    larger_wins: bool = True

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def counts(self) -> Mapping[str, float]:
        """What the metric is counted from."""
        return {"examples": len(self), **self.noted}

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger number is a better one."""
        return self.larger_wins

    def of(self, weights: np.ndarray) -> np.ndarray:
        """Return the metric of weighted examples.

        Args:
            weights: (R, N), whole numbers from 0.

        Returns:
            float64 (R,); NaN where the metric is undefined.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return self.formula(np.asarray(weights, np.float64) @ self.rows)

    def left_out(self) -> np.ndarray:
        """Return the metric without each example in turn.

        Returns:
            float64 (N,); NaN where it is undefined then.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return self.formula(self.rows.sum(0) - self.rows)

    def joined(self, other: Any) -> Self:
        """Return the same metric over the examples of both, these first.

        Args:
            other: The same metric of another system.

        Returns:
            The metric of N + M examples.

        Raises:
            DataError: If the two count different classes.
        """
        if self.rows.shape[1] != other.rows.shape[1]:
            raise DataError(
                f"'{self.name}' of two systems counts different classes; name all classes of both "
                "when it is made"
            )
        return replace(self, rows=np.concatenate([self.rows, other.rows]))


@dataclass(frozen=True)
class Statistic(Measure):
    """Any metric at all, computed anew for each resample.

    Attributes:
        examples: N of them, of any type.
        function: From a list of examples to a number.
    """

    examples: Sequence[Any]
    function: Callable[[list[Any]], float]

    def __len__(self) -> int:
        return len(self.examples)

    def of(self, weights: np.ndarray) -> np.ndarray:
        """Return the metric of weighted examples.

        Args:
            weights: (R, N), whole numbers from 0.

        Returns:
            float64 (R,).
        """
        numbers = np.asarray(weights).astype(np.int64)
        places = (np.repeat(np.arange(len(self)), row).tolist() for row in numbers)
        drawn = ([self.examples[place] for place in row] for row in places)
        return np.array([self.function(one) for one in drawn], dtype=np.float64)

    def joined(self, other: Any) -> Self:
        """Return the same metric over the examples of both, these first.

        Args:
            other: The same metric of another system.

        Returns:
            The metric of N + M examples.
        """
        return replace(self, examples=[*self.examples, *other.examples])


def mean_of(name: str, values: np.ndarray, noted: Mapping[str, float] | None = None) -> Tally:
    """Return a metric that is the mean of one number an example.

    Args:
        name: Of the metric.
        values: (N,).
        noted: What to note beside the number of examples.

    Returns:
        The metric.
    """
    rows = np.stack([values, np.ones(len(values))], axis=1)
    return Tally(name, rows, ratio, noted or {})


def ratio(sums: np.ndarray) -> np.ndarray:
    """Return the first sum over the second.

    Args:
        sums: (…, 2).

    Returns:
        (…), NaN where nothing was counted.
    """
    return sums[..., 0] / sums[..., 1]
