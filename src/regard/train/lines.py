"""JSON that a run keeps about itself, read with the file and the line in every message."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from regard.errors import FileError

_PUT_BACK = "put the run's own file back, or train anew"


def read_object(path: Path, mend: str = _PUT_BACK) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: The file.
        mend: What can be done if it holds something else.

    Returns:
        The object.

    Raises:
        FileError: If it holds something else, or was cut off.
    """
    return _parsed(_text_of(path), str(path), mend)


def read_lines(path: Path, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Read a file of JSON objects, one a line, which a killed process may have cut.

    Args:
        path: The file.
        keys: What each object has.

    Returns:
        The objects, without a last line that was cut short; nothing without a file.

    Raises:
        FileError: If another line is no such object.
    """
    lines = _text_of(path).split("\n") if path.is_file() else [""]
    # What follows the last end of a line was cut short.
    found = [
        _parsed(line, f"{path}, line {n}", "delete the line")
        for n, line in enumerate(lines[:-1], 1)
    ]
    for number, one in enumerate(found, 1):
        if lost := [key for key in keys if key not in one]:
            raise FileError(f"{path}, line {number}: there is no '{lost[0]}'; delete the line")
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise FileError(f"{path}: byte {problem.start + 1} is not UTF-8") from None


def _parsed(text: str, place: str, mend: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise FileError(f"{place}: this is not JSON ({problem}); {mend}") from None
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise FileError(f"{place}: this is no JSON object but {kind}; {mend}")
    return found
