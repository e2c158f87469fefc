"""What a row may say of attention: which words matter, or which words translate which.

Words are those between blanks, or a row's tokens, counted from 0. Leaves to others: which kind of
data may have which (`kinds`), subwords and the loss (`learners`, `train`).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from regard.data.fields import Field
from regard.errors import DataError

# Weights by (word of the target, word of the source); a rationale has the one row 0.
Guide = dict[tuple[int, int], float]
_PLACE = re.compile(r"(\d+)(?::(\d*\.?\d+))?$")
_LINK = re.compile(r"(\d+)-(\d+)$")


def read_rationale(cell: Any) -> Guide | None:
    """Return the words that a label rests on.

    Args:
        cell: Places, as a list or a text such as "2 5"; with weights "2:0.5 5:1".

    Returns:
        A weight by (0, place); None if there are none.

    Raises:
        DataError: If it is something else.
    """
    found: Guide = {}
    for number, one in enumerate(_items(cell), 1):
        match = _PLACE.match(_text(one, number))
        if match is None:
            raise DataError(
                f"item {number} should be a word's place from 0, as 2 or 2:0.5, found {one!r}"
            )
        found[0, int(match[1])] = float(match[2] or 1)
    return found if any(found.values()) else None


def read_word_weights(cell: Any) -> Guide | None:
    """Return how much each word matters.

    Args:
        cell: A number from 0 for each word, as a list or a text such as "0 0 1 0.5".

    Returns:
        A weight by (0, place); None if all are 0.

    Raises:
        DataError: If it is something else.
    """
    found: Guide = {}
    for number, one in enumerate(_items(cell), 1):
        try:
            weight = float(_text(one, number))
        except ValueError:
            weight = -1.0
        if not 0 <= weight < float("inf"):
            raise DataError(f"item {number} should be a number from 0, found {one!r}")
        found[0, number - 1] = weight
    return found if any(found.values()) else None


def read_alignment(cell: Any) -> Guide | None:
    """Return which words of a source its translation's words translate.

    Args:
        cell: Links of a source's and a target's word, such as "0-0 1-2", or a list of them.

    Returns:
        1 by (word of the target, word of the source); None if there are none.

    Raises:
        DataError: If it is something else.
    """
    found: Guide = {}
    for number, one in enumerate(_items(cell), 1):
        match = _LINK.match(_text(one, number))
        if match is None:
            raise DataError(
                f"item {number} should link a word of the source to one of the target, as 0-0, "
                f"found {one!r}"
            )
        found[int(match[2]), int(match[1])] = 1.0
    return found or None


def _items(cell: Any) -> list[Any]:
    if cell is None or isinstance(cell, str):
        return (cell or "").split()
    if not isinstance(cell, list):
        raise DataError(f"should be text or a list, found {type(cell).__name__}")
    return cell


def _text(item: Any, number: int) -> str:
    if isinstance(item, bool) or not isinstance(item, str | int | float):
        raise DataError(f"item {number} should be text or a number, found {type(item).__name__}")
    return str(item)


RATIONALE = Field("rationale", read_rationale, blank=True)
WORD_WEIGHTS = Field("word_weights", read_word_weights, blank=True)
ALIGNMENT = Field("alignment", read_alignment, blank=True)
GUIDES = {field.name: field for field in (RATIONALE, WORD_WEIGHTS, ALIGNMENT)}


def check_guides(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the guides of a row.

    Args:
        values: Of its fields.

    Yields:
        A message for each guide that does not fit the row's words.
    """
    for name in GUIDES:
        guide: Guide = values.get(name) or {}
        if name == ALIGNMENT.name:
            yield from _absent(name, [row for row, _ in guide], values, "target")
            yield from _absent(name, [place for _, place in guide], values, "source")
        elif name == RATIONALE.name:
            yield from _absent(name, [place for _, place in guide], values)
        elif guide and len(guide) != (words := len(words_of(values))):
            yield f"{name} has {len(guide)} numbers for {words} words; give each word one"


def _absent(
    name: str, places: list[int], values: Mapping[str, Any], field: str = ""
) -> Iterator[str]:
    words = len(words_of(values, field)) if places else 0
    beyond = next((place for place in places if place >= words), None)
    if beyond is not None:
        of = f" of the {field}" if field else ""
        yield f"{name} names word {beyond}{of}; there are {words}, counted from 0"


def words_of(values: Mapping[str, Any], field: str = "") -> list[str]:
    """Return the words that a guide counts.

    Args:
        values: Of a row's fields.
        field: The field they are of; "": the row's tokens or its text.

    Returns:
        Words.
    """
    value = values[field or ("tokens" if "tokens" in values else "text")]
    return value.split() if isinstance(value, str) else list(value)
