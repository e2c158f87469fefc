"""Finished runs side by side: their metrics over the same test examples, and verdicts on them.

The first run is the baseline. All comparisons made at once are corrected together. A verdict
speaks of other test examples of the same kind, not of another seed of training.
Leaves to others: the statistics (`metrics`), the run folder (`folder`, `examples`).
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regard.errors import DataError, TaskError, located
from regard.metrics.measure import Measure
from regard.metrics.records import JOINT, Record, measures_of
from regard.metrics.score import Score
from regard.metrics.uncertainty import LEVEL, RESAMPLES, bootstrap
from regard.metrics.verdict import PERMUTATIONS, Verdict, compare, correct
from regard.train.examples import Measured, read_records


@dataclass(frozen=True)
class Comparison:
    """Runs beside a baseline.

    Attributes:
        task: The kind of task.
        examples: How many test examples all of them answered.
        test_sha256: Of what these ask.
        scores: The metrics of each run, the baseline's first, by the name of the run.
        verdicts: For each run but the baseline, one in each metric.
    """

    task: str
    examples: int
    test_sha256: str
    scores: dict[str, list[Score]]
    verdicts: dict[str, list[Verdict]]

    @property
    def answers(self) -> set[str]:
        """The verdicts in words, each once."""
        return {one.answer for verdicts in self.verdicts.values() for one in verdicts}

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain data.

        Returns:
            What JSON can hold.
        """
        return {
            "task": self.task,
            "examples": self.examples,
            "test_sha256": self.test_sha256,
            "scores": {
                name: [one.as_dict() for one in found] for name, found in self.scores.items()
            },
            "verdicts": {
                name: [
                    asdict(one) | {"difference": one.difference, "answer": one.answer}
                    for one in found
                ]
                for name, found in self.verdicts.items()
            },
        }


def compare_runs(
    runs: Sequence[str | os.PathLike],
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    task: str | None = None,
) -> Comparison:
    """Compare finished runs of one task over one test split.

    Args:
        runs: Run folders, at least two; the first is the baseline.
        level: Of all intervals.
        resamples: Of the bootstrap.
        permutations: Of the permutation test.
        seed: Of both.
        task: Which of several tasks is compared in runs that join some; other runs have it alone.

    Returns:
        Scores and verdicts.

    Raises:
        TaskError: If the runs cannot be compared; the message says which, and why.
        FileError: If a file of a run is broken.
        DataError: If an answer is not of the kind the task wants.
    """
    if len(runs) < 2:
        raise TaskError("one run has nothing to be compared with; give two or more")
    names = _names(runs)
    read = {name: read_records(run, task) for name, run in zip(names, runs, strict=True)}
    if task is not None and all(read_records(run)[0].task != JOINT for run in runs):
        raise TaskError(f"--task {task}: none of these runs joins tasks; leave it out")
    first, *others = names
    for other in others:
        _check_alike(first, *read[first], other, *read[other])
    measured, records = read[first]
    measures = _measures(measured, {name: found for name, (_, found) in read.items()})
    drawn = {"level": level, "resamples": resamples, "seed": seed}
    verdicts = correct(
        [
            compare(baseline, system, permutations=permutations, **drawn)
            for other in others
            for baseline, system in zip(measures[first], measures[other], strict=True)
        ]
    )
    each = len(measures[first])
    return Comparison(
        task=measured.task,
        examples=len(records),
        test_sha256=measured.test_sha256,
        scores={name: [bootstrap(one, **drawn) for one in measures[name]] for name in names},
        verdicts={
            other: verdicts[place * each : (place + 1) * each] for place, other in enumerate(others)
        },
    )


def _names(runs: Sequence[str | os.PathLike]) -> list[str]:
    """Return the paths as given, each of another folder."""
    seen: dict[Path, str] = {}
    for run in runs:
        folder = Path(run).resolve()
        if folder in seen:
            raise TaskError(f"{run}: this run is given twice; compare it with another")
        seen[folder] = str(run)
    return list(seen.values())


def _check_alike(
    first: str,
    before: Measured,
    asked: list[Record],
    other: str,
    now: Measured,
    given: list[Record],
) -> None:
    if before.task != now.task:
        joins = JOINT in (before.task, now.task)
        hint = "; --task chooses one of those that are joined" if joins else ""
        raise TaskError(
            f"{other}: the task is {now.task}, that of {first} is {before.task}; "
            f"only runs of one task can be compared{hint}"
        )
    if before.test_sha256 != now.test_sha256:
        raise TaskError(
            f"{other}: its {len(given)} test examples (sha256 {now.test_sha256[:12]}…) are not "
            f"the {len(asked)} of {first} ({before.test_sha256[:12]}…); "
            f"{_first_difference(asked, given)}"
        )
    if before.options != now.options:
        raise TaskError(
            f"{other}: its metrics are counted with {now.options}, those of {first} with "
            f"{before.options}; count both alike"
        )


def _first_difference(asked: list[Record], given: list[Record]) -> str:
    for number, (one, other) in enumerate(zip(asked, given, strict=False), 1):
        for key in ("input", "reference"):
            if one[key] != other[key]:
                return f"they differ first in line {number} of records.jsonl, in '{key}'"
    return "one is the beginning of the other"


def _measures(measured: Measured, records: dict[str, list[Record]]) -> dict[str, list[Measure]]:
    try:
        found = measures_of(measured.task, list(records.values()), measured.options)
    except DataError as problem:
        raise located(problem, " and ".join(records)) from None
    return dict(zip(records, found, strict=True))
