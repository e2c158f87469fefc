"""What a reader of any kind of file yields: a row, or what is wrong with one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

Column = int | str


class Row(NamedTuple):
    """One row of a file.

    Attributes:
        line: Where it begins, counted from 1: a line of a text file, a row of any other.
        values: What it holds, by field, or by the file's own names if no columns were asked for.
    """

    line: int
    values: dict[str, Any]


class BadRow(NamedTuple):
    """A row that cannot be read.

    Attributes:
        line: Where it begins, counted from 1.
        check: What is wrong, in a word: encoding, ragged, json, column or type.
        problem: What is wrong and what to do.
    """

    line: int
    check: str
    problem: str


@dataclass(frozen=True)
class Layout:
    """How the rows of a file are laid out.

    Attributes:
        columns: By field: a column's name, its number from 1, or the key of a .jsonl, where dots
            lead into objects. None takes all columns, by their own names.
        optional: Fields whose column may be absent.
        header: Whether the first line of a .csv or .tsv names the columns. None: it does if a
            column is asked for by name; if none is asked for, it does in a .csv.
        delimiter: Between the columns of a .csv.
        encoding: Of a text file.
    """

    columns: Mapping[str, Column] | None = None
    optional: frozenset[str] = frozenset()
    header: bool | None = None
    delimiter: str = ","
    encoding: str = "utf-8"
