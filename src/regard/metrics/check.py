"""What every metric refuses: lists of unequal length, no examples, NaN, labels nobody declared."""

from collections.abc import Collection, Iterable, Sequence, Sized
from typing import Any

import numpy as np

from regard.errors import DataError, nearest


def check_paired(predictions: Sized, references: Sized, nouns: str = "predictions") -> None:
    """Refuse lists that do not belong together, and empty ones.

    Args:
        predictions: What a model said.
        references: What is right, one for each.
        nouns: What predictions are called.

    Raises:
        DataError: If there are none, or not one for each.
    """
    if isinstance(predictions, str) or isinstance(references, str):
        raise DataError(f"a list of {nouns} and one of references are needed, found one text")
    if len(predictions) != len(references):
        raise DataError(
            f"there are {len(predictions)} {nouns} and {len(references)} references; "
            "each needs the other"
        )
    if not len(predictions):
        raise DataError(f"there are no {nouns} to score; at least one is needed")


def check_texts(texts: Iterable[Any], noun: str) -> None:
    """Refuse what is no text.

    Args:
        texts: Supposed texts.
        noun: What one is called.

    Raises:
        DataError: If one is something else; the message says which.
    """
    for number, text in enumerate(texts, 1):
        if not isinstance(text, str):
            raise DataError(f"{noun} {number} is {type(text).__name__}, not text")


def as_numbers(values: Any, noun: str, least: float | None = None) -> np.ndarray:
    """Return numbers as float64, checked.

    Args:
        values: A sequence, array or CPU tensor of numbers, of one dimension.
        noun: What one is called.
        least: The smallest that makes sense, if there is one.

    Returns:
        float64 (N,).

    Raises:
        DataError: If they are not numbers, or one is NaN, infinite or too small.
    """
    try:
        found = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise DataError(f"each {noun} should be a number") from None
    if found.ndim != 1:
        raise DataError(
            f"one {noun} for each example is needed, found an array of shape {found.shape}"
        )
    bad = ~np.isfinite(found)
    if bad.any():
        place = int(bad.argmax())
        raise DataError(f"{noun} {place + 1} is {found[place]}; finite numbers are needed")
    if least is not None and (found < least).any():
        place = int((found < least).argmax())
        raise DataError(f"{noun} {place + 1} is {found[place]:g}; it cannot be below {least:g}")
    return found


def check_labels(found: Sequence[Any], known: Collection[Any], noun: str) -> None:
    """Refuse a label that was not declared.

    Args:
        found: Labels of the examples.
        known: All there are.
        noun: What one is called, e.g. "reference".

    Raises:
        DataError: If one is unknown; the message names its place and the nearest known one.
    """
    allowed = set(known)
    for number, label in enumerate(found, 1):
        if label not in allowed:
            hint = nearest(str(label), map(str, known))
            raise DataError(f"{noun} {number} is {label!r}, which is not known; {hint}")
