"""Text files as decoded lines: plain or .gz, each line with its number and what is wrong with it.

Leaves to others: what a line holds (`tables`, `json_lines`).
"""

import codecs
import difflib
import gzip
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from regard.errors import DataError

_MARKS_OF_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Line(NamedTuple):
    """One line of a file.

    Attributes:
        number: Counted from 1.
        text: Without its end; bytes that could not be decoded are surrogates.
        problem: Why it could not be decoded, or None.
    """

    number: int
    text: str
    problem: str | None


def read_lines(place: Path, encoding: str = "utf-8") -> Iterator[Line]:
    """Yield the lines of a file.

    Args:
        place: A text file, or one in gzip form whose name ends in .gz.
        encoding: Of its text, such as "utf-8" or "latin-1".

    Yields:
        Line by line, without reading ahead.

    Raises:
        DataError: If the file cannot be read at all; the message names it.
    """
    name = _known_encoding(place, encoding)
    opener = gzip.open if place.suffix == ".gz" else open
    try:
        with opener(place, "rb") as file:
            for number, line in enumerate(file, 1):
                if number == 1 and line.startswith(_MARKS_OF_UTF16):
                    raise DataError(f"{place}: this is UTF-16, not UTF-8; save the file as UTF-8")
                yield _decode(number, line, name)
    except (gzip.BadGzipFile, zlib.error, EOFError) as problem:
        raise DataError(
            f"{place}: this is no complete gzip file ({problem}); pack it anew"
        ) from None
    except FileNotFoundError:
        raise no_file(place) from None
    except OSError as problem:
        raise DataError(f"{place}: {(problem.strerror or str(problem)).lower()}") from None


def no_file(place: Path) -> DataError:
    """Return the error of a file that is not there.

    Args:
        place: Its path.

    Returns:
        The error, which names the nearest file of the folder if there is one.
    """
    names = os.listdir(place.parent) if place.parent.is_dir() else []
    close = difflib.get_close_matches(place.name, names, n=1, cutoff=0.7)
    what = f"did you mean '{close[0]}'?" if close else "check data.path"
    return DataError(f"{place}: there is no such file; {what}")


def _known_encoding(place: Path, encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        fits = "\n\t,".encode(name) == b"\n\t,"
    except (LookupError, UnicodeError):
        raise DataError(
            f"{place}: data.encoding '{encoding}' is not known; utf-8, latin-1 and cp1252 are"
        ) from None
    if not fits:
        raise DataError(
            f"{place}: files in {encoding} are not read line by line; save the file as UTF-8"
        )
    return name


def _decode(number: int, line: bytes, encoding: str) -> Line:
    # Some editors put a mark in front of the first line.
    name = "utf-8-sig" if number == 1 and encoding == "utf-8" else encoding
    try:
        return Line(number, line.decode(name).rstrip("\r\n"), None)
    except UnicodeDecodeError as problem:
        shown = encoding.upper()
        mend = "save the file as UTF-8, or name its encoding in data.encoding"
        text = line.decode(encoding, "backslashreplace").rstrip("\r\n")
        return Line(number, text, f"byte {problem.start + 1} is not {shown}; {mend}")
