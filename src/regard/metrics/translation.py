"""How good translations are: BLEU and chrF, as sacrebleu counts them.

sacrebleu counts n-grams text by text; the formulas over the sums are its own, for many sums at
once, so that resamples cost no new counting.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from regard.metrics.check import check_paired, check_texts
from regard.metrics.measure import Tally
from regard.metrics.need import need

_ORDERS, _CHARACTERS, _BETA = 4, 6, 2


class Scores(NamedTuple):
    """Scores of a corpus, both from 0 to 100.

    Attributes:
        bleu: BLEU over words.
        chrf: chrF over characters.
    """

    bleu: float
    chrf: float


def score(translations: Sequence[str], references: Sequence[str]) -> Scores:
    """Compare translations with references.

    Args:
        translations: What a model wrote.
        references: What a person wrote, one for each.

    Returns:
        The scores.
    """
    found = [one(translations, references).score().value for one in (bleu, chrf)]
    return Scores(*(round(value, 2) for value in found))


def bleu(translations: Sequence[str], references: Sequence[str]) -> Tally:
    """Return BLEU over words, with sacrebleu's tokens and smoothing.

    Args:
        translations: What a model wrote.
        references: What a person wrote, one for each.

    Returns:
        The metric, from 0 to 100.

    Raises:
        DataError: If the lists do not fit each other, or hold something that is no text.
    """
    # Interface strings often end in a lone full stop; `force` keeps sacrebleu from remarking it.
    return Tally("BLEU", _count(_metric("BLEU", force=True), translations, references), _bleu)


def chrf(translations: Sequence[str], references: Sequence[str]) -> Tally:
    """Return chrF over characters, as sacrebleu sets it.

    Args:
        translations: What a model wrote.
        references: What a person wrote, one for each.

    Returns:
        The metric, from 0 to 100.

    Raises:
        DataError: If the lists do not fit each other, or hold something that is no text.
    """
    return Tally("chrF", _count(_metric("CHRF"), translations, references), _chrf)


def signatures() -> dict[str, str]:
    """Return how the scores were counted, in sacrebleu's own notation.

    Returns:
        Signatures by the name of the score.
    """
    metrics = {"bleu": _metric("BLEU", force=True), "chrf": _metric("CHRF")}
    for metric in metrics.values():
        # A metric knows its signature only after it has seen references.
        metric.corpus_score(["a"], [["a"]])
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


def _metric(name: str, **settings: bool) -> Any:
    return getattr(need("sacrebleu.metrics"), name)(**settings)


def _count(metric: Any, translations: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Return what each text adds to the sums, (N, S)."""
    check_paired(translations, references, "translations")
    check_texts(translations, "translation")
    check_texts(references, "reference")
    rows = metric._extract_corpus_statistics(list(translations), [list(references)])
    return np.array(rows, dtype=np.float64)


def _bleu(sums: np.ndarray) -> np.ndarray:
    """From (…, written, wanted, shared n-grams of 4 orders, written ones) to BLEU."""
    written, wanted = sums[..., 0], sums[..., 1]
    shared, given = sums[..., 2 : 2 + _ORDERS], sums[..., 2 + _ORDERS :]
    # Each order without a match halves what it is smoothed by (NIST).
    smooth = 0.5 ** np.cumsum(shared == 0, axis=-1)
    precision = np.where(shared > 0, shared, smooth) / np.maximum(given, 1)
    brief = np.exp(np.minimum(0, 1 - wanted / np.maximum(written, 1)))
    found = 100 * brief * np.exp(np.log(precision).mean(-1))
    # Texts too short for any 4-gram have no precision of that order: sacrebleu says 0.
    usable = shared.any(-1) & (given > 0).all(-1)
    return np.where(usable, found, 0.0)


def _chrf(sums: np.ndarray) -> np.ndarray:
    """From (…, written, wanted and shared n-grams, for 6 orders) to chrF."""
    counts = sums.reshape(*sums.shape[:-1], _CHARACTERS, 3)
    written, wanted, shared = (counts[..., place] for place in range(3))
    usable = (written > 0) & (wanted > 0)
    orders = np.maximum(usable.sum(-1), 1)
    precision = (usable * shared / np.maximum(written, 1)).sum(-1) / orders
    recall = (usable * shared / np.maximum(wanted, 1)).sum(-1) / orders
    below = _BETA**2 * precision + recall
    return 100 * (1 + _BETA**2) * precision * recall / np.where(below > 0, below, 1)
