"""Where the candidates of a study stand, and which of them goes on: successive halving, one by one.

Each rung is a number of steps on the schedule of the whole run. A candidate may go on from a rung
once it is among the better half of those that reached it, however few they are: asynchronous
successive halving (Li et al. 2020, arXiv 1810.05934), which always has a best so far.
Leaves to others: training, time (`forecast`), new candidates (`first`, `offspring`).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from regard.customise.candidate import PLAIN, Candidate
from regard.metrics.records import LOWER_IS_BETTER
from regard.search import Score, pareto_order

KEEP = 0.5
"""The share of a rung's candidates that goes on."""


@dataclass(frozen=True)
class Job:
    """A candidate to be trained up to a rung.

    Attributes:
        candidate: Which.
        rung: The number of the rung, from 0.
        steps: How many are to be trained for it.
    """

    candidate: Candidate
    rung: int
    steps: int


class Standing:
    """What is known of each candidate.

    Args:
        rungs: Steps of each rung, ascending.
        objectives: What is to be small; of several, the Pareto order decides.

    Attributes:
        candidates: By key, in the order of their beginning.
        scores: By key, its score on each rung.
        losses: By key and rung, the loss of the validation rows, where it is known.
    """

    def __init__(
        self, rungs: Sequence[int], objectives: Callable[[Score], Sequence[float]]
    ) -> None:
        self.rungs, self.objectives = tuple(rungs), objectives
        self.candidates: dict[str, Candidate] = {}
        self.scores: dict[str, dict[int, Score]] = {}
        self.losses: dict[tuple[str, int], float] = {}

    @property
    def last(self) -> int:
        """The number of the last rung."""
        return len(self.rungs) - 1

    def put(self, candidate: Candidate, rung: int, score: Score, loss: float | None = None) -> None:
        """Take a score down.

        Args:
            candidate: Whose.
            rung: The number of the rung.
            score: What was found.
            loss: Of the validation rows.
        """
        if loss is not None:
            self.losses[candidate.key, rung] = loss
        self.candidates.setdefault(candidate.key, candidate)
        self.scores.setdefault(candidate.key, {})[rung] = score

    def reached(self, key: str) -> int:
        """Return the highest rung of a candidate, −1 if there is none."""
        return max(self.scores.get(key, {}), default=-1)

    def score(self, key: str) -> Score:
        """Return the score of a candidate on its highest rung."""
        return self.scores[key][self.reached(key)]

    def failed(self, key: str) -> bool:
        """Return whether a candidate has no quality."""
        return bool(self.score(key).failure) or self.score(key).quality == -math.inf

    def ranked(self, rung: int) -> list[str]:
        """Return who reached a rung and did not fail, best first.

        Args:
            rung: Its number.

        Returns:
            Keys.
        """
        there = [key for key in self.scores if rung in self.scores[key] and not self.failed(key)]
        # On early rungs many answer alike; then the loss tells more.
        there.sort(key=lambda key: self.losses.get((key, rung), math.inf))
        points = [tuple(self.objectives(self.scores[key][rung])) for key in there]
        if any(len(point) > 1 for point in points):
            return [there[place] for place in pareto_order(points)]
        return [there[place] for place in sorted(range(len(points)), key=points.__getitem__)]

    def order(self) -> list[str]:
        """Return who did not fail, best first: those of higher rungs before those of lower ones."""
        return [
            key
            for rung in reversed(range(len(self.rungs)))
            for key in self.ranked(rung)
            if self.reached(key) == rung
        ]

    def leader(self) -> str | None:
        """Return the best so far: the first of the highest rung anyone reached."""
        return next(iter(self.order()), None)

    def job(self, candidate: Candidate, rung: int) -> Job:
        """Return what is to be trained for a candidate to reach a rung.

        Who goes on from another's weights runs its last rung anew from its own start, so that
        every score of that rung is one of a whole run.

        Args:
            candidate: Which.
            rung: The number of the rung.

        Returns:
            The job.
        """
        reached, heir = self.reached(candidate.key), candidate.root is not None
        if heir and rung == self.last:
            return Job(candidate, rung, self.rungs[rung])
        begun = self.rungs[reached] if reached >= 0 else self.rungs[0] if heir else 0
        return Job(candidate, rung, self.rungs[rung] - begun)

    def first_job(self, candidate: Candidate) -> Job:
        """Return the first job of a candidate: an heir is judged from the second rung on."""
        return self.job(candidate, 0 if candidate.root is None else 1)

    def promotions(self) -> Iterator[Job]:
        """Yield who has earned the next rung, from the highest rung down; at last plain attention.

        It goes on whatever its place, so that there is something to compare with.
        """
        for rung in reversed(range(self.last)):
            ranked = self.ranked(rung)
            for key in ranked[: math.floor(len(ranked) * KEEP)]:
                if self.reached(key) == rung and key != PLAIN:
                    yield self.job(self.candidates[key], rung + 1)
        if PLAIN in self.candidates and self.reached(PLAIN) < self.last and not self.failed(PLAIN):
            yield self.job(self.candidates[PLAIN], self.reached(PLAIN) + 1)

    def prospects(self) -> Iterator[Candidate]:
        """Yield who is first on a rung and has not gone on, from the highest rung down."""
        for rung in reversed(range(self.last)):
            first = next(iter(self.ranked(rung)), None)
            if first is not None and self.reached(first) == rung:
                yield self.candidates[first]

    def dropped(self, key: str) -> str:
        """Return why a candidate did not go on, in words; "" for those that ran to the end.

        Args:
            key: Which.

        Returns:
            A phrase.
        """
        if self.failed(key):
            return self.score(key).failure or "diverged"
        rung = self.reached(key)
        if rung == self.last:
            return ""
        ranked = self.ranked(rung)
        place = ranked.index(key) + 1
        if place <= math.floor(len(ranked) * KEEP):
            return f"place {place} of {len(ranked)} at step {self.rungs[rung]}; no time was left"
        return f"place {place} of {len(ranked)} at step {self.rungs[rung]}"


def value_of(score: Score, metric: str) -> float:
    """Return a score's quality as the metric has it.

    Args:
        score: The score, whose quality is the larger the better.
        metric: The name of the metric.

    Returns:
        The value.
    """
    return -score.quality if metric in LOWER_IS_BETTER else score.quality
