"""Records: the rows of a task's files with their fields read and their texts normalised."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.data.fields import Answer, read_label
from regard.data.kinds import DataKind
from regard.data.normalise import form_of, normalise
from regard.data.read_rows import kind_of_file, read_all_rows
from regard.data.row import BadRow, Column, Layout, Row
from regard.errors import DataError

# The column that rows are kept together by, when asked.
GROUP = "group"


@dataclass(frozen=True)
class Record:
    """One row of a task's data.

    Attributes:
        values: By field.
        file: Where it stands.
        line: Likewise, counted from 1.
        group: What it shares with rows that belong into the same split, or None.
    """

    values: Mapping[str, Any]
    file: str
    line: int
    group: str | None = None

    def form(self, fields: Sequence[str]) -> str:
        """Return the normal form of some fields, which records that are alike share.

        Args:
            fields: Their names.

        Returns:
            A text.
        """
        return "\x1e".join(form_of(self.values[field]) for field in fields)

    def exact(self, fields: Sequence[str]) -> tuple[Any, ...]:
        """Return the values of some fields.

        Args:
            fields: Their names.

        Returns:
            The values.
        """
        return tuple(self.values[field] for field in fields)

    @property
    def place(self) -> str:
        """Its file and line."""
        return f"{self.file}, line {self.line}"


def read_records(
    path: str,
    kind: DataKind,
    layout: Layout,
    steps: Sequence[str] = (),
    group: Column | None = None,
) -> Iterator[Record | BadRow]:
    """Yield the records of a file.

    Args:
        path: The file.
        kind: What its rows hold.
        layout: Columns by field, as far as they have other names, and how the file is written.
        steps: How texts are normalised.
        group: The column that rows are kept together by.

    Yields:
        Records, and rows that cannot be read, in the order of the file.

    Raises:
        DataError: If the file cannot be read or lacks a column.
    """
    columns = _columns(path, kind, layout.columns or {})
    if group is not None:
        columns[GROUP] = group
    full = Layout(columns, kind.optional, layout.header, layout.delimiter, layout.encoding)
    for row in read_all_rows(path, full):
        yield row if isinstance(row, BadRow) else _record(path, row, kind, columns, steps)


def _columns(path: str, kind: DataKind, given: Mapping[str, Column]) -> dict[str, Column]:
    """Return the column of each field that this file may have."""
    tabbed = kind_of_file(Path(path)) == ".tsv"
    # Without a header there is nothing to find an optional field by.
    numbered = tabbed and kind.numbered and not any(isinstance(x, str) for x in given.values())
    by_number = numbered or (bool(given) and all(isinstance(x, int) for x in given.values()))
    columns = {}
    for number, field in enumerate(kind.fields, 1):
        if field.name in given:
            columns[field.name] = given[field.name]
        elif field.required or not by_number:
            columns[field.name] = number if numbered else field.name
    return columns


def _record(
    path: str, row: Row, kind: DataKind, columns: Mapping[str, Column], steps: Sequence[str]
) -> Record | BadRow:
    values = {}
    for field in kind.fields:
        try:
            cell = row.values.get(field.name)
            value = None if cell is None and not field.required else field.read(cell)
        except DataError as problem:
            named = columns.get(field.name, field.name)
            where = f"'{named}'" if isinstance(named, str) else f"column {named} ({field.name})"
            return BadRow(row.line, "type", f"{where} {problem}")
        values[field.name] = value
    try:
        group = read_label(row.values[GROUP]) if GROUP in columns else None
    except DataError as problem:
        return BadRow(row.line, "type", f"'{columns[GROUP]}' {problem}")
    return Record(_normalised(values, steps), path, row.line, group)


def _normalised(values: dict[str, Any], steps: Sequence[str]) -> dict[str, Any]:
    if "answers" in values:
        return _normalised_answers(values, steps)
    return {name: _normalised_value(value, steps) for name, value in values.items()}


def _normalised_value(value: Any, steps: Sequence[str]) -> Any:
    if isinstance(value, str):
        return normalise(value, steps)
    if isinstance(value, tuple):
        return tuple(normalise(one, steps) for one in value)
    return value


def _normalised_answers(values: dict[str, Any], steps: Sequence[str]) -> dict[str, Any]:
    """Normalise a question, its context and answers; answers are found again in the new context."""
    before, start = values["context"], values["start"]
    context = normalise(before, steps)
    answers = []
    for answer in values["answers"]:
        at = start if answer.start is None else answer.start
        text = normalise(answer.text, steps)
        if at is not None and context != before and before.startswith(answer.text, at):
            at = _nearest(context, text, at)
        answers.append(Answer(text, at))
    question = normalise(values["question"], steps)
    return {"question": question, "context": context, "answers": tuple(answers), "start": start}


def _nearest(context: str, text: str, at: int) -> int:
    """Return where a text stands in its context, nearest to a place."""
    places, start = [], context.find(text)
    while start >= 0:
        places.append(start)
        start = context.find(text, start + 1)
    return min(places, key=lambda place: abs(place - at), default=at)
