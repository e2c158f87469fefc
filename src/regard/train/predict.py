"""What a finished run answers to the rows of a file, a few hundred at a time.

The file may be of any length: no more of it is held than is answered at once. Leaves to others:
reading rows (`data`), answering (`learners`).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from regard.data.check_rows import check_record
from regard.data.kinds import DataKind
from regard.data.record import Record, read_records
from regard.data.row import BadRow
from regard.errors import DataError
from regard.learners import Learner
from regard.tasks.plan_data import layout_of
from regard.train.model import load_learner

# Rows read ahead, so that those of like length are answered together.
ROWS = 256


class Prediction(NamedTuple):
    """An answer.

    Attributes:
        line: Of the row it answers, counted from 1.
        answer: As `metrics.records` has the predictions of this kind of task.
    """

    line: int
    answer: Any


def predict_run(
    run_dir: str | os.PathLike,
    path: str | os.PathLike,
    skip: Callable[[BadRow], None] | None = None,
    rows: int = ROWS,
    task: str | None = None,
) -> Iterator[Prediction]:
    """Yield what a finished run answers to the rows of a file.

    Args:
        run_dir: The run folder.
        path: A file of any kind that `regard.data.read_rows` takes, with the columns of the task's
            data that a model reads; others are passed over.
        skip: Is told of each row that cannot be read or answered, which then is skipped. None: the
            first is fatal.
        rows: How many are answered at once.
        task: Which of several tasks that the run joins is asked.

    Yields:
        An answer for each row, in the order of the file.

    Raises:
        TaskError: If there is no finished run.
        DataError: If the file cannot be read, or a row is malformed and none is skipped; the
            message names the file and the line.
    """
    learner, model = load_learner(run_dir)
    learner, model = learner.only(task, model)
    waiting = _rows(learner, str(path), skip)
    while group := list(islice(waiting, rows)):
        yield from _answers(learner, model, group, skip)


def _rows(learner: Learner, path: str, skip: Callable[[BadRow], None] | None) -> Iterator[Record]:
    """Yield the rows that can be read."""
    settings = learner.task.data
    kind, layout = settings.data_kind().asked(), layout_of(settings)
    columns = {field: at for field, at in (layout.columns or {}).items() if field in kind.inputs}
    layout, steps = replace(layout, columns=columns), tuple(settings.normalise)
    for row in read_records(path, kind, layout, steps):
        bad = row if isinstance(row, BadRow) else _empty(row, kind)
        if bad is not None:
            _skip(bad, path, skip)
        elif isinstance(row, Record):
            yield row


def _empty(row: Record, kind: DataKind) -> BadRow | None:
    """Return what is wrong with a row that asks nothing."""
    remarks = [one for one in check_record(row, kind) if one.check == "empty"]
    return BadRow(row.line, "empty", remarks[0].message) if remarks else None


def _answers(
    learner: Learner,
    model: PreTrainedModel,
    group: Sequence[Record],
    skip: Callable[[BadRow], None] | None,
) -> Iterator[Prediction]:
    """Yield the answers to rows, one by one if some of them cannot be answered."""
    try:
        answers = learner.answer(model, group)
    except DataError as problem:
        if len(group) > 1:
            for row in group:
                yield from _answers(learner, model, [row], skip)
            return
        (row,) = group
        text = str(problem).removeprefix(f"{row.place}: ")
        _skip(BadRow(row.line, "long", text), row.file, skip)
        return
    for row, answer in zip(group, answers, strict=True):
        yield Prediction(row.line, answer)


def _skip(bad: BadRow, path: str, skip: Callable[[BadRow], None] | None) -> None:
    if skip is None:
        raise DataError(f"{path}, line {bad.line}: {bad.problem}")
    skip(bad)
