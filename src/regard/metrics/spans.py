"""Spans from tags: B-/I- and their like, or plain labels whose runs are spans.

What is malformed is read as conlleval of CoNLL reads it. A tag other than O goes on with the span
of the tag before it only if both have the same type, it is an I or an E, and the one before is a B
or an I. In all other cases it begins a span of its own: so an I after O, after another type, after
an E or an S begins one, and a span that lacks its E ends where the next begins. Such an I, or such
an E, is counted as repaired.
"""

from collections.abc import Sequence
from typing import NamedTuple

from regard.errors import DataError, nearest

SCHEMES = ("BIO", "IOBES", "plain")
_MARKS = {"BIO": "BI", "IOBES": "IBES"}
OUTSIDE = "O"


class Span(NamedTuple):
    """Some tokens in a row that belong together.

    Attributes:
        start: Its first token, counted from 0.
        stop: The token after its last.
        label: What it is.
    """

    start: int
    stop: int
    label: str


def read_spans(tags: Sequence[str], scheme: str = "BIO") -> tuple[list[Span], int]:
    """Return the spans that tags mark.

    Args:
        tags: One for each token.
        scheme: "BIO" (B-, I-, O), "IOBES" (also E- for the last token and S- for the only one), or
            "plain", where equal labels in a row are one span and only O is none.

    Returns:
        The spans in order, and how many tags were repaired.

    Raises:
        DataError: If the scheme or a tag is unknown.
    """
    if scheme not in SCHEMES:
        raise DataError(f"there is no scheme '{scheme}'; {nearest(scheme, SCHEMES)}")
    spans, repaired, before = [], 0, ("", "")
    for place, tag in enumerate(tags):
        mark, label = _cut(tag, scheme, place)
        if mark and _goes_on(before, (mark, label), scheme):
            spans[-1] = spans[-1]._replace(stop=place + 1)
        elif mark:
            spans.append(Span(place, place + 1, label))
            repaired += scheme != "plain" and mark in "IE"
        before = (mark, label)
    return spans, repaired


def _cut(tag: str, scheme: str, place: int) -> tuple[str, str]:
    """Return a tag's mark and its label, both empty outside of spans."""
    if not isinstance(tag, str) or not tag:
        raise DataError(f"tag {place + 1} is {tag!r}; write {OUTSIDE} for a token outside of spans")
    if tag == OUTSIDE:
        return "", ""
    if scheme == "plain":
        return "I", tag
    mark, dash, label = tag.partition("-")
    if not dash or not label or mark not in _MARKS[scheme] or len(mark) != 1:
        marks = ", ".join(f"{one}-TYPE" for one in _MARKS[scheme])
        raise DataError(f"tag {place + 1} is '{tag}'; {scheme} tags are {marks} and {OUTSIDE}")
    return mark, label


def _goes_on(before: tuple[str, str], now: tuple[str, str], scheme: str) -> bool:
    if scheme == "plain":
        return before == now
    return before[1] == now[1] and before[0] in ("B", "I") and now[0] in ("I", "E")
