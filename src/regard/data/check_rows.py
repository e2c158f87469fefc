"""What can be wrong with one record by itself: empty, over-long, badly decoded, ill-matched.

Leaves to others: what is wrong among records (`check_splits`), among labels (`check_labels`).
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from regard.data.guides import check_guides
from regard.data.kinds import DataKind
from regard.data.record import Record

# UTF-8 read as Latin-1 or cp1252 and saved again; or characters that were lost on the way.
_MOJIBAKE = re.compile("Ã[\u0080-\u00bf\u0152-\u2122]|Â[\u00a0-\u00bf]|â€|\ufffd")
_SPAN_TAG = re.compile(r"(?:O|[BI][-_].+)$")


class Remark(NamedTuple):
    """What a check says of a record.

    Attributes:
        check: The name of the check.
        message: What is wrong and what to do.
    """

    check: str
    message: str


class Limits(NamedTuple):
    """How long a record may be.

    Attributes:
        max_words: The most words; longer records are left out.
        positions: The most tokens the model reads.
    """

    max_words: int | None = None
    positions: int | None = None


def check_record(
    record: Record, kind: DataKind, limits: Limits | None = None, no_answer: bool = False
) -> Iterator[Remark]:
    """Yield what is wrong with a record.

    Args:
        record: The record.
        kind: What it should hold.
        limits: How long it may be.
        no_answer: Whether a question may have no answer.

    Yields:
        The worst first; after one that makes the others pointless, nothing.
    """
    may_lack = {"answers"} if no_answer else set()
    empty = [what for name, what in _empty_fields(record, kind) if name not in may_lack]
    if empty:
        yield Remark("empty", f"{' and '.join(empty)} empty; fill it in or delete the row")
        return
    if "tags" in record.values:
        yield from check_tag_count(record.values["tokens"], record.values["tags"])
    if "answers" in record.values:
        yield from _check_answers(record)
    for problem in check_guides(record.values):
        yield Remark("malformed", problem)
    yield from _check_length(record, kind, limits or Limits())
    yield from _check_text(record)


def _empty_fields(record: Record, kind: DataKind) -> Iterator[tuple[str, str]]:
    """Yield the names of fields without content, and how a sentence about them begins."""
    for field in kind.fields:
        value = record.values[field.name]
        if not field.required or field.blank:
            continue
        if value is None or value == () or (isinstance(value, str) and not value.strip()):
            yield field.name, f"{field.name} is"
        elif isinstance(value, tuple) and "" in value:
            yield field.name, f"item {value.index('') + 1} of {field.name} is"


def check_tag_count(tokens: tuple[str, ...], tags: tuple[str, ...]) -> Iterator[Remark]:
    """Yield a remark if tokens and tags are not as many.

    Args:
        tokens: Words.
        tags: One for each, if all is well.

    Yields:
        At most one remark.
    """
    if len(tokens) != len(tags):
        last = tokens[: len(tags)][-1:]
        after = f" (tags end after '{last[0]}')" if len(tags) < len(tokens) and last else ""
        yield Remark(
            "lengths", f"{len(tokens)} tokens, but {len(tags)} tags{after}; give each token one tag"
        )


def is_span_scheme(tags: set[str]) -> bool:
    """Return whether tags say where spans begin and go on: O, B-x and I-x.

    Args:
        tags: All that occur.

    Returns:
        Whether all have one of these forms, and some begin a span.
    """
    return any(tag[:1] == "B" for tag in tags) and all(map(_SPAN_TAG.match, tags))


def check_spans(tokens: tuple[str, ...], tags: tuple[str, ...]) -> Iterator[Remark]:
    """Yield a remark for each tag that goes on with a span that is not there.

    Args:
        tokens: Words.
        tags: One for each: O, B-x or I-x.

    Yields:
        Remarks, in order.
    """
    before = "O"
    for place, tag in enumerate(tags):
        if tag[:1] == "I" and before[2:] != tag[2:]:
            word = tokens[place] if place < len(tokens) else ""
            yield Remark(
                "bio",
                f"token {place + 1} '{word}' is {tag} after {before if place else 'the start'}; a "
                f"span begins with B{tag[1:]}",
            )
        before = tag


def _check_answers(record: Record) -> Iterator[Remark]:
    context: str = record.values["context"]
    for answer in record.values["answers"]:
        start = record.values["start"] if answer.start is None else answer.start
        if answer.text not in context:
            yield Remark(
                "answer",
                f"the answer '{answer.text}' is not in the context; copy it letter by letter",
            )
        elif start is not None and not context.startswith(answer.text, start):
            found = context[start : start + len(answer.text)]
            yield Remark(
                "answer",
                f"the answer '{answer.text}' is said to start at character {start}, where the "
                f"context has '{found}'; it stands at {context.find(answer.text)}, counted from 0",
            )


def _words(value: Any) -> int:
    return len(value) if isinstance(value, tuple) else len(value.split())


def _check_length(record: Record, kind: DataKind, limits: Limits) -> Iterator[Remark]:
    for field in kind.fields:
        if field.share is None:
            continue
        words = _words(record.values[field.name])
        if limits.max_words is not None and words > field.share * limits.max_words:
            most = field.share * limits.max_words
            yield Remark("max_words", f"{field.name} has {words} words, more than {most}")
            return
        if limits.positions is not None and words > limits.positions:
            yield Remark(
                "long",
                f"{field.name} has {words} words, but the model reads {limits.positions} tokens; "
                "shorten it, raise model.positions or set data.max_words",
            )


def _check_text(record: Record) -> Iterator[Remark]:
    for name, value in record.values.items():
        texts = [value] if isinstance(value, str) else value if isinstance(value, tuple) else ()
        for text in texts:
            found = _MOJIBAKE.search(text) if isinstance(text, str) else None
            if found:
                yield Remark(
                    "mojibake",
                    f"{name} has '{found.group()}' at character {found.start() + 1}: text that was "
                    "read in the wrong encoding before it was saved; export it anew as UTF-8",
                )
                return


def check_letters(record: Record) -> Iterator[Remark]:
    """Yield a remark if a text of a record has no letter.

    Args:
        record: The record.

    Yields:
        At most one remark.
    """
    for name, value in record.values.items():
        if isinstance(value, str) and not any(map(str.isalpha, value)):
            yield Remark("letters", f"{name} has no letter, '{value}'; there is nothing to learn")
            return
