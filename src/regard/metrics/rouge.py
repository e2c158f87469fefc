"""ROUGE-1, -2, -L and -Lsum of summaries, counted as the package `rouge-score` counts them.

Source: C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", 2004.
Tokens are runs of a–z and 0–9 in lower case; a stemmer may be asked for, which leaves words of up
to three letters as they are. Of several references the best F counts.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from regard.errors import DataError
from regard.metrics.check import check_paired, check_texts
from regard.metrics.measure import Tally, mean_of
from regard.metrics.porter import stem
from regard.metrics.subsequence import common_length, common_places

NAMES = ("ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum")
_TOKEN = re.compile("[a-z0-9]+")
_UNSTEMMED = 3


class Overlap(NamedTuple):
    """How much of a summary is in its reference, and the other way round.

    Attributes:
        precision: The share of the summary that is in the reference.
        recall: The share of the reference that is in the summary.
        f1: Their harmonic mean.
    """

    precision: float
    recall: float
    f1: float


def rouge(
    summaries: Sequence[str], references: Sequence[str | Sequence[str]], stemmer: bool = False
) -> dict[str, Tally]:
    """Score summaries: the mean F over all of them, in four metrics.

    Args:
        summaries: What a model wrote; sentences stand on lines of their own for ROUGE-Lsum.
        references: What a person wrote, one text or several for each.
        stemmer: Whether words are compared by their stems.

    Returns:
        The metrics by name, from 0 to 1.

    Raises:
        DataError: If the lists do not fit each other, or a text has no reference.
    """
    check_paired(summaries, references, "summaries")
    check_texts(summaries, "summary")
    values = np.empty((len(summaries), len(NAMES)))
    for number, (summary, given) in enumerate(zip(summaries, references, strict=True)):
        several = [given] if isinstance(given, str) else list(given)
        if not several:
            raise DataError(f"summary {number + 1} has no reference; at least one is needed")
        check_texts(several, f"of summary {number + 1}, reference")
        found = [overlaps(summary, one, stemmer) for one in several]
        values[number] = [max(one[name].f1 for one in found) for name in NAMES]
    return {name: mean_of(name, values[:, place]) for place, name in enumerate(NAMES)}


def overlaps(summary: str, reference: str, stemmer: bool = False) -> dict[str, Overlap]:
    """Compare one summary with one reference.

    Args:
        summary: What a model wrote.
        reference: What a person wrote.
        stemmer: Whether words are compared by their stems.

    Returns:
        Overlaps by the name of the metric.
    """
    written, wanted = _lines(summary, stemmer), _lines(reference, stemmer)
    first, second = _flat(written), _flat(wanted)
    shared = (
        _shared_runs(first, second, 1),
        _shared_runs(first, second, 2),
        common_length(second, first),
        _shared_by_line(written, wanted),
    )
    sizes = [(max(len(first) - cut, 0), max(len(second) - cut, 0)) for cut in (0, 1, 0, 0)]
    return {
        name: _overlap(count, *size) for name, count, size in zip(NAMES, shared, sizes, strict=True)
    }


def _lines(text: str, stemmer: bool) -> list[list[str]]:
    cut: Callable[[str], str] = _stem_long if stemmer else str
    return [[cut(token) for token in _TOKEN.findall(line.lower())] for line in text.split("\n")]


def _stem_long(token: str) -> str:
    return stem(token) if len(token) > _UNSTEMMED else token


def _flat(lines: list[list[str]]) -> list[str]:
    return [token for line in lines for token in line]


def _overlap(shared: int, written: int, wanted: int) -> Overlap:
    precision, recall = shared / max(written, 1), shared / max(wanted, 1)
    both = precision + recall
    return Overlap(precision, recall, 2 * precision * recall / both if both else 0.0)


def _shared_runs(first: list[str], second: list[str], length: int) -> int:
    runs = [
        Counter(zip(*(tokens[start:] for start in range(length)), strict=False))
        for tokens in (first, second)
    ]
    return (runs[0] & runs[1]).total()


def _shared_by_line(written: list[list[str]], wanted: list[list[str]]) -> int:
    """Return the union of the subsequences of each wanted line, no token counted twice."""
    left, shared = [Counter(_flat(written)), Counter(_flat(wanted))], 0
    for line in wanted:
        places = set().union(*(common_places(line, other) for other in written))
        for token in (line[place] for place in sorted(places)):
            if all(one[token] > 0 for one in left):
                shared += 1
                for one in left:
                    one[token] -= 1
    return shared
