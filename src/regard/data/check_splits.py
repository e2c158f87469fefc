"""What can be wrong among records: repeated, contradicting each other, or in two splits.

Leaves to others: what is done about it (`corpus`).
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from regard.data.kinds import DataKind
from regard.data.record import Record


class Repeat(NamedTuple):
    """A record that is like an earlier one.

    Attributes:
        record: The later one.
        check: duplicate, conflict, leak or near_leak.
        message: What is wrong and what to do.
    """

    record: Record
    check: str
    message: str


def find_repeats(records: Iterable[Record], kind: DataKind) -> Iterator[Repeat]:
    """Yield records of one split that repeat or contradict an earlier one.

    Args:
        records: In their order.
        kind: Which fields count.

    Yields:
        Duplicates, and conflicts: records whose input is labelled otherwise before.
    """
    seen: dict[str, Record] = {}
    inputs: dict[str, Record] = {}
    for record in records:
        first = seen.setdefault(record.form(kind.repeats), record)
        before = inputs.setdefault(record.form(kind.inputs), record)
        if first is not record:
            same = " and ".join(kind.repeats)
            yield Repeat(
                record,
                "duplicate",
                f"the {same} {_shown(record, kind.repeats[0])} {_stands(kind)} on "
                f"{_where(first, record)} already; delete one, or set data.duplicates to first",
            )
        elif before is not record and kind.labels is not None:
            yield Repeat(
                record,
                "conflict",
                f"{_shown(record, kind.inputs[0])} is labelled {_label(record, kind)} here and "
                f"{_label(before, kind)} on {_where(before, record)}; decide for one",
            )


def find_leaks(
    train: Iterable[Record], held_out: Iterable[Record], kind: DataKind
) -> Iterator[Repeat]:
    """Yield training records whose input is held out as well.

    Args:
        train: Records to train on.
        held_out: Records to score on.
        kind: Which fields are the input.

    Yields:
        Leaks: letter by letter, or near: alike but for case, blanks and ways of encoding.
    """
    others: dict[str, list[Record]] = {}
    for record in held_out:
        others.setdefault(record.form(kind.inputs), []).append(record)
    for record in train:
        alike = others.get(record.form(kind.inputs))
        if not alike:
            continue
        mine = record.exact(kind.inputs)
        same = next((one for one in alike if one.exact(kind.inputs) == mine), None)
        other = same or alike[0]
        how = "is held out too" if same else "is held out too, but for case and blanks"
        yield Repeat(
            record,
            "leak" if same else "near_leak",
            f"{_shown(record, kind.inputs[0])} {how}, {_where(other, record)}; delete one, or set "
            f"data.checks.{'leak' if same else 'near_leak'} to leave_out",
        )


def _stands(kind: DataKind) -> str:
    return "stands" if len(kind.repeats) == 1 else "stand"


def _where(record: Record, seen_from: Record) -> str:
    return f"line {record.line}" if record.file == seen_from.file else record.place


def _shown(record: Record, field: str) -> str:
    value = record.values[field]
    text = " ".join(value) if isinstance(value, tuple) else str(value)
    return f"'{text}'" if len(text) <= 60 else f"'{text[:57]}…'"


def _label(record: Record, kind: DataKind) -> str:
    return _shown(record, kind.labels or "")
