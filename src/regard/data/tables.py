"""Rows of .csv and .tsv files: columns by name or number, and lines that do not fit the first.

A .csv may quote its cells, so that they hold commas and line breaks; a .tsv quotes nothing.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from regard.data.lines import read_lines
from regard.data.row import BadRow, Layout, Row
from regard.errors import DataError, nearest

# A cell of more characters than csv's own limit of 131,072 is a chapter, not a mistake.
_LONGEST_CELL = 2**27


class _Cells(NamedTuple):
    line: int
    cells: list[str]
    problem: str | None = None
    check: str = "encoding"


def read_table(place: Path, layout: Layout) -> Iterator[Row | BadRow]:
    """Yield the rows of a table.

    Args:
        place: A .csv or .tsv, plain or .gz.
        layout: Its columns and encoding.

    Yields:
        Rows and malformed rows, in the order of the file.

    Raises:
        DataError: If the file cannot be read, or lacks a column that is asked for by name.
    """
    tabbed = ".tsv" in map(str.lower, place.suffixes[-2:])
    lines = (_tabbed if tabbed else _quoted)(place, layout)
    names: list[str] | None = None
    if _has_header(layout, tabbed):
        first = next(lines, None)
        if first is None:
            return
        if first.problem:
            raise DataError(f"{place}, line 1: {first.problem}")
        names = [cell.strip() for cell in first.cells]
    finder = _Finder(place, layout, names)
    for found in lines:
        if found.problem:
            yield BadRow(found.line, found.check, found.problem)
        else:
            yield finder.row(found.line, found.cells)


def _has_header(layout: Layout, tabbed: bool) -> bool:
    if layout.header is not None:
        return layout.header
    if layout.columns is None:
        return not tabbed
    return any(isinstance(column, str) for column in layout.columns.values())


class _Finder:
    """Finds the asked columns in rows of cells, which must all be as many as in the first."""

    def __init__(self, place: Path, layout: Layout, names: list[str] | None) -> None:
        self.place, self.names = place, names
        self.width = None if names is None else len(names)
        self.at = "the header" if names is not None else "the first line"
        self.places = self._places(layout)
        self.needed = max(
            (k + 1 for field, k in (self.places or {}).items() if field not in layout.optional),
            default=0,
        )

    def _places(self, layout: Layout) -> dict[str, int] | None:
        if layout.columns is None:
            return None
        if self.names is not None and len(set(self.names)) < len(self.names):
            again = next(name for name in self.names if self.names.count(name) > 1)
            raise DataError(
                f"{self.place}, line 1: two columns are named '{again}'; rename one, or give "
                "columns by number"
            )
        found = {}
        for field, column in layout.columns.items():
            place = self._place(column)
            if place is not None:
                found[field] = place
            elif field not in layout.optional:
                raise self._no_column(field, column)
        return found

    def _place(self, column: int | str) -> int | None:
        if isinstance(column, int):
            return column - 1 if column >= 1 else None
        return self.names.index(column) if self.names and column in self.names else None

    def _no_column(self, field: str, column: int | str) -> DataError:
        kind = self.place.suffixes[-2] if self.place.suffix == ".gz" else self.place.suffix
        if self.names is None or isinstance(column, int):
            return DataError(
                f"{self.place}: columns of a {kind} are numbers from 1, found {column!r}"
            )
        return DataError(
            f"{self.place}, line 1: there is no column '{column}' for {field}; "
            f"{nearest(column, self.names)}; name it in data.columns.{field}"
        )

    def row(self, line: int, cells: list[str]) -> Row | BadRow:
        if len(cells) < self.needed:
            return BadRow(
                line,
                "ragged",
                f"found {_count(len(cells))}, but column {self.needed} is asked for; "
                "separate columns as the other lines do",
            )
        self.width = self.width or len(cells)
        if len(cells) != self.width:
            return BadRow(
                line,
                "ragged",
                f"found {_count(len(cells))}, but {self.at} has {self.width}; is there a "
                "separator too many or too few?",
            )
        return Row(line, self._values(cells))

    def _values(self, cells: Sequence[str]) -> dict[str, str]:
        if self.places is not None:
            return {field: cells[k] for field, k in self.places.items() if k < len(cells)}
        names = self.names or [str(number) for number in range(1, len(cells) + 1)]
        return dict(zip(names, cells, strict=True))


def _count(columns: int) -> str:
    return f"{columns} column" + "s" * (columns != 1)


def _tabbed(place: Path, layout: Layout) -> Iterator[_Cells]:
    for number, text, problem in read_lines(place, layout.encoding):
        yield _Cells(number, text.split("\t"), problem)


def _quoted(place: Path, layout: Layout) -> Iterator[_Cells]:
    """Yield rows of a .csv, which may take several lines each."""
    problems: dict[int, str] = {}

    def lines() -> Iterator[str]:
        for number, text, problem in read_lines(place, layout.encoding):
            if problem:
                problems[number] = problem
            yield text + "\n"

    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CELL))
    reader = csv.reader(lines(), delimiter=layout.delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as problem:
            yield _Cells(line, [], _csv_problem(problem), "ragged")
            continue
        bad = [number for number in problems if number <= reader.line_num]
        if bad:
            yield _Cells(bad[0], cells, problems[bad[0]])
            problems.clear()
        elif cells:
            yield _Cells(line, cells)


def _csv_problem(problem: csv.Error) -> str:
    if "unexpected end" in str(problem):
        return 'a quote opens here and never closes; close it, or write "" for a quote in a cell'
    return f'the quotes do not match ({problem}); write "" for a quote in a quoted cell'
