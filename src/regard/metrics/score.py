"""A number that a model is judged by, with its interval: one type for all metrics.

Leaves to others: how it is counted (one file a metric), how sure it is (`uncertainty`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Interval:
    """Where a number may lie, had other examples of the same kind been drawn.

    Attributes:
        low: The lower end.
        high: The upper end.
        level: The share of such intervals that hold the true number, e.g. 0.95.
        resamples: How many resamples it is from; one that leaves the metric undefined is none.
    """

    low: float
    high: float
    level: float
    resamples: int

    def __str__(self) -> str:
        return f"{self.level:.0%}: {self.low:.4g} to {self.high:.4g}"


@dataclass(frozen=True)
class Score:
    """A metric's value over a corpus.

    Attributes:
        name: Of the metric.
        value: The number.
        interval: How sure it is, or None if that was not asked.
        counts: What it was counted from, e.g. {"examples": 450}.
        higher_is_better: False for perplexity and its like.
    """

    name: str
    value: float
    interval: Interval | None = None
    counts: Mapping[str, float] = field(default_factory=dict)
    higher_is_better: bool = True

    def __str__(self) -> str:
        parts = [] if self.interval is None else [str(self.interval)]
        parts += [f"{count:g} {name}" for name, count in self.counts.items()]
        return f"{self.name} {self.value:.4g}" + (f" ({'; '.join(parts)})" if parts else "")

    def as_dict(self) -> dict[str, Any]:
        """Return the score as plain data.

        Returns:
            What JSON can hold.
        """
        return {**asdict(self), "counts": dict(self.counts)}
