"""Precision, recall and F1 from counts of each class: per class, macro and micro.

Leaves to others: what is counted, labels (`classification`) or spans (`tagging`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from regard.metrics.measure import Tally


class ClassLine(NamedTuple):
    """How well one class is found.

    Attributes:
        precision: The share of what was predicted that is right, 0 if nothing was.
        recall: The share of what there is that was found, 0 if there is nothing.
        f1: Their harmonic mean.
        support: How many there are.
    """

    precision: float
    recall: float
    f1: float
    support: int


def tally_f1(name: str, counts: np.ndarray, average: str, **more: Any) -> Tally:
    """Return an F1 over classes.

    Args:
        name: Of the metric.
        counts: (N, K, 3): right ones, predicted ones and those there are, for each class.
        average: "micro" or "macro".
        **more: What else the tally says.

    Returns:
        The metric; the macro average is over classes that occur, predicted or real.
    """
    formula = {"micro": _micro, "macro": _macro}[average]
    return Tally(name, counts.reshape(len(counts), -1), formula, **more)


def class_lines(counts: np.ndarray, labels: Sequence[str]) -> dict[str, ClassLine]:
    """Return one line for each class.

    Args:
        counts: (K, 3): right ones, predicted ones and those there are.
        labels: K names.

    Returns:
        Lines by label, in order.
    """
    return {label: _line(*row) for label, row in zip(labels, counts, strict=True)}


def _line(right: float, predicted: float, real: float) -> ClassLine:
    precision, recall = right / max(predicted, 1), right / max(real, 1)
    return ClassLine(precision, recall, 2 * right / max(predicted + real, 1), int(real))


def _micro(sums: np.ndarray) -> np.ndarray:
    """From (…, 3 K) to F1 of all classes together; 0 if there is nothing to find or to say."""
    right, predicted, real = np.moveaxis(_by_class(sums).sum(-2), -1, 0)
    return 2 * right / np.maximum(predicted + real, 1)


def _macro(sums: np.ndarray) -> np.ndarray:
    right, predicted, real = np.moveaxis(_by_class(sums), -1, 0)
    occurs = predicted + real
    classes = (occurs > 0).sum(-1)
    return (2 * right / np.maximum(occurs, 1)).sum(-1) / np.maximum(classes, 1)


def _by_class(sums: np.ndarray) -> np.ndarray:
    return sums.reshape(*sums.shape[:-1], -1, 3)


def report_table(lines: dict[str, ClassLine], averages: dict[str, float]) -> str:
    """Return a report as text.

    Args:
        lines: By label.
        averages: Values of F1 to print below, by name.

    Returns:
        Text without a final newline.
    """
    wide = max(map(len, [*lines, *averages]), default=0)
    table = [f"{'':<{wide}}  precision  recall      F1  support"]
    for label, (precision, recall, f1, support) in lines.items():
        table.append(f"{label:<{wide}}  {precision:9.3f}  {recall:6.3f}  {f1:6.3f}  {support:7d}")
    table += [f"{name:<{wide}}  {'':9}  {'':6}  {value:6.3f}" for name, value in averages.items()]
    return "\n".join(table)
