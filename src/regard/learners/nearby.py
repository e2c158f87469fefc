"""Answers without a model: the words around which most words of the question stand.

After the sliding window of Richardson et al., "MCTest", 2013, over the answers' usual length.
"""

import re
import statistics
from collections.abc import Sequence

from regard.learners.words import words_of

_WORD = re.compile(r"\w+")
# Words on either side that are looked at.
_AROUND = 8


def usual_length(answers: Sequence[str]) -> int:
    """Return how many words answers usually have.

    Args:
        answers: Any number.

    Returns:
        The median; 1 without any.
    """
    counts = [len(words_of(one)) for one in answers]
    return max(1, round(statistics.median(counts))) if counts else 1


def find_nearby(question: str, context: str, length: int) -> str:
    """Return the words of a context around which most words of the question stand.

    Args:
        question: A text.
        context: Where the answer stands.
        length: How many words the answer has.

    Returns:
        A part of the context without words of the question, if there is one.
    """
    spans = [found.span() for found in _WORD.finditer(context)]
    words = [context[start:stop].lower() for start, stop in spans]
    if not words:
        return ""
    asked = set(words_of(question))
    lasts = range(min(length, len(words)) - 1, len(words))
    firsts = [max(0, last + 1 - length) for last in lasts]
    first, last = max(
        zip(firsts, lasts, strict=True),
        key=lambda span: (
            -len(asked & set(words[span[0] : span[1] + 1])),
            _near(asked, words, span),
        ),
    )
    return context[spans[first][0] : spans[last][1]]


def _near(asked: set[str], words: Sequence[str], span: tuple[int, int]) -> float:
    """Return how near words that are asked for stand to a span: the sum of 1 over distances."""
    first, last = span
    nearest: dict[str, int] = {}
    for away in range(_AROUND, 0, -1):
        for place in (first - away, last + away):
            if 0 <= place < len(words) and words[place] in asked:
                nearest[words[place]] = away
    return sum(1 / away for away in nearest.values())
