"""The part `search` of a task file: which settings are tried, how often, how they are judged."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from regard.tasks.settings import Count, CountOrNone, Paths, Settings, absolute_all, absolute_mode

Number = int | float


class Range(Settings):
    """Numbers that a setting may take.

    Attributes:
        low: The least.
        high: The largest.
        log: Whether each factor is as likely as another, rather than each difference.
        step: The distance from one to the next; None: any number, or any whole one.
    """

    low: Number
    high: Number
    log: bool = False
    step: Annotated[Number, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} should be less than high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"with log, low should be above 0, found {self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; delete one")
        return self

    @property
    def whole(self) -> bool:
        """Whether all its numbers are whole ones: they are if all that is said of them is."""
        return all(isinstance(one, int) for one in (self.low, self.high, self.step or 1))


Choices = Annotated[list[Any], Field(min_length=2)]
# What makes the paths of a setting absolute, by its dotted key.
RESOLVERS: dict[str, Callable[[Any, Path], Any]] = {
    "mode": absolute_mode,
    "model.pretrained": absolute_all,
}


def _absolute_choices(ranges: Any, folder: Path) -> Any:
    """Return ranges in which all values that are paths are absolute."""
    if not isinstance(ranges, dict):
        return ranges
    return {
        key: [RESOLVERS[key](value, folder) for value in values]
        if key in RESOLVERS and isinstance(values, list)
        else values
        for key, values in ranges.items()
    }


class SearchSettings(Settings):
    """What `regard tune` tries.

    Attributes:
        ranges: By a setting's dotted key: a list of values, or a range of numbers.
        trials: How many are trained, those that were given up included.
        metric: Of the validation rows; None: the first of the kind.
        sampler: How values are drawn: `tpe` learns from earlier trials, `random` does not.
        pruner: Which trials are given up: `median`, those below the median of earlier ones at the
            same step; `halving`, all but the best half, again and again; `none`.
        warmup: Trials that are never given up, from the first on.
        seed: Of the values drawn.
    """

    ranges: Annotated[dict[str, Choices | Range], Field(min_length=1), Paths(_absolute_choices)]
    trials: Count = 20
    metric: str | None = None
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "halving", "none"] = "median"
    warmup: CountOrNone = 5
    seed: CountOrNone = 0
