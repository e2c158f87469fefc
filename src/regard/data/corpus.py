"""From a plan to checked and split records, and the report of what was found on the way.

Leaves to others: reading (`record`), each check (`check_rows`, `check_splits`, `labels`), the
choice of held-out rows (`split`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from regard.data.check_rows import check_letters, check_record
from regard.data.check_splits import find_leaks, find_repeats
from regard.data.fingerprint import fingerprint
from regard.data.labels import check_labels, keep_known_labels, keep_whole_spans, labels_of
from regard.data.plan import Plan
from regard.data.record import Record, read_records
from regard.data.report import Report
from regard.data.row import BadRow
from regard.data.split import Splits, split_rows
from regard.errors import DataError


@dataclass(frozen=True)
class Corpus:
    """The data of a task.

    Attributes:
        splits: The records kept.
        labels: All labels or tags, in order; empty if rows have none.
        report: What was found, and how many rows were read, kept and left out.
        sha256: Of the files, in hexadecimal digits.
    """

    splits: Splits[Record]
    labels: tuple[str, ...]
    report: Report
    sha256: str


def load_corpus(plan: Plan) -> Corpus:
    """Read, check and split the data of a task; the report tells whether they may be used.

    Args:
        plan: What is asked.

    Returns:
        The records, the labels and the report.

    Raises:
        DataError: If a file cannot be read at all, is not the one the plan fingerprints, or holds
            too little to be split.
    """
    files = [file for names in plan.files.values() for file in names]
    _check_files(plan.files)
    report = Report()
    parts = {split: _read(plan, names, report) for split, names in plan.files.items()}
    found = fingerprint(files)
    if plan.sha256 not in (None, found):
        raise DataError(
            f"{', '.join(files)}: the data have changed: their sha256 is {found[:12]}…, "
            f"data.sha256 says {str(plan.sha256)[:12]}…; put those rows back, or delete data.sha256"
        )
    parts = {split: _without_repeats(plan, rows, report) for split, rows in parts.items()}
    parts, labels = keep_known_labels(plan, parts, report)
    parts = keep_whole_spans(plan, parts, report)
    splits = _without_leaks(plan, _split(plan, parts, report), report)
    check_labels(plan, splits, labels, report)
    report.kept = {name: len(rows) for name, rows in splits._asdict().items()}
    return Corpus(splits, labels, report, found)


def _check_files(files: Mapping[str, tuple[str, ...]]) -> None:
    seen: dict[Path, str] = {}
    for split, names in files.items():
        for name in names:
            before = seen.setdefault(Path(name).resolve(), split)
            if before != split:
                raise DataError(f"{name}: the file is named for {before} and for {split}")


def _read(plan: Plan, names: Iterable[str], report: Report) -> list[Record]:
    kept = []
    for name in names:
        for row in read_records(name, plan.kind, plan.layout, plan.steps, plan.group):
            report.read[name] += 1
            if isinstance(row, BadRow):
                report.add(row.check, plan.action("malformed"), name, row.line, row.problem)
            elif _passes(plan, row, report):
                kept.append(row)
        if not report.read[name]:
            raise DataError(f"{name}: the file is empty; it needs at least one row")
    return kept


def _passes(plan: Plan, record: Record, report: Report) -> bool:
    """Note what is wrong with a record by itself; return whether it is kept."""
    for check, message in check_record(record, plan.kind, plan.limits, plan.no_answer):
        action = "leave_out" if check == "max_words" else plan.action(check)
        if not report.add(check, action, record.file, record.line, message):
            return False
    if plan.letters:
        for check, message in check_letters(record):
            return report.add(check, plan.action(check), record.file, record.line, message)
    return True


def _without_repeats(plan: Plan, records: list[Record], report: Report) -> list[Record]:
    out = {
        id(repeat.record)
        for repeat in find_repeats(records, plan.kind)
        if not _keep(plan, repeat.record, repeat.check, repeat.message, report)
    }
    return [record for record in records if id(record) not in out]


def _without_leaks(plan: Plan, splits: Splits[Record], report: Report) -> Splits[Record]:
    """Return the splits without what is held out as well: test is never touched."""
    held_out: list[Record] = []
    kept: dict[str, list[Record]] = {}
    for split in ("test", "valid", "train"):
        records: list[Record] = getattr(splits, split)
        out = {
            id(leak.record)
            for leak in find_leaks(records, held_out, plan.kind)
            if not _keep(plan, leak.record, leak.check, leak.message, report)
        }
        kept[split] = [record for record in records if id(record) not in out]
        held_out += kept[split]
    return Splits(**kept)


def _keep(plan: Plan, record: Record, check: str, message: str, report: Report) -> bool:
    return report.add(check, plan.action(check), record.file, record.line, message)


def _split(plan: Plan, parts: dict[str, list[Record]], report: Report) -> Splits[Record]:
    """Hold out of the training rows what has no files of its own."""
    given = {name: 0 for name in ("valid", "test") if name in parts}
    stratum = None
    if plan.held_out.stratify and plan.kind.labels is not None:
        stratum = partial(_stratum, plan)
    try:
        cut = split_rows(parts["train"], replace(plan.held_out, **given), _key(plan), stratum)
    except DataError as problem:
        if not report.errors:
            raise DataError(f"{', '.join(plan.files['train'])}: {problem}") from None
        # Rows are few because others are wrong, which the report tells.
        cut = Splits(parts["train"], [], [])
    return Splits(cut.train, parts.get("valid", cut.valid), parts.get("test", cut.test))


def _key(plan: Plan) -> Callable[[Record], str]:
    if plan.group is not None:
        return lambda record: str(record.group)
    return lambda record: record.form(plan.kind.inputs)


def _stratum(plan: Plan, record: Record) -> str:
    return " ".join(labels_of(plan, record))
