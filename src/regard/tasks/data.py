"""Pairs of texts from local files: .tsv or .jsonl, plain or .gz, checked line by line.

Leaves to others: which pairs train and which test (`splits`).
"""

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from regard.errors import DataError, located, nearest

Column = int | str
Cells = tuple[str, str]


class Pair(NamedTuple):
    """A text and its translation.

    Attributes:
        source: The text, without surrounding blanks.
        target: Its translation, likewise.
        line: Where it stands in its file, counted from 1.
    """

    source: str
    target: str
    line: int = 0


def read_pairs(
    path: str | os.PathLike, source: Column | None = None, target: Column | None = None
) -> list[Pair]:
    """Read all pairs of a file.

    Args:
        path: A UTF-8 file that ends in .tsv or .jsonl, or in one of these and .gz.
        source: Where the text stands: a column of a .tsv, counted from 1 (default 1), or a key of
            a .jsonl (default "source").
        target: Where its translation stands (default 2, or "target").

    Returns:
        The pairs in the order of the file.

    Raises:
        DataError: If something is wrong; the message names the file, the line and what to do.
    """
    place = Path(path)
    read_line = _line_reader(place, source, target)
    pairs = []
    for number, text in _lines(place):
        try:
            source_text, target_text = map(_on_one_line, read_line(text))
            pair = Pair(source_text, target_text, number)
            _check_full(pair)
        except DataError as problem:
            raise located(problem, f"{place}, line {number}") from None
        pairs.append(pair)
    if not pairs:
        raise DataError(f"{place}: the file is empty; it needs one pair of texts a line")
    return pairs


def _on_one_line(text: str) -> str:
    return " ".join(text.splitlines()).strip()


def _check_full(pair: Pair) -> None:
    for name, text in (("source", pair.source), ("target", pair.target)):
        if not text:
            raise DataError(f"the {name} text is empty; fill it in or delete the line")


def _line_reader(
    place: Path, source: Column | None, target: Column | None
) -> Callable[[str], Cells]:
    """Return the function that finds both texts in a line of this kind of file."""
    suffixes = [suffix for suffix in place.suffixes if suffix != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    if kind == ".tsv":
        return TabbedLines(_as_column(place, source, 1), _as_column(place, target, 2)).read
    if kind == ".jsonl":
        keys = (
            str("source" if source is None else source),
            str("target" if target is None else target),
        )
        return lambda text: _read_json_line(text, *keys)
    raise DataError(f"{place}: the name should end in .tsv, .jsonl, .tsv.gz or .jsonl.gz")


def _as_column(place: Path, column: Column | None, default: int) -> int:
    number = default if column is None else column
    if isinstance(number, str) or number < 1:
        raise DataError(f"{place}: columns of a .tsv are numbers from 1, found {number!r}")
    return number


class TabbedLines:
    """Reads the lines of a .tsv, which must all have as many columns as the first."""

    def __init__(self, source: int, target: int) -> None:
        """Remember the columns.

        Args:
            source: Column of the text, counted from 1.
            target: Column of its translation.
        """
        self.source, self.target = source, target
        self.columns: int | None = None

    def read(self, line: str) -> Cells:
        """Return both texts of a line.

        Args:
            line: One line of the file.

        Returns:
            The text and its translation.

        Raises:
            DataError: If the line has too few columns, or not as many as the first.
        """
        cells = line.split("\t")
        needed = max(self.source, self.target)
        if len(cells) < needed:
            raise DataError(
                f"found {_columns(len(cells))}, but column {needed} is asked for; "
                "separate columns by one tab"
            )
        self.columns = self.columns or len(cells)
        if len(cells) != self.columns:
            raise DataError(
                f"found {_columns(len(cells))}, but the first line has {self.columns}; "
                "is there a tab too many or too few?"
            )
        return cells[self.source - 1], cells[self.target - 1]


def _columns(count: int) -> str:
    return f"{count} column" + "s" * (count != 1)


def _read_json_line(line: str, source: str, target: str) -> Cells:
    try:
        record = json.loads(line)
    except ValueError as problem:
        raise DataError(f"this is not JSON ({problem}); a .jsonl holds one object a line") from None
    if not isinstance(record, dict):
        raise DataError(f"expected an object, found {type(record).__name__}")
    for key in (source, target):
        if key not in record:
            raise DataError(f"there is no key '{key}'; {nearest(key, record)}")
        if not isinstance(record[key], str):
            raise DataError(f"'{key}' should be text, found {type(record[key]).__name__}")
    return record[source], record[target]


def _lines(place: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, decoded and without their ends."""
    opener = gzip.open if place.suffix == ".gz" else open
    try:
        with opener(place, "rb") as file:
            for number, line in enumerate(file, 1):
                yield number, _decode(place, number, line).rstrip("\r\n")
    except (gzip.BadGzipFile, zlib.error, EOFError) as problem:
        raise DataError(
            f"{place}: this is no complete gzip file ({problem}); pack it anew"
        ) from None
    except FileNotFoundError:
        raise DataError(f"{place}: there is no such file; check data.path") from None
    except OSError as problem:
        raise DataError(f"{place}: {(problem.strerror or str(problem)).lower()}") from None


def _decode(place: Path, number: int, line: bytes) -> str:
    try:
        # Some editors put a mark in front of the first line.
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(
            f"{place}, line {number}: byte {problem.start + 1} is not UTF-8; save the file as UTF-8"
        ) from None
