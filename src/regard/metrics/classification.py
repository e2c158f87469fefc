"""Classification of whole texts: accuracy, macro and micro F1, a report and a confusion matrix."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.errors import DataError
from regard.metrics.check import check_labels, check_paired
from regard.metrics.classes import ClassLine, report_table, tally_f1
from regard.metrics.measure import Tally, mean_of
from regard.metrics.need import need


@dataclass(frozen=True)
class ClassReport:
    """Classes one by one.

    Attributes:
        classes: A line for each label.
        confusion: int (K, K): how often row's label was taken for column's.
        accuracy: The share of texts whose label is right.
        macro_f1: The mean F1 of the classes that occur.
    """

    classes: dict[str, ClassLine]
    confusion: np.ndarray
    accuracy: float
    macro_f1: float

    def __str__(self) -> str:
        averages = {"accuracy": self.accuracy, "macro": self.macro_f1}
        return report_table(self.classes, averages)


def accuracy(
    predictions: Sequence[str], references: Sequence[str], labels: Sequence[str] | None = None
) -> Tally:
    """Return the share of texts whose label is right.

    Args:
        predictions: Labels a model gave.
        references: The right ones, one for each.
        labels: All there are; None takes them from both.

    Returns:
        The metric, from 0 to 1.

    Raises:
        DataError: If the lists do not fit each other, or a label is unknown.
    """
    _labels(predictions, references, labels)
    right = [one == other for one, other in zip(predictions, references, strict=True)]
    return mean_of("accuracy", np.array(right, dtype=np.float64), {"right": sum(right)})


def macro_f1(
    predictions: Sequence[str],
    references: Sequence[str],
    labels: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
) -> Tally:
    """Return the mean F1 of the classes that occur, each as important as any other.

    Args:
        predictions: Labels a model gave.
        references: The right ones, one for each.
        labels: All there are; None takes them from both.
        only: The classes that count; None counts all.

    Returns:
        The metric, from 0 to 1.

    Raises:
        DataError: If the lists do not fit each other, or a label is unknown.
    """
    return tally_f1("macro F1", _counts(predictions, references, labels, only), "macro")


def micro_f1(
    predictions: Sequence[str],
    references: Sequence[str],
    labels: Sequence[str] | None = None,
    only: Sequence[str] | None = None,
) -> Tally:
    """Return F1 of all decisions together; over all classes that is accuracy.

    Args:
        predictions: Labels a model gave.
        references: The right ones, one for each.
        labels: All there are; None takes them from both.
        only: The classes that count, e.g. all but "other"; None counts all.

    Returns:
        The metric, from 0 to 1.

    Raises:
        DataError: If the lists do not fit each other, or a label is unknown.
    """
    return tally_f1("micro F1", _counts(predictions, references, labels, only), "micro")


def class_report(
    predictions: Sequence[str], references: Sequence[str], labels: Sequence[str] | None = None
) -> ClassReport:
    """Return classes one by one, and what is taken for what, as scikit-learn counts them.

    Args:
        predictions: Labels a model gave.
        references: The right ones, one for each.
        labels: All there are, in the order of the report; None takes them from both, sorted.

    Returns:
        The report.

    Raises:
        DataError: If the lists do not fit each other, or a label is unknown.
        UnsupportedError: If scikit-learn is not installed.
    """
    known = _labels(predictions, references, labels)
    counted = need("sklearn.metrics")
    columns = counted.precision_recall_fscore_support(
        references, predictions, labels=known, zero_division=0
    )
    lines = [
        ClassLine(float(p), float(r), float(f), int(n)) for p, r, f, n in zip(*columns, strict=True)
    ]
    return ClassReport(
        classes=dict(zip(known, lines, strict=True)),
        confusion=counted.confusion_matrix(references, predictions, labels=known),
        accuracy=accuracy(predictions, references, labels).score().value,
        macro_f1=macro_f1(predictions, references, labels).score().value,
    )


def labels_in(*lists: Sequence[str]) -> list[str]:
    """Return all labels that occur.

    Args:
        *lists: Labels of texts.

    Returns:
        Each once, sorted.

    Raises:
        DataError: If a text has none.
    """
    found = {label for one in lists for label in one}
    if None in found or any(label != label for label in found):
        raise DataError("a label is missing (None or NaN); every text needs one")
    return sorted(found, key=str)


def _labels(
    predictions: Sequence[str], references: Sequence[str], labels: Sequence[str] | None
) -> list[str]:
    """Return all labels, after a check of both lists."""
    check_paired(predictions, references)
    if labels is None:
        return labels_in(predictions, references)
    check_labels(predictions, labels, "prediction")
    check_labels(references, labels, "reference")
    return list(labels)


def _counts(
    predictions: Sequence[str],
    references: Sequence[str],
    labels: Sequence[str] | None,
    only: Sequence[str] | None,
) -> np.ndarray:
    """Return (N, K, 3): right ones, predicted ones and those there are."""
    known = _labels(predictions, references, labels)
    if only is not None:
        check_labels(only, known, "label")
    places = {label: place for place, label in enumerate(known if only is None else only)}
    counts = np.zeros((len(references), len(places), 3))
    for row, (found, right) in enumerate(zip(predictions, references, strict=True)):
        for column, label in ((1, found), (2, right)):
            if label in places:
                counts[row, places[label], column] = 1
    counts[..., 0] = counts[..., 1] * counts[..., 2]
    return counts
