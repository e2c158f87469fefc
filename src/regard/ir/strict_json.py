"""JSON that is read within bounds and says where it is wrong.

Refused: too much text, deep nesting, keys given twice, NaN, numbers that do not fit 64 bits, and
strings that are no Unicode. Leaves to others: what the values mean (`json_file`, modes).
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from regard.errors import FileError

MAX_TEXT = 2**20
MAX_DEPTH = 32
# The longest numbers that Python writes are 20 and 24 characters long.
_INT_DIGITS = 20
_FLOAT_DIGITS = 40
_SHOWN = 40
# Of more wrong values than these, the messages are not kept.
_ENOUGH = 100
# One match for a whole string, closed or not, so that no character is looked at twice.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)


class _Wrong:
    """A value that JSON allows and we do not; its place is found once all is parsed."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


_ONE_OF_MANY = _Wrong(f"one of more than {_ENOUGH} values that cannot be read")


def parse(text: str, deepest: int = MAX_DEPTH) -> Any:
    """Read JSON text.

    Args:
        text: At most `MAX_TEXT` characters.
        deepest: How deep it may be nested.

    Returns:
        The value, of dictionaries, lists, strings, numbers, truth values and None.

    Raises:
        FileError: If it is not strict JSON; the message starts with the place.
    """
    if len(text) > MAX_TEXT:
        raise FileError(f"line 1: {len(text)} characters, more than {MAX_TEXT}")
    _check_unicode(text)
    _check_depth(text, deepest)
    wrong: list[_Wrong] = []

    def refuse(problem: str) -> _Wrong:
        if len(wrong) < _ENOUGH:
            wrong.append(_Wrong(problem))
            return wrong[-1]
        return _ONE_OF_MANY

    try:
        value = json.loads(
            text,
            object_pairs_hook=lambda pairs: _object(pairs, refuse),
            parse_int=lambda digits: _int(digits, refuse),
            parse_float=lambda digits: _float(digits, refuse),
            parse_constant=lambda name: refuse(f'{name} is no JSON; write {{"float": "inf"}}'),
        )
    except json.JSONDecodeError as problem:
        place = f"line {problem.lineno} column {problem.colno}"
        raise FileError(f"{place}: {problem.msg.lower()}") from None
    # An escape can hide half a character, which no file could hold.
    found = _find_wrong(value, "") if wrong or "\\u" in text else None
    if found is not None:
        raise FileError(f"{found[0] or 'line 1'}: {found[1]}")
    return value


def shown(value: Any) -> str:
    """Return a value for a message: on one line, and short.

    Args:
        value: Any value of a JSON file.

    Returns:
        E.g. "op" in its quotes, or "a list".
    """
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, str) and len(value) > _SHOWN:
        return json.dumps(value[:_SHOWN] + "…")
    return json.dumps(value)


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    return f"line {line} column {position - text.rfind(chr(10), 0, position)}"


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as problem:
        raise FileError(f"{_place(text, problem.start)}: half a character") from None


def _check_depth(text: str, deepest: int) -> None:
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        first = text[match.start()]
        depth += (first in "[{") - (first in "]}")
        if depth > deepest:
            place = _place(text, match.start())
            raise FileError(f"{place}: nested deeper than {deepest} levels")


def _object(pairs: list[tuple[str, Any]], refuse: Callable[[str], _Wrong]) -> Any:
    made = dict(pairs)
    if len(made) == len(pairs):
        return made
    # The first key that comes again, found in one pass, for there may be very many.
    twice = next(key for key, _ in pairs if made.pop(key, refuse) is refuse)
    return refuse(f"key {shown(twice)} is given twice")


def _int(digits: str, refuse: Callable[[str], _Wrong]) -> Any:
    if len(digits) > _INT_DIGITS or abs(int(digits)) >= 2**63:
        return refuse(f"{digits[:_INT_DIGITS]}… does not fit 64 bits")
    return int(digits)


def _float(digits: str, refuse: Callable[[str], _Wrong]) -> Any:
    if len(digits) > _FLOAT_DIGITS:
        return refuse(f"{digits[:_FLOAT_DIGITS]}… has more digits than any number needs")
    number = float(digits)
    return number if math.isfinite(number) else refuse(f"{digits} is too large for a number")


def _find_wrong(value: Any, path: str) -> tuple[str, str] | None:
    """Return the path and the problem of the first value that is wrong."""
    if isinstance(value, _Wrong):
        return path, value.problem
    if isinstance(value, str):
        return None if _is_unicode(value) else (path, "half a character")
    for at, item in _parts(value, path):
        found = _find_wrong(item, at)
        if found is not None:
            return found
    return None


def _parts(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the keys and values inside a value, each with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            at = f"{path}.{_short_key(key)}".lstrip(".")
            yield at, key
            yield at, item
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield f"{path}[{number}]", item


def _is_unicode(value: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _short_key(key: str) -> str:
    return key if key.isidentifier() and len(key) <= _SHOWN else shown(key)
