"""Tagging of tokens: F1 of exact spans, the accuracy of tags, and a report of each type and tag.

Leaves to others: what a span is (`spans`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from regard.errors import DataError, located
from regard.metrics.check import check_labels, check_paired
from regard.metrics.classes import ClassLine, class_lines, report_table, tally_f1
from regard.metrics.classification import ClassReport, class_report
from regard.metrics.measure import Tally, ratio
from regard.metrics.spans import read_spans

Tags = Sequence[str]


@dataclass(frozen=True)
class SpanReport:
    """Types of spans one by one.

    Attributes:
        types: A line for each type; a span is right if its start, its end and its type are.
        micro_f1: F1 of all spans together.
        macro_f1: The mean F1 of the types that occur.
        repaired: Malformed tags among the predictions.
    """

    types: dict[str, ClassLine]
    micro_f1: float
    macro_f1: float
    repaired: int

    def __str__(self) -> str:
        averages = {"micro": self.micro_f1, "macro": self.macro_f1}
        return report_table(self.types, averages)


def span_f1(
    predictions: Sequence[Tags],
    references: Sequence[Tags],
    scheme: str = "BIO",
    average: str = "micro",
    types: Sequence[str] | None = None,
) -> Tally:
    """Return F1 of spans: right if start, end and type are.

    Args:
        predictions: For each sentence, a tag for each token.
        references: The right ones.
        scheme: "BIO", "IOBES" or "plain"; see `spans` for how malformed tags are read.
        average: "micro" counts every span alike, "macro" every type.
        types: All there are; None takes them from both. Two systems that are compared need the
            same ones.

    Returns:
        The metric, from 0 to 1; an example is a sentence.

    Raises:
        DataError: If the sentences do not fit each other, or a tag is unknown.
    """
    if average not in ("micro", "macro"):
        raise DataError(f"there is no average '{average}'; known: macro, micro")
    counts, _, repaired = _count(predictions, references, scheme, types)
    spans = int(counts[..., 2].sum())
    name = "span F1" if average == "micro" else "span macro F1"
    return tally_f1(name, counts, average, noted={"spans": spans, "repaired": repaired})


def tag_accuracy(predictions: Sequence[Tags], references: Sequence[Tags]) -> Tally:
    """Return the share of tokens whose tag is right.

    Args:
        predictions: For each sentence, a tag for each token.
        references: The right ones.

    Returns:
        The metric, from 0 to 1; an example is a sentence.

    Raises:
        DataError: If the sentences do not fit each other.
    """
    check_sentences(predictions, references)
    pairs = zip(predictions, references, strict=True)
    rows = [(sum(a == b for a, b in zip(*two, strict=True)), len(two[0])) for two in pairs]
    tokens = sum(length for _, length in rows)
    return Tally("tag accuracy", np.array(rows, np.float64), ratio, {"tokens": tokens})


def span_report(
    predictions: Sequence[Tags], references: Sequence[Tags], scheme: str = "BIO"
) -> SpanReport:
    """Return types of spans one by one.

    Args:
        predictions: For each sentence, a tag for each token.
        references: The right ones.
        scheme: "BIO", "IOBES" or "plain".

    Returns:
        The report, types in order of the alphabet.

    Raises:
        DataError: If the sentences do not fit each other, or a tag is unknown.
    """
    counts, labels, repaired = _count(predictions, references, scheme)
    micro, macro = (tally_f1("F1", counts, one).score().value for one in ("micro", "macro"))
    return SpanReport(class_lines(counts.sum(0), labels), micro, macro, repaired)


def tag_report(predictions: Sequence[Tags], references: Sequence[Tags]) -> ClassReport:
    """Return tags one by one, token by token, as scikit-learn counts them.

    Args:
        predictions: For each sentence, a tag for each token.
        references: The right ones.

    Returns:
        The report.

    Raises:
        DataError: If the sentences do not fit each other.
    """
    check_sentences(predictions, references)
    flat = [[tag for sentence in side for tag in sentence] for side in (predictions, references)]
    return class_report(*flat)


def check_sentences(predictions: Sequence[Tags], references: Sequence[Tags]) -> None:
    """Refuse sentences that do not belong together.

    Args:
        predictions: For each sentence, a tag for each token.
        references: The right ones.

    Raises:
        DataError: If there is no token, or not one tag for each; the message says where.
    """
    check_paired(predictions, references, "tagged sentences")
    for number, (found, right) in enumerate(zip(predictions, references, strict=True), 1):
        if isinstance(found, str) or isinstance(right, str):
            raise DataError(f"sentence {number} is one text; a list of tags is needed")
        if len(found) != len(right):
            raise DataError(
                f"sentence {number} has {len(found)} predicted tags and {len(right)} references; "
                "each token needs one of both"
            )
    if not any(len(sentence) for sentence in references):
        raise DataError("no sentence has a token; there is nothing to score")


def _count(
    predictions: Sequence[Tags],
    references: Sequence[Tags],
    scheme: str,
    types: Sequence[str] | None = None,
) -> tuple[np.ndarray, list[str], int]:
    """Return (N, K, 3) right, predicted and real spans, the K types, and repairs of predictions."""
    check_sentences(predictions, references)
    found = [_spans(tags, scheme, "prediction", n) for n, tags in enumerate(predictions, 1)]
    right = [_spans(tags, scheme, "reference", n) for n, tags in enumerate(references, 1)]
    seen = sorted({span.label for side in (found, right) for spans, _ in side for span in spans})
    if types is not None:
        check_labels(seen, types, "type")
    labels = seen if types is None else list(types)
    places = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(references), len(labels), 3))
    for row, ((mine, _), (theirs, _)) in enumerate(zip(found, right, strict=True)):
        for column, spans in enumerate(({*mine} & {*theirs}, mine, theirs)):
            for label, count in Counter(span.label for span in spans).items():
                counts[row, places[label], column] = count
    return counts, labels, sum(repaired for _, repaired in found)


def _spans(tags: Tags, scheme: str, noun: str, number: int) -> tuple[list, int]:
    try:
        return read_spans(tags, scheme)
    except DataError as problem:
        raise located(problem, f"{noun} {number}") from None
