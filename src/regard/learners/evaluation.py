"""What a model is worth on rows it did not learn from, beside what needs no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from regard.data.record import Record
from regard.learners.learner import Learner
from regard.metrics import records
from regard.metrics.measure import Measure


@dataclass(frozen=True)
class Evaluation:
    """What a model makes of rows.

    Attributes:
        answers: One for each row.
        records: What was asked and answered, as `metrics.records` has it.
        measures: The metrics of the answers.
        baseline: The same metrics of what needs no model.
        baseline_name: What that does.
    """

    answers: list[Any]
    records: list[records.Record]
    measures: list[Measure]
    baseline: list[Measure]
    baseline_name: str

    def metrics(self) -> dict[str, Any]:
        """Return the numbers.

        Returns:
            `examples`, how many; `scores` and `baseline`, numbers by the name of the metric;
            `baseline_name`.
        """
        return {
            "examples": len(self.answers),
            "scores": values_of(self.measures),
            "baseline": values_of(self.baseline),
            "baseline_name": self.baseline_name,
        }


def values_of(measures: Sequence[Measure]) -> dict[str, float]:
    """Return metrics as numbers.

    Args:
        measures: Any number.

    Returns:
        Values by name.
    """
    return {one.name: one.score().value for one in measures}


def evaluate(
    learner: Learner, model: PreTrainedModel, rows: Sequence[Record], train: Sequence[Record]
) -> Evaluation:
    """Score what a model answers.

    Args:
        learner: Of the task.
        model: The model.
        rows: At least one row.
        train: The training rows, from which the baseline is taken.

    Returns:
        The answers and their metrics.
    """
    answers = learner.answer(model, rows)
    found = records_of(learner, rows, answers)
    guessed = records_of(learner, rows, learner.baseline(train, rows))
    measures, baseline = records.measures_of(learner.task.task, [found, guessed], learner.options)
    return Evaluation(answers, found, measures, baseline, learner.baseline_name)


def records_of(
    learner: Learner, rows: Sequence[Record], answers: Sequence[Any]
) -> list[records.Record]:
    """Return what a run keeps of its answers.

    Args:
        learner: Of the task.
        rows: What was asked.
        answers: One for each.

    Returns:
        A record for each.
    """
    return [learner.record(row, answer) for row, answer in zip(rows, answers, strict=True)]
