"""Which pairs train and which are held out, such that no held-out source was trained on.

Leaves to others: reading the pairs (`data`).
"""

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from regard.errors import DataError
from regard.tasks.data import Pair


class Splits(NamedTuple):
    """Pairs for training, for watching the training, and for the result.

    Attributes:
        train: For training.
        valid: Scored during training.
        test: Scored once, at the end.
    """

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]


def normal_form(text: str) -> str:
    """Return what two texts share when they differ in case, blanks or ways of encoding alone.

    Args:
        text: Any text.

    Returns:
        The text in Unicode's compatible form, case folded, with single blanks.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def drop_repeated_sources(pairs: Sequence[Pair], duplicates: str = "refuse") -> list[Pair]:
    """Return the pairs with each source once.

    Args:
        pairs: In the order of their file.
        duplicates: "first" keeps the first pair of each source, "refuse" takes none twice.

    Returns:
        The pairs that are left, in their order.

    Raises:
        DataError: If a source is repeated and `duplicates` is "refuse".
    """
    first: dict[str, Pair] = {}
    for pair in pairs:
        kept = first.setdefault(normal_form(pair.source), pair)
        if kept is not pair and duplicates == "refuse":
            raise DataError(
                f"line {pair.line}: the source '{pair.source}' stands on line {kept.line} already; "
                "delete one, or set data.duplicates to first"
            )
    return list(first.values())


def select_pairs(pairs: Sequence[Pair], max_words: int | None) -> list[Pair]:
    """Return the pairs worth learning from: with letters on both sides, and not too long.

    Args:
        pairs: Any pairs.
        max_words: The most words of a source; a target may have twice as many. None: no limit.

    Returns:
        The pairs that are left, in their order.
    """
    limit = float("inf") if max_words is None else max_words
    return [
        pair
        for pair in pairs
        if all(any(map(str.isalpha, text)) for text in (pair.source, pair.target))
        and len(pair.source.split()) <= limit
        and len(pair.target.split()) <= 2 * limit
    ]


def split_pairs(pairs: Sequence[Pair], test: int, valid: int, seed: int = 0) -> Splits:
    """Hold pairs out, chosen by the seed and their source alone.

    The choice does not depend on the order of the pairs, and all pairs of one source, whatever
    its case and blanks, go to the same side.

    Args:
        pairs: Any pairs.
        test: How many to hold out for the result.
        valid: How many to hold out for watching the training.
        seed: Another seed is another choice.

    Returns:
        The three parts, the held-out ones without repeated sources.

    Raises:
        DataError: If less than half of the pairs would be left for training.
    """
    by_source: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_source.setdefault(normal_form(pair.source), []).append(pair)
    held_out = test + valid
    if len(by_source) < max(2 * held_out, 2):
        raise DataError(
            f"{len(by_source)} different sources are too few to hold out {held_out} and train on "
            "as many; lower data.test_pairs or data.valid_pairs, or raise data.max_words"
        )
    order = sorted(by_source, key=lambda source: _draw(source, seed))
    firsts = [by_source[source][0] for source in order[:held_out]]
    rest = set(order[held_out:])
    train = [pair for pair in pairs if normal_form(pair.source) in rest]
    return Splits(train, firsts[test:], firsts[:test])


def _draw(source: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}\n{source}".encode()).hexdigest()
