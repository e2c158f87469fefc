"""What a finished run answered to each test example, kept so that runs can be compared.

Leaves to others: what the answers are worth (`metrics`), comparing (`compare`).
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from regard.errors import DataError, FileError, TaskError, located, nearest
from regard.metrics.records import JOINT, Record, check_record, fingerprint, records_of_task
from regard.train.folder import RunFolder
from regard.train.lines import read_object


@dataclass(frozen=True)
class Measured:
    """How the test examples of a run were scored.

    Attributes:
        task: The kind of task.
        test_sha256: Of what the examples ask; equal for runs over the same test split.
        options: Of the metrics, e.g. the scheme of tags.
    """

    task: str
    test_sha256: str
    options: dict[str, Any] = field(default_factory=dict)


def write_records(
    folder: RunFolder, task: str, records: Sequence[Record], options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Keep the answers of a run.

    Args:
        folder: The run folder.
        task: The kind of task.
        records: One for each test example, as `metrics.records` describes them.
        options: Of the metrics.

    Returns:
        What belongs into the run's metrics under "measured".
    """
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    folder.records.write_text("".join(lines), encoding="utf-8")
    return asdict(Measured(task, fingerprint(records), dict(options or {})))


def read_records(path: str | os.PathLike, task: str | None = None) -> tuple[Measured, list[Record]]:
    """Read the answers of a finished run.

    Args:
        path: The run folder.
        task: Which of several tasks, if the run joins some; a run of one task gives that one.

    Returns:
        How they were scored, and the answers.

    Raises:
        TaskError: If there is no finished run, it kept no answers, or has no such task.
        FileError: If a file of it is broken.
    """
    folder = RunFolder(Path(path))
    if not folder.task.is_file():
        raise TaskError(f"{folder.path}: there is no run here; it would hold a task.yaml")
    folder.check_finished()
    measured = _read_measured(folder)
    if not folder.records.is_file():
        raise TaskError(
            f"{folder.path}: there is no {folder.records.name}, so its answers are lost; train anew"
        )
    records = _read_lines(folder.records)
    if fingerprint(records) != measured.test_sha256:
        raise FileError(
            f"{folder.records}: these {len(records)} examples are not those that were scored, "
            "whose sha256 stands in metrics.json; the file was changed or cut; train anew"
        )
    return (measured, records) if task is None else _of_task(folder, measured, records, task)


def _of_task(
    folder: RunFolder, measured: Measured, records: list[Record], task: str
) -> tuple[Measured, list[Record]]:
    """Return what a run of that task alone would have kept."""
    if measured.task != JOINT:
        return measured, records
    known = measured.options.get("tasks", {})
    if task not in known:
        raise TaskError(f"{folder.path}: there is no task '{task}'; {nearest(task, known)}")
    own: list[Record] = [
        {key: value for key, value in record.items() if key != "task"}
        for record in records_of_task(records, task)
    ]
    if not own:
        raise TaskError(f"{folder.path}: task '{task}' has no test examples")
    return Measured(known[task]["task"], fingerprint(own), known[task]["options"]), own


def _read_measured(folder: RunFolder) -> Measured:
    found = read_object(folder.metrics).get("measured")
    if found is None:
        raise TaskError(
            f"{folder.path}: this run is of a version that kept no answers; train it anew"
        )
    try:
        return Measured(**found)
    except TypeError:
        raise FileError(
            f"{folder.metrics}: 'measured' should hold task, test_sha256 and options"
        ) from None


def _read_lines(path: Path) -> list[Record]:
    records = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise FileError(f"{path}: byte {problem.start + 1} is not UTF-8") from None
    # Only "\n" ends a line: a text may hold other marks that end lines elsewhere.
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        try:
            record = json.loads(line)
        except ValueError as problem:
            raise FileError(f"{path}, line {number}: this is not JSON ({problem})") from None
        try:
            check_record(record, number)
        except DataError as problem:
            raise located(FileError(str(problem)), f"{path}, line {number}") from None
        records.append(record)
    return records
