"""The verdict: how each contender stands, and in one sentence what is shown of it.

The intervals of all contenders hold together (Bonferroni: each at level 1 − α / contenders).
Better, worse and no worse than a margin are read from the same interval, so they need no correction
of their own (Morikawa & Yoshida 1995). Holm's corrected p is told beside it and decides nothing.
Leaves to others: the statistics (`statistics`), the page (`report`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from regard.customise.verdict.costs import Ratio
from regard.customise.verdict.plan import PLAIN, Plan
from regard.customise.verdict.statistics import Gain

Outcome = Literal["better", "worse", "cheaper", "no gain shown"]
# Fewer test rows than these, and means of rows are not yet normal.
FEW_ROWS, FEW_SEEDS = 50, 5


@dataclass(frozen=True)
class Standing:
    """How one contender did.

    Attributes:
        name: What it goes by.
        kind: "plain", "finalist" or "random".
        scores: The metric on the test rows, seed by seed.
        parameters: Of its model.
        steps: Trained, seed by seed.
        step_ms: Of a training step, the median; None if it was not measured.
        peak_bytes: Of a training step; likewise.
    """

    name: str
    kind: str
    scores: tuple[float, ...]
    parameters: int
    steps: tuple[int, ...]
    step_ms: float | None = None
    peak_bytes: int | None = None

    @property
    def score(self) -> float:
        """The mean over seeds."""
        return sum(self.scores) / len(self.scores)


@dataclass(frozen=True)
class Comparison:
    """A contender against a baseline.

    Attributes:
        contender: Its name.
        baseline: Plain attention's name, or that of random search.
        gain: What it gains, with its interval.
        by_seed: What it gains with each seed.
        corrected_p: Holm's, over all contenders with this baseline.
        margin: The loss that counts as none.
        faster: The share of the baseline's time below which it is cheaper.
        time: Its share of the baseline's time; None if that was not measured.
    """

    contender: str
    baseline: str
    gain: Gain
    by_seed: tuple[float, ...]
    corrected_p: float
    margin: float
    faster: float
    time: Ratio | None = None

    @property
    def no_worse(self) -> bool:
        """Whether a loss beyond the margin is excluded."""
        return self.gain.low > -self.margin

    @property
    def is_faster(self) -> bool:
        """Whether the whole interval of its time lies below the share that counts."""
        return self.time is not None and self.time.high <= self.faster

    @property
    def outcome(self) -> Outcome:
        """What is shown."""
        if self.gain.low > 0:
            return "better"
        if self.gain.high < 0:
            return "worse"
        return "cheaper" if self.no_worse and self.is_faster else "no gain shown"

    @property
    def sentence(self) -> str:
        """The same in words, with its numbers."""
        low, high = shown(self.gain.low), shown(self.gain.high)
        time = "" if self.time is None else f"{self.time.value:.2f} of the time"
        if self.outcome == "better":
            also = f", at {time}" if self.is_faster else ""
            return f"better than {self.baseline} by {shown(self.gain.value)} [{low}, {high}]{also}"
        if self.outcome == "worse":
            lost = f"{shown(-self.gain.value)} [{shown(-self.gain.high)}, {shown(-self.gain.low)}]"
            also = f", within the margin {shown(self.margin)}" if self.no_worse else ""
            also += f", at {time}" if self.is_faster else ""
            return f"worse than {self.baseline} by {lost}{also}"
        if self.outcome == "cheaper":
            return (
                f"cheaper: {time} of {self.baseline} at no worse quality (margin "
                f"{shown(self.margin)}; {signed(self.gain.value)} [{low}, {high}])"
            )
        return f"no gain shown over {self.baseline}: {signed(self.gain.value)} [{low}, {high}]"


@dataclass(frozen=True)
class Verdict:
    """What is shown of all contenders.

    Attributes:
        task: The kind of task.
        plan: What was promised.
        rows: How many test rows.
        test_sha256: Of what they ask.
        higher_is_better: Of the metric.
        standings: Plain attention first.
        comparisons: With plain attention, then with random search.
        machine: Where steps were timed.
        remarks: What a reader should know.
    """

    task: str
    plan: Plan
    rows: int
    test_sha256: str
    higher_is_better: bool
    standings: tuple[Standing, ...]
    comparisons: tuple[Comparison, ...]
    machine: Mapping[str, Any]
    remarks: tuple[str, ...]

    def of(self, name: str, baseline: str = PLAIN) -> Comparison:
        """Return one comparison."""
        return next(
            one for one in self.comparisons if (one.contender, one.baseline) == (name, baseline)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data.

        Returns:
            What JSON can hold.
        """
        return {
            "regard": "verdict",
            "version": 1,
            "task": self.task,
            "metric": self.plan.metric,
            "higher_is_better": self.higher_is_better,
            "rows": self.rows,
            "test_sha256": self.test_sha256,
            "plan": self.plan.as_dict(),
            "machine": dict(self.machine),
            "contenders": [asdict(one) | {"score": one.score} for one in self.standings],
            "comparisons": [
                asdict(one) | {"outcome": one.outcome, "sentence": one.sentence}
                for one in self.comparisons
            ],
            "remarks": list(self.remarks),
        }


def shown(value: float) -> str:
    """Return a number of a sentence: three digits that count, and no empty sign."""
    text = f"{value:.3g}"
    return "0" if float(text) == 0 else text


def signed(value: float) -> str:
    """Return a number with its sign."""
    return shown(value) if float(f"{value:.3g}") == 0 else f"{value:+.3g}"


def remarks_on(standings: Sequence[Standing], rows: int, seeds: int) -> tuple[str, ...]:
    """Return what a reader of a verdict should know.

    Args:
        standings: Plain attention first.
        rows: Of the test split.
        seeds: Trainings of each.

    Returns:
        Sentences; none if all is as it should be.
    """
    plain, found = standings[0], []
    for one in standings[1:]:
        if one.parameters != plain.parameters:
            more = one.parameters - plain.parameters
            found.append(
                f"{one.name} has {one.parameters:,} parameters and {plain.name} "
                f"{plain.parameters:,} ({more:+,}, {more / plain.parameters:+.2%})"
            )
        if one.steps != plain.steps:
            found.append(
                f"{one.name} was not trained for as many steps as {plain.name}: "
                f"{_listed(one.steps)}, not {_listed(plain.steps)}"
            )
    if rows < FEW_ROWS:
        found.append(f"{rows} test rows are few: intervals are less sure than they say")
    if seeds < FEW_SEEDS:
        found.append(f"{seeds} seeds are few: intervals are long; take {FEW_SEEDS} or more")
    return tuple(found)


def _listed(steps: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(set(steps))))
