"""Rows of .jsonl files: one object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regard.data.lines import read_lines
from regard.data.row import BadRow, Column, Layout, Row
from regard.errors import DataError, nearest

_ABSENT = object()


def read_json_lines(place: Path, layout: Layout) -> Iterator[Row | BadRow]:
    """Yield the rows of a .jsonl; blank lines are none.

    Args:
        place: The file, plain or .gz.
        layout: The keys and the encoding.

    Yields:
        Rows and malformed rows, in the order of the file.
    """
    for number, text, problem in read_lines(place, layout.encoding):
        if problem:
            yield BadRow(number, "encoding", problem)
        elif text.strip():
            yield _row(number, text, layout)


def _row(number: int, text: str, layout: Layout) -> Row | BadRow:
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as problem:
        what = f"this is not JSON ({problem}); a .jsonl holds one object a line"
        return BadRow(number, "json", what)
    if not isinstance(record, dict):
        return BadRow(number, "json", f"expected an object, found {type(record).__name__}")
    try:
        return Row(number, pick(record, layout))
    except DataError as problem:
        return BadRow(number, "column", str(problem))


def pick(record: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Return the fields of an object.

    Args:
        record: The object.
        layout: The keys asked for.

    Returns:
        Values by field; an optional field that is absent is left out.

    Raises:
        DataError: If a key is absent.
    """
    if layout.columns is None:
        return record
    found = {}
    for field, key in layout.columns.items():
        value = _value(record, key)
        if value is not _ABSENT:
            found[field] = value
        elif field not in layout.optional:
            raise DataError(f"there is no key '{key}'; {nearest(str(key), record)}")
    return found


def _value(record: dict[str, Any], key: Column) -> Any:
    name = str(key)
    if name in record:
        return record[name]
    value: Any = record
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value
