"""Numbers and texts as lines for a terminal."""

from collections.abc import Mapping, Sequence

from regard.tasks.data import Pair

SHOWN = 5


def score_table(metrics: Mapping[str, float]) -> str:
    """Return a model's scores beside those of copying.

    Args:
        metrics: As `Evaluation.metrics` returns them.

    Returns:
        Three lines.
    """
    heading = f"{metrics['pairs']} held-out pairs"
    lines = [f"{heading:<24}{'BLEU':>8}{'chrF':>8}"]
    for name, start in (("this model", ""), ("copying the source", "copy_")):
        numbers = (metrics[f"{start}{score}"] for score in ("bleu", "chrf"))
        lines.append(f"  {name:<22}" + "".join(f"{number:>8.1f}" for number in numbers))
    return "\n".join(lines)


def sample_table(pairs: Sequence[Pair], translations: Sequence[str]) -> str:
    """Return the first few texts with their translations.

    Args:
        pairs: Sources and references.
        translations: One for each pair.

    Returns:
        Three lines a text, and a blank one before each.
    """
    lines = []
    for pair, translation in list(zip(pairs, translations, strict=True))[:SHOWN]:
        lines += ["", f"  source     {pair.source}", f"  reference  {pair.target}"]
        lines.append(f"  model      {translation}")
    return "\n".join(lines)
