"""What a customisation is asked for.

Leaves to others: the task itself (`tasks`).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from regard.errors import InputError, nearest
from regard.search import Score, by_all, by_quality

OBJECTIVES: dict[str, Callable[[Score], Sequence[float]]] = {"quality": by_quality, "all": by_all}
METHODS = {
    "halving": "children of the better modes, pruned by successive halving",
    "random": "modes drawn at random, pruned alike: what the search has to beat",
}
DEFAULT_BUDGET_S = 1800.0


@dataclass(frozen=True)
class Options:
    """What a customisation is asked for.

    Attributes:
        budget_s: Seconds for all of it; None: 30 minutes, or no end if `trials` is given.
        trials: How many candidates at most; None: as many as there is time for.
        objective: "quality", or "all": quality, step time and memory.
        method: A key of `METHODS`.
        metric: Of the validation rows; None: `search.metric` of the task, or its kind's first.
        proposals: A file of proposed modes.
        seed: Of all that is drawn.
    """

    budget_s: float | None = None
    trials: int | None = None
    objective: str = "quality"
    method: str = "halving"
    metric: str | None = None
    proposals: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what can be checked without the task."""
        for name, known in (("objective", OBJECTIVES), ("method", METHODS)):
            found = getattr(self, name)
            if found not in known:
                raise InputError(f"there is no {name} '{found}'; {nearest(found, known)}")
        if self.budget_s is not None and not self.budget_s > 0:
            raise InputError(f"a budget is seconds above 0, not {self.budget_s!r}")
        if self.trials is not None and (type(self.trials) is not int or self.trials < 1):
            raise InputError(f"trials are a whole number from 1, not {self.trials!r}")

    @property
    def seconds(self) -> float:
        """The budget as a number."""
        if self.budget_s is not None:
            return self.budget_s
        return DEFAULT_BUDGET_S if self.trials is None else math.inf
