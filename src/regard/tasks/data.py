"""Pairs of texts: records of translations, and what other code calls them.

Leaves to others: reading and checking files (the room `data`).
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

from regard.data.check_rows import check_record
from regard.data.kinds import TRANSLATION
from regard.data.record import Record, read_records
from regard.data.row import BadRow, Column, Layout
from regard.errors import DataError

# How texts become one line each, as translations are written.
_STEPS = ("one_line", "strip")


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


def pairs_of(records: Iterable[Record]) -> list[Pair]:
    """Return records of translations as pairs.

    Args:
        records: Any number.

    Returns:
        One pair for each.
    """
    return [Pair(one.values["source"], one.values["target"], one.line) for one in records]


def read_pairs(
    path: str | os.PathLike,
    source: Column | None = None,
    target: Column | None = None,
    layout: Layout | None = None,
) -> list[Pair]:
    """Read all pairs of a file.

    Args:
        path: A file of any kind that `regard.data.read_rows` takes.
        source: Where the text stands: a column's name, its number from 1, or a key. If it is not
            given: 1 in a .tsv, otherwise "source".
        target: Where its translation stands (2, or "target").
        layout: How the file is written, in place of `source` and `target`.

    Returns:
        The pairs in the order of the file.

    Raises:
        DataError: If something is wrong; the message names the file, the line and what to do.
    """
    named = {"source": source, "target": target}
    columns = {field: column for field, column in named.items() if column is not None}
    records = []
    for row in read_records(str(path), TRANSLATION, layout or Layout(columns), _STEPS):
        if isinstance(row, BadRow):
            raise DataError(f"{path}, line {row.line}: {row.problem}")
        for remark in check_record(row, TRANSLATION):
            if remark.check == "empty":
                raise DataError(f"{row.place}: {remark.message}")
        records.append(row)
    if not records:
        raise DataError(f"{path}: the file is empty; it needs at least one row")
    return pairs_of(records)
