"""All rows of one more file of a task, the first one that is wrong being fatal."""

import os
from collections.abc import Sequence

from regard.data.check_rows import check_record
from regard.data.kinds import DataKind
from regard.data.record import Record, read_records
from regard.data.row import BadRow, Layout
from regard.errors import DataError


def read_file(
    path: str | os.PathLike,
    kind: DataKind,
    layout: Layout,
    steps: Sequence[str] = (),
    no_answer: bool = False,
) -> list[Record]:
    """Read all records of a file.

    Args:
        path: A file of any kind that `read_rows` takes.
        kind: What its rows hold.
        layout: Columns by field, as far as they have other names, and how the file is written.
        steps: How texts are normalised.
        no_answer: Whether a question may have no answer.

    Returns:
        The records in the order of the file.

    Raises:
        DataError: If something is wrong; the message names the file, the line and what to do.
    """
    records = []
    for row in read_records(str(path), kind, layout, steps):
        if isinstance(row, BadRow):
            raise DataError(f"{path}, line {row.line}: {row.problem}")
        for remark in check_record(row, kind, no_answer=no_answer):
            if remark.check == "empty":
                raise DataError(f"{row.place}: {remark.message}")
        records.append(row)
    if not records:
        raise DataError(f"{path}: the file is empty; it needs at least one row")
    return records
