"""Rows of any file, one at a time, with the lines they stand on.

Leaves to others: each kind of file (`tables`, `json_lines`, `arrow`), what a field may hold
(`fields`).
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from regard.data.arrow import read_parquet, read_saved_dataset
from regard.data.json_lines import read_json_lines
from regard.data.lines import read_lines
from regard.data.row import BadRow, Column, Layout, Row
from regard.data.tables import read_table
from regard.errors import DataError

ENDINGS = ".csv, .tsv, .jsonl or .txt, any of these and .gz, or .parquet"


def read_rows(
    path: str | os.PathLike,
    columns: Mapping[str, Column] | None = None,
    *,
    optional: frozenset[str] = frozenset(),
    header: bool | None = None,
    delimiter: str = ",",
    encoding: str = "utf-8",
    skip: Callable[[BadRow], None] | None = None,
) -> Iterator[Row]:
    """Yield the rows of a file, without holding more than a few of them.

    Args:
        path: A .csv, .tsv, .jsonl or .txt, plain or .gz, a .parquet, or a folder that
            `datasets` saved.
        columns: By field, the column's name or number from 1, or a key; None: all of them.
        optional: Fields whose column may be absent.
        header: Whether the first line names the columns; None: as `columns` implies.
        delimiter: Between the columns of a .csv.
        encoding: Of a text file.
        skip: Is told of each malformed row, which is then skipped. None: the first is fatal.

    Yields:
        Rows with their lines, in the order of the file.

    Raises:
        DataError: If the file cannot be read, or a row is malformed and none is skipped; the
            message names the file and the line.
    """
    layout = Layout(columns, optional, header, delimiter, encoding)
    for row in read_all_rows(path, layout):
        if isinstance(row, Row):
            yield row
        elif skip is None:
            raise DataError(f"{path}, line {row.line}: {row.problem}")
        else:
            skip(row)


def read_all_rows(path: str | os.PathLike, layout: Layout) -> Iterator[Row | BadRow]:
    """Yield the rows of a file, the malformed ones among them.

    Args:
        path: As `read_rows` takes it.
        layout: Its columns and encoding.

    Returns:
        Rows and malformed rows, in the order of the file.

    Raises:
        DataError: If the file cannot be read, or no reader knows its kind.
    """
    place = Path(path)
    readers = {
        ".csv": read_table,
        ".tsv": read_table,
        ".jsonl": read_json_lines,
        ".txt": _read_text,
        ".parquet": read_parquet,
    }
    ending = kind_of_file(place)
    if place.is_dir() and (ending not in readers or (place / "state.json").is_file()):
        return read_saved_dataset(place, layout)
    if ending not in readers:
        raise DataError(f"{place}: the name should end in {ENDINGS}; or it is a saved dataset")
    return readers[ending](place, layout)


def kind_of_file(place: Path) -> str:
    """Return what the name of a file ends in, apart from .gz.

    Args:
        place: Its path.

    Returns:
        An ending such as ".csv", or "" if there is none.
    """
    suffixes = place.suffixes[:-1] if place.suffix == ".gz" else place.suffixes
    return suffixes[-1].lower() if suffixes else ""


def _read_text(place: Path, layout: Layout) -> Iterator[Row | BadRow]:
    """Yield the lines of a text file, blank ones left out, as the one column `text`."""
    fields = [field for field in layout.columns or ("text",) if field not in layout.optional]
    if len(fields) != 1:
        raise DataError(
            f"{place}: a .txt has one column, but {', '.join(fields)} are needed; use a .csv"
        )
    for number, text, problem in read_lines(place, layout.encoding):
        if problem:
            yield BadRow(number, "encoding", problem)
        elif text.strip():
            yield Row(number, {fields[0]: text})
