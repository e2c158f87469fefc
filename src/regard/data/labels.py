"""The labels of a task's records: which are known, which are strange, which look wrong.

Leaves to others: what a misspelling is (`check_labels`), what a span is (`check_rows`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping

from regard.data.check_labels import find_typos, spans_of
from regard.data.check_rows import check_spans, is_span_scheme
from regard.data.kinds import DataKind
from regard.data.plan import Plan
from regard.data.record import Record
from regard.data.report import WARN, Report
from regard.data.split import Splits
from regard.errors import DataError, nearest

Parts = Mapping[str, list[Record]]


def labels_of(plan: Plan, record: Record) -> tuple[str, ...]:
    """Return the label of a record, or its tags.

    Args:
        plan: Which field holds them.
        record: The record.

    Returns:
        None, one, or one for each token.
    """
    if plan.kind.labels is None:
        return ()
    value = record.values[plan.kind.labels]
    return value if isinstance(value, tuple) else (value,)


def keep_known_labels(
    plan: Plan, parts: Parts, report: Report
) -> tuple[dict[str, list[Record]], tuple[str, ...]]:
    """Return the records whose labels are known.

    Args:
        plan: The labels, if it gives them; otherwise those of the training records are known.
        parts: Records by split.
        report: Is told of the others.

    Returns:
        Records by split, and the labels.
    """
    labels = plan.labels
    if labels is None:
        labels = tuple(sorted({x for record in parts["train"] for x in labels_of(plan, record)}))
    known = frozenset(labels)
    whence = "data.labels" if plan.labels is not None else "those of the training rows"
    kept: dict[str, list[Record]] = {}
    for split, records in parts.items():
        kept[split] = []
        for record in records:
            strange = next((x for x in labels_of(plan, record) if x not in known), None)
            if strange is not None:
                message = f"the label '{strange}' is not among {whence}; {nearest(strange, known)}"
                action = plan.action("unknown_label")
                report.add("unknown_label", action, record.file, record.line, message)
            else:
                kept[split].append(record)
    return kept, labels


def check_known(kind: DataKind, labels: Iterable[str], records: Iterable[Record]) -> None:
    """Refuse records that a model has no label for; of tags it may lack some.

    Args:
        kind: Which field holds a label.
        labels: Those of the model.
        records: What it is to be scored on.

    Raises:
        DataError: If a label is not among them.
    """
    known = frozenset(labels)
    for record in records:
        label = None if kind.labels is None else record.values[kind.labels]
        if isinstance(label, str) and label not in known:
            raise DataError(
                f"{record.place}: the label '{label}' is not among those of the model; "
                f"{nearest(label, known)}"
            )


def keep_whole_spans(plan: Plan, parts: Parts, report: Report) -> dict[str, list[Record]]:
    """Return the records whose spans begin where they should, if tags are spans.

    Args:
        plan: What is done about the others.
        parts: Records by split.
        report: Is told of the others.

    Returns:
        Records by split.
    """
    if not _is_spans(plan, (record for records in parts.values() for record in records)):
        return dict(parts)

    def passes(record: Record) -> bool:
        remarks = check_spans(record.values["tokens"], record.values["tags"])
        action = plan.action("bio")
        return all(
            report.add(check, action, record.file, record.line, message)
            for check, message in remarks
        )

    return {split: list(filter(passes, records)) for split, records in parts.items()}


def _is_spans(plan: Plan, records: Iterable[Record]) -> bool:
    if plan.kind.labels != "tags":
        return False
    return is_span_scheme({tag for record in records for tag in record.values["tags"]})


def check_labels(
    plan: Plan, splits: Splits[Record], labels: tuple[str, ...], report: Report
) -> None:
    """Note labels that look misspelled, and those that one training row has, or none.

    Args:
        plan: Whether the labels are given; given ones are spelled as they should be.
        splits: The records; spans of tags are told apart by what follows B- and I-.
        labels: All labels.
        report: Is told.
    """
    records = [record for part in splits for record in part]
    spans = _is_spans(plan, records)
    first: dict[str, Record] = {}
    counts: Counter[str] = Counter()
    for record in records:
        own = _count(plan, record, spans)
        counts.update(own)
        first.update({label: record for label in own if label not in first})
    if plan.labels is None:
        for rare, frequent in find_typos(counts):
            message = (
                f"the label '{rare}', {_times(counts[rare])}, may be '{frequent}', "
                f"{_times(counts[frequent])}, misspelled; correct it, or list data.labels"
            )
            report.add("typo", WARN, first[rare].file, first[rare].line, message)
    trained: Counter[str] = Counter()
    for record in splits.train:
        trained.update(_count(plan, record, spans).keys())
    for label in sorted(first) if spans else labels:
        if trained[label] <= 1:
            rows = "one training row" if trained[label] else "no training row"
            message = f"the label '{label}' has {rows}; add others or drop it"
            where = first.get(label)
            file, line = (where.file, where.line) if where else (plan.files["train"][0], 0)
            report.add("single", WARN, file, line, message)


def _count(plan: Plan, record: Record, spans: bool) -> Counter[str]:
    return spans_of(record.values["tags"]) if spans else Counter(labels_of(plan, record))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
