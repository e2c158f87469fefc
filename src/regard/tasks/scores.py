"""How good translations are: BLEU and chrF, as sacrebleu counts them."""

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF


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
    # Interface strings often end in a lone full stop; `force` keeps sacrebleu from remarking it.
    bleu = BLEU(force=True).corpus_score(list(translations), [list(references)])
    chrf = CHRF().corpus_score(list(translations), [list(references)])
    return Scores(round(bleu.score, 2), round(chrf.score, 2))


def signatures() -> dict[str, str]:
    """Return how the scores were counted, in sacrebleu's own notation.

    Returns:
        Signatures by the name of the score.
    """
    bleu, chrf = BLEU(force=True), CHRF()
    for metric in (bleu, chrf):
        # A metric knows its signature only after it has seen references.
        metric.corpus_score(["a"], [["a"]])
    return {"bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
