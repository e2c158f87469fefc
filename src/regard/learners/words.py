"""The words of texts, and how well passages fit a query by them alone (BM25)."""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"\w+")
# How soon a word that comes again counts no more, and how much long passages are held back.
_K1, _B = 1.2, 0.75


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case.

    Args:
        text: A text.

    Returns:
        Runs of letters, digits and underscores.
    """
    return _WORD.findall(text.lower())


class WordIndex:
    """Passages, ready to be ranked by the words of queries.

    Source: Robertson and Zaragoza, "The probabilistic relevance framework: BM25 and beyond", 2009.
    """

    def __init__(self, passages: Sequence[str]) -> None:
        """Count words.

        Args:
            passages: At least one.
        """
        counts = [Counter(words_of(passage)) for passage in passages]
        lengths = np.array([one.total() for one in counts], np.float64)
        self.damping = _K1 * (1 - _B + _B * lengths / max(lengths.mean(), 1.0))
        self.places: dict[str, list[tuple[int, int]]] = {}
        for place, one in enumerate(counts):
            for word, times in one.items():
                self.places.setdefault(word, []).append((place, times))

    def scores(self, query: str) -> np.ndarray:
        """Return how well each passage fits.

        Args:
            query: A text.

        Returns:
            float64 (C,), from 0; a word counts the more the fewer passages have it.
        """
        found = np.zeros(len(self.damping))
        for word in words_of(query):
            having = self.places.get(word, [])
            rare = math.log(1 + (len(found) - len(having) + 0.5) / (len(having) + 0.5))
            for place, times in having:
                found[place] += rare * times * (_K1 + 1) / (times + self.damping[place])
        return found
