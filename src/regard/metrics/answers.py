"""Extractive question answering: exact match and F1 of words, as SQuAD 2.0 counts them.

Before they are compared, answers lose case, punctuation, the articles a, an, the, and needless
blanks. Of several right answers the best counts; a question without one is answered by "".
Source: Rajpurkar et al., "Know what you don't know: unanswerable questions for SQuAD", 2018.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from regard.metrics.check import check_paired, check_texts
from regard.metrics.measure import Tally, mean_of

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise_answer(text: str) -> str:
    """Return an answer as it is compared.

    Args:
        text: The answer.

    Returns:
        It without case, punctuation, articles and needless blanks.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Tally:
    """Return the share of answers that are one of the right ones.

    Args:
        predictions: Answers, "" for "there is none".
        references: For each question its right answers; none, or "", if there is none.

    Returns:
        The metric, from 0 to 1.

    Raises:
        DataError: If the lists do not fit each other, or hold something that is no text.
    """
    return _tally("exact match", _exact, predictions, references)


def answer_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> Tally:
    """Return the mean F1 of words with the nearest right answer.

    Args:
        predictions: Answers, "" for "there is none".
        references: For each question its right answers; none, or "", if there is none.

    Returns:
        The metric, from 0 to 1.

    Raises:
        DataError: If the lists do not fit each other, or hold something that is no text.
    """
    return _tally("answer F1", _f1, predictions, references)


def _tally(
    name: str,
    compare: Callable[[str, str], float],
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
) -> Tally:
    check_paired(predictions, references, "answers")
    check_texts(predictions, "answer")
    rights = [_right(given, number) for number, given in enumerate(references, 1)]
    found = [normalise_answer(text) for text in predictions]
    pairs = zip(found, rights, strict=True)
    values = [max(compare(mine, one) for one in right) for mine, right in pairs]
    answerless = sum(right == [""] for right in rights)
    return mean_of(name, np.array(values, np.float64), {"without answer": answerless})


def _right(given: Sequence[str], number: int) -> list[str]:
    """Return right answers as they are compared; [""] if there is none."""
    several = [given] if isinstance(given, str) else list(given)
    check_texts(several, f"of question {number}, right answer")
    return [text for text in map(normalise_answer, several) if text] or [""]


def _exact(found: str, right: str) -> float:
    return float(found == right)


def _f1(found: str, right: str) -> float:
    mine, yours = found.split(), right.split()
    if not mine or not yours:
        return float(mine == yours)
    shared = (Counter(mine) & Counter(yours)).total()
    return 2 * shared / (len(mine) + len(yours))
