"""When gates learn and how they become one: first they wait, then they are annealed, then settled.

Shares are plain softmaxes whose temperature falls in equal ratios, so that they go from equal to
one of 1 and the rest 0 while the weights learn with them: what is left out at the end was hardly
used any more, and leaving it out costs nothing. DARTS (Liu et al. 2019, arXiv 1806.09055) lacks
this, and its weights lose at the end what the mixture had taught them; ASAP (Noy et al. 2020, arXiv
1904.04123) anneals DARTS so, Gumbel-softmax (Jang et al. 2017, arXiv 1611.01144) its draws. Leaves
to others: gates (`layer`).
"""

import math
from dataclasses import dataclass
from typing import Literal

from regard.errors import InputError

Phase = Literal["wait", "anneal", "settled"]


@dataclass(frozen=True)
class Schedule:
    """What happens to gates over a run.

    Attributes:
        wait: Share of the steps in which gates stay equal and the weights alone learn.
        settle: Share of the steps after which each head runs its winner alone.
        first: The temperature until then: the larger, the more equal.
        last: The temperature at the end of annealing.
    """

    wait: float = 0.25
    settle: float = 0.7
    first: float = 1.0
    last: float = 0.02

    def __post_init__(self) -> None:
        """Check that the numbers make sense together."""
        for name in ("wait", "settle", "first", "last"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"{name}={value!r} of the schedule must be a number")
            if not math.isfinite(value):
                raise InputError(f"{name}={value!r} of the schedule must be finite")
        if not 0 <= self.wait < self.settle < 1:
            raise InputError(
                f"wait={self.wait} and settle={self.settle} are shares of the steps: "
                "0 ≤ wait < settle < 1"
            )
        if not 0 < self.last <= self.first:
            raise InputError(
                f"the temperature falls from first={self.first} to last={self.last}: "
                "0 < last ≤ first"
            )

    def steps(self, most: int) -> tuple[int, int]:
        """Return when gates begin to learn, and when they are settled.

        Args:
            most: The steps of the run.

        Returns:
            The first step with learning gates, and the first step without.
        """
        begin = round(self.wait * most)
        return begin, max(begin + 1, round(self.settle * most))

    def phase(self, step: int, most: int) -> Phase:
        """Return what gates do in a step.

        Args:
            step: From 0.
            most: The steps of the run.

        Returns:
            "wait", "anneal" or "settled".
        """
        begin, end = self.steps(most)
        return "wait" if step < begin else "anneal" if step < end else "settled"

    def temperature(self, step: int, most: int) -> float:
        """Return the temperature of a step.

        Args:
            step: From 0.
            most: The steps of the run.

        Returns:
            From `first` in the first step with learning gates to `last` in the last.
        """
        begin, end = self.steps(most)
        way = (step - begin) / max(1, end - 1 - begin)
        return self.first * (self.last / self.first) ** min(max(way, 0.0), 1.0)
