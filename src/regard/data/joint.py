"""The data of several tasks together: rows that know their task, labels that name it.

Leaves to others: the data of each (`corpus`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from regard.data.corpus import Corpus
from regard.data.record import Record
from regard.data.report import join_reports
from regard.data.split import Splits

# Between the name of a task and that of its label or metric.
OF = "/"


@dataclass(frozen=True)
class TaskRecord(Record):
    """A row of one of several tasks.

    Attributes:
        task: The name of its task.
        kind: Which kind of task that is.
    """

    task: str = ""
    kind: str = ""


@dataclass(frozen=True)
class JointCorpus(Corpus):
    """The data of several tasks. Its labels are named TASK/LABEL.

    Attributes:
        parts: The data of each task by its name.
    """

    parts: Mapping[str, Corpus] = field(default_factory=dict)


def join_corpora(parts: Mapping[str, tuple[str, Corpus]]) -> JointCorpus:
    """Return the data of several tasks.

    Args:
        parts: By the name of each task, its kind and its data.

    Returns:
        The rows of all tasks, those of one after those of another, in each split.
    """
    splits: Splits[Record] = Splits([], [], [])
    sha256 = hashlib.sha256()
    for name, (kind, corpus) in parts.items():
        sha256.update(f"{name}\0{corpus.sha256}\0".encode())
        for rows, own in zip(splits, corpus.splits, strict=True):
            rows += [
                TaskRecord(row.values, row.file, row.line, row.group, name, kind) for row in own
            ]
    corpora = {name: corpus for name, (_, corpus) in parts.items()}
    labels = (f"{name}{OF}{label}" for name, one in corpora.items() for label in one.labels)
    report = join_reports({name: one.report for name, one in corpora.items()})
    return JointCorpus(splits, tuple(labels), report, sha256.hexdigest(), corpora)


def labels_of_task(labels: tuple[str, ...] | list[str], name: str) -> list[str]:
    """Return the labels of one task.

    Args:
        labels: Of several, as `JointCorpus` names them.
        name: The task.

    Returns:
        Its labels, without its name.
    """
    return [label.removeprefix(name + OF) for label in labels if label.startswith(name + OF)]
