"""What a cell may hold: text, a label, a number, tokens, answers; and how each is read.

Leaves to others: which fields a kind of data has (`kinds`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from regard.errors import DataError


class Answer(NamedTuple):
    """An answer to a question about a text.

    Attributes:
        text: What it says.
        start: The character of the context at which it begins, counted from 0; None if not given.
    """

    text: str
    start: int | None = None


@dataclass(frozen=True)
class Field:
    """A named part of a row.

    Attributes:
        name: Its name; the column is searched by it unless another is given.
        read: Turns a cell into a value, or raises DataError.
        required: Whether each row has it.
        share: How many times as many words as `max_words` it may have; None: any number.
        blank: Whether it may be empty, though each row has it.
    """

    name: str
    read: Callable[[Any], Any]
    required: bool = True
    share: int | None = None
    blank: bool = False


def read_text(cell: Any) -> str:
    """Return a text.

    Args:
        cell: A text; None stands for an empty one.

    Returns:
        The text.

    Raises:
        DataError: If it is something else.
    """
    if cell is None:
        return ""
    if not isinstance(cell, str):
        raise DataError(f"should be text, found {type(cell).__name__}")
    return cell


def read_label(cell: Any) -> str:
    """Return a label.

    Args:
        cell: A text, a whole number or a truth value.

    Returns:
        It as a text without surrounding blanks; true and false as JSON writes them.

    Raises:
        DataError: If it is something else.
    """
    if cell is None or isinstance(cell, str):
        return (cell or "").strip()
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int) or (isinstance(cell, float) and cell.is_integer()):
        return str(int(cell))
    raise DataError(f"should be a label, found {type(cell).__name__} {cell!r}")


def read_number(cell: Any) -> float | None:
    """Return a number.

    Args:
        cell: A number, or a text that writes one.

    Returns:
        The number; None of an empty cell.

    Raises:
        DataError: If it is something else, or not finite.
    """
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return None
    try:
        number = float("" if isinstance(cell, bool) else cell)
    except (TypeError, ValueError):
        raise DataError(f"should be a number, found {cell!r}") from None
    if number - number != 0:
        raise DataError(f"should be a finite number, found {cell!r}")
    return number


def read_whole_number(cell: Any) -> int | None:
    """Return a whole number from 0.

    Args:
        cell: A number, or a text that writes one.

    Returns:
        The number; None of an empty cell.

    Raises:
        DataError: If it is something else.
    """
    number = read_number(cell)
    if number is None:
        return None
    if number < 0 or number != int(number):
        raise DataError(f"should be a whole number from 0, found {cell!r}")
    return int(number)


def read_tokens(cell: Any) -> tuple[str, ...]:
    """Return tokens, or their tags.

    Args:
        cell: A list of texts, or one text whose words they are.

    Returns:
        The texts.

    Raises:
        DataError: If it is something else.
    """
    if cell is None or isinstance(cell, str):
        return tuple((cell or "").split())
    if not isinstance(cell, list):
        raise DataError(f"should be a list of texts, found {type(cell).__name__}")
    for place, one in enumerate(cell, 1):
        if isinstance(one, bool) or not isinstance(one, str | int):
            raise DataError(f"item {place} should be text, found {type(one).__name__}")
    return tuple(str(one) for one in cell)


def read_answers(cell: Any) -> tuple[Answer, ...]:
    """Return answers, the first of which is trained on.

    Args:
        cell: A text, a list of texts, or an object of lists `text` and `answer_start`, as SQuAD
            has it.

    Returns:
        The answers that are not empty.

    Raises:
        DataError: If it is something else.
    """
    starts: Any = None
    if isinstance(cell, dict):
        if "text" not in cell:
            raise DataError("should have the keys 'text' and 'answer_start'")
        cell, starts = cell["text"], cell.get("answer_start")
    texts = [cell] if cell is None or isinstance(cell, str) else cell
    if not isinstance(texts, list) or not all(isinstance(x, str) or x is None for x in texts):
        raise DataError(f"should be text or a list of texts, found {type(cell).__name__}")
    starts = [starts] if isinstance(starts, int) else starts
    places = [None] * len(texts) if starts is None else [read_whole_number(x) for x in starts]
    if len(places) != len(texts):
        raise DataError(f"has {len(texts)} texts, but {len(places)} starts")
    return tuple(Answer(x, k) for x, k in zip(texts, places, strict=True) if x)
