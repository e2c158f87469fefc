"""Successive halving: all candidates get a little, the better ones more (Jamieson and Talwalkar
2016, arXiv 1502.07943).

It knows nothing of training: `evaluate` is given a candidate and a budget of steps. Leaves to
others: what a candidate is, remembering (`study`), ranking (`pareto`).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Generic, TypeVar

from regard.errors import InputError, RegardError
from regard.search.pareto import pareto_order
from regard.search.study import Score, Study

T = TypeVar("T")
Evaluate = Callable[[T, int], Score]


@dataclass(frozen=True)
class Progress:
    """Where a search has come to, after an evaluation.

    Attributes:
        rung: The number of the rung, from 0.
        rungs: How many there are.
        done: Evaluations of this rung that are done.
        total: How many it has.
        key: What was evaluated.
        score: What was found.
        kept: Whether it was known from the study.
        best: The key of the best so far: of the highest rung the highest quality.
        seconds: How long the study took so far.
    """

    rung: int
    rungs: int
    done: int
    total: int
    key: str
    score: Score
    kept: bool
    best: str
    seconds: float


@dataclass(frozen=True)
class Outcome(Generic[T]):
    """What came of a search.

    Attributes:
        scores: By key, each candidate's score on the highest rung it reached.
        rungs: By key, the number of that rung, from 0.
        order: Keys, best first: those of higher rungs, then by objectives.
        finished: Whether every rung was run.
        stopped: Why not: "budget", "interrupt" or "".
    """

    scores: dict[str, Score]
    rungs: dict[str, int]
    order: tuple[str, ...]
    finished: bool
    stopped: str


def by_quality(score: Score) -> tuple[float, ...]:
    """Return quality as the one objective, to be small."""
    return (-score.quality,)


def by_all(score: Score) -> tuple[float, ...]:
    """Return quality, step time and memory as objectives, to be small."""
    return (-score.quality, score.seconds_per_step, score.bytes)


def halving(
    candidates: Mapping[str, T],
    rungs: Sequence[int],
    evaluate: Evaluate[T],
    *,
    study: Study,
    keep: float = 1 / 3,
    objectives: Callable[[Score], Sequence[float]] = by_quality,
    budget_s: float = math.inf,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    describe: Callable[[T], Any] = str,
) -> Outcome[T]:
    """Evaluate candidates with growing budgets, and only the best of each rung on the next.

    What the study holds is not evaluated again. Ctrl-C and an empty budget end the search after
    what was finished; called again with the same study it goes on from there.

    Args:
        candidates: By fingerprint; the same key must mean the same candidate.
        rungs: Steps of each rung, ascending.
        evaluate: Returns the score of a candidate trained for so many steps in all. A RegardError
            is written down as a failure, with quality -inf; any other error ends the search.
        study: Where results are kept.
        keep: The share of a rung's candidates that goes on to the next; one at least.
        objectives: What is to be small; of several, the Pareto order decides.
        budget_s: Seconds for all evaluations of the study; none begins after them.
        on_progress: Is told of each evaluation.
        describe: What the study keeps of a candidate, as data that JSON can say.

    Returns:
        The outcome.

    Raises:
        InputError: If there are no candidates, rungs do not ascend, or a number makes no sense.
    """
    _check(candidates, rungs, keep, budget_s)
    search = _Search(dict(candidates), evaluate, study, budget_s, on_progress, describe, len(rungs))
    going, stopped = list(candidates), ""
    for number, steps in enumerate(rungs):
        if number:
            going = search.best_of(going, objectives)[: max(1, round(keep * len(going)))]
        try:
            stopped = search.run(number, steps, going)
        except KeyboardInterrupt:
            stopped = "interrupt"
        if stopped:
            break
    order = search.best_of(list(search.scores), objectives)
    return Outcome(search.scores, search.rungs, tuple(order), not stopped, stopped)


@dataclass
class _Search(Generic[T]):
    candidates: dict[str, T]
    evaluate: Evaluate[T]
    study: Study
    budget_s: float
    on_progress: Callable[[Progress], None]
    describe: Callable[[T], Any]
    count: int

    def __post_init__(self) -> None:
        self.scores: dict[str, Score] = {}
        self.rungs: dict[str, int] = {}

    def run(self, number: int, steps: int, keys: Sequence[str]) -> str:
        """Evaluate candidates on one rung; return why it was not finished, or ""."""
        for done, key in enumerate(keys, 1):
            score = self.study.find(key, steps)
            kept = score is not None
            if score is None:
                if self.study.seconds >= self.budget_s:
                    return "budget"
                score = self._evaluated(key, steps)
            self.scores[key], self.rungs[key] = score, number
            place = number, self.count, done, len(keys)
            self.on_progress(Progress(*place, key, score, kept, self._best(), self.study.seconds))
        return ""

    def _best(self) -> str:
        def value(key: str) -> tuple[bool, int, float]:
            quality = self.scores[key].quality
            return quality > -math.inf, self.rungs[key], quality

        return max(self.scores, key=value)

    def _evaluated(self, key: str, steps: int) -> Score:
        began = time.perf_counter()
        try:
            score = self.evaluate(self.candidates[key], steps)
            if not isinstance(score, Score):
                raise TypeError(f"evaluate returned {score!r}; it must return a Score")
        except RegardError as problem:
            score = Score(-math.inf, math.inf, math.inf, str(problem) or type(problem).__name__)
        if score.failure:
            score = replace(score, quality=-math.inf)
        seconds = time.perf_counter() - began
        self.study.keep(key, steps, score, seconds, self.describe(self.candidates[key]))
        return score

    def best_of(
        self, keys: Sequence[str], objectives: Callable[[Score], Sequence[float]]
    ) -> list[str]:
        """Return keys, best first; what failed comes last, whatever it costs."""
        found: list[str] = []
        groups: dict[tuple[int, bool], list[str]] = {}
        for key in keys:
            failed = self.scores[key].quality == -math.inf
            groups.setdefault((-self.rungs[key], failed), []).append(key)
        for _, group in sorted(groups.items()):
            order = pareto_order([tuple(objectives(self.scores[key])) for key in group])
            found += [group[number] for number in order]
        return sorted(found, key=lambda key: self.scores[key].quality == -math.inf)


def _check(candidates: Mapping, rungs: Sequence[int], keep: float, budget_s: float) -> None:
    if not candidates:
        raise InputError("halving needs candidates; none was given")
    whole = all(type(steps) is int and steps > 0 for steps in rungs)
    if not rungs or not whole or any(a >= b for a, b in pairwise(rungs)):
        raise InputError(f"rungs={list(rungs)!r} must be whole numbers of steps that ascend")
    if not 0 < keep <= 1:
        raise InputError(f"keep={keep!r} must be a share above 0 and at most 1")
    if not budget_s > 0:
        raise InputError(f"budget_s={budget_s!r} must be seconds above 0")
