"""What a run keeps of each test example, and the metrics that follow from it, for each task.

A record holds `input`, `reference` (what is right) and `prediction` (what the model said):

    translation, summarisation   texts
    classification               labels
    tagging                      lists of tags
    question_answering           a list of right answers; an answer
    pairs                        labels, or numbers
    retrieval                    anything; the ranks of the relevant candidates, from 1
    language_modelling           {"bytes": …}; {"loss": summed, in nats, "tokens": …}
    joint                        as its `task` has it, which is the name of one of several tasks

Leaves to others: the file they are kept in (`train`).
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from regard.errors import DataError, nearest
from regard.metrics.answers import answer_f1, exact_match
from regard.metrics.classification import accuracy, labels_in, macro_f1
from regard.metrics.correlation import pearson, spearman, squared_error
from regard.metrics.likelihood import bits_per_byte, perplexity
from regard.metrics.measure import Measure
from regard.metrics.retrieval import rank_tally
from regard.metrics.rouge import rouge
from regard.metrics.spans import read_spans
from regard.metrics.tagging import span_f1, tag_accuracy
from regard.metrics.translation import bleu, chrf

# Several tasks in one.
JOINT = "joint"
KEYS = ("input", "reference", "prediction")
# Of all metrics of a run; `Measure.higher_is_better` says the same of one at hand.
LOWER_IS_BETTER = ("perplexity", "bits per byte", "mean squared error")
Record = Mapping[str, Any]
Options = Mapping[str, Any]
# The predictions of each run, and the references they share.
_Runs = list[list[Any]]
_Measured = list[list[Measure]]


def measures_of(
    task: str, runs: Sequence[Sequence[Record]], options: Options | None = None
) -> list[list[Measure]]:
    """Return the metrics of a task for runs over the same examples.

    Args:
        task: Its kind, e.g. "classification".
        runs: The records of each run, in the same order.
        options: `labels` of classification and pairs, `scheme` of tagging, `stemmer` of
            summarisation, `k` (a list) of retrieval; what is left out has its default. Of a joint
            task `tasks`: by name, the `task` and the `options` of each.

    Returns:
        For each run its metrics, so made that those of one name can be compared.

    Raises:
        DataError: If the kind or an option is unknown, or a record is not as the kind wants it.
    """
    if task == JOINT:
        return _joint(runs, options or {})
    if task not in _TASKS:
        raise DataError(f"there is no task '{task}'; {nearest(task, _TASKS)}")
    measured, known = _TASKS[task]
    given = dict(options or {})
    for name in given:
        if name not in known:
            raise DataError(f"a {task} has no option '{name}'; {nearest(name, known)}")
    if not runs or not runs[0]:
        raise DataError("there are no records to score; at least one is needed")
    for number, record in enumerate(runs[0], 1):
        check_record(record, number)
    references = [record["reference"] for record in runs[0]]
    predictions = [[record["prediction"] for record in records] for records in runs]
    return measured(predictions, references, **given)


def _joint(runs: Sequence[Sequence[Record]], options: Options) -> "_Measured":
    """Return the metrics of each of several tasks that has records, named TASK/METRIC."""
    tasks = options.get("tasks")
    if not isinstance(tasks, Mapping) or not runs or not runs[0]:
        raise DataError("a joint task needs records, and the option 'tasks'")
    for number, record in enumerate(runs[0], 1):
        check_record(record, number)
        if record.get("task") not in tasks:
            raise DataError(
                f"record {number} is of task {record.get('task')!r}; "
                f"{nearest(str(record.get('task')), tasks)}"
            )
    found: _Measured = [[] for _ in runs]
    for name, how in tasks.items():
        own = [records_of_task(records, name) for records in runs]
        if not own[0]:
            continue
        for measures, of in zip(found, measures_of(how["task"], own, how["options"]), strict=True):
            measures += [replace(one, name=f"{name}/{one.name}") for one in of]
    return found


def records_of_task(records: Sequence[Record], name: str) -> list[Record]:
    """Return the records of one of several tasks.

    Args:
        records: Of a joint task.
        name: Of the task.

    Returns:
        Its records, in their order.
    """
    return [record for record in records if record.get("task") == name]


def check_record(record: Any, number: int) -> None:
    """Refuse what is no record.

    Args:
        record: Supposed to be one.
        number: Its place, counted from 1.

    Raises:
        DataError: If it is not an object with all keys.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"record {number} is {type(record).__name__}; an object is needed")
    for key in KEYS:
        if key not in record:
            raise DataError(f"record {number} has no '{key}'; {nearest(key, record)}")


def fingerprint(records: Sequence[Record]) -> str:
    """Return a hash of what the examples ask, whatever was answered.

    Args:
        records: In their order.

    Returns:
        64 hexadecimal digits.
    """
    asked = hashlib.sha256()
    for record in records:
        line = json.dumps([record["input"], record["reference"]], sort_keys=True)
        asked.update(line.encode() + b"\n")
    return asked.hexdigest()


def as_line(part: Any, most: int | None = None) -> str:
    """Return a part of a record for a person to read.

    Args:
        part: Its input, reference or prediction.
        most: Characters, of which the last says that there were more; None: all.

    Returns:
        One line.
    """
    if isinstance(part, Mapping):
        text = ", ".join(f"{key} {as_line(value)}" for key, value in part.items())
    elif isinstance(part, list | tuple):
        text = " ".join(map(as_line, part)) or "–"
    else:
        text = f"{part:.4g}" if isinstance(part, float) else str(part)
    line = " ".join(text.split())
    return line if most is None or len(line) <= most else f"{line[: most - 1].rstrip()}…"


def _translation(runs: _Runs, references: list[str]) -> _Measured:
    return [[bleu(found, references), chrf(found, references)] for found in runs]


def _classification(
    runs: _Runs, references: list[str], labels: Sequence[str] | None = None
) -> _Measured:
    known = labels or labels_in(references, *runs)
    return [
        [accuracy(found, references, known), macro_f1(found, references, known)] for found in runs
    ]


def _tagging(runs: _Runs, references: list[list[str]], scheme: str = "BIO") -> _Measured:
    sentences = [tags for found in [references, *runs] for tags in found]
    types = sorted({span.label for tags in sentences for span in read_spans(tags, scheme)[0]})
    return [
        [
            span_f1(found, references, scheme),
            span_f1(found, references, scheme, "macro", types),
            tag_accuracy(found, references),
        ]
        for found in runs
    ]


def _answers(runs: _Runs, references: list[list[str]]) -> _Measured:
    return [[exact_match(found, references), answer_f1(found, references)] for found in runs]


def _summaries(runs: _Runs, references: list[Any], stemmer: bool = False) -> _Measured:
    return [list(rouge(found, references, stemmer).values()) for found in runs]


def _pairs(runs: _Runs, references: list[Any], labels: Sequence[str] | None = None) -> _Measured:
    if labels or all(isinstance(one, str) for one in references):
        return _classification(runs, references, labels)
    # Of equal references nothing can be told apart.
    kinds = (pearson, spearman) if len(set(references)) > 1 else ()
    return [
        [*(one(found, references, constant=0.0) for one in kinds), squared_error(found, references)]
        for found in runs
    ]


def _retrieval(runs: _Runs, references: list[Any], k: Sequence[int] = (1, 5, 10)) -> _Measured:
    return [
        [rank_tally("MRR", found), *(rank_tally(f"recall@{one}", found, one) for one in k)]
        for found in runs
    ]


def _modelling(runs: _Runs, references: list[Mapping[str, int]]) -> _Measured:
    sizes = [_number(one, "bytes", "reference", n) for n, one in enumerate(references, 1)]
    losses, tokens = (
        [[_number(one, key, "prediction", n) for n, one in enumerate(found, 1)] for found in runs]
        for key in ("loss", "tokens")
    )
    measured: _Measured = [[bits_per_byte(found, sizes)] for found in losses]
    # Perplexities over different tokens say nothing of each other.
    if all(one == tokens[0] for one in tokens):
        for measures, found in zip(measured, losses, strict=True):
            measures.append(perplexity(found, tokens[0]))
    return measured


def _number(given: Any, key: str, part: str, number: int) -> float:
    if not isinstance(given, Mapping) or key not in given:
        raise DataError(f"record {number}: its {part} has no '{key}'")
    return given[key]


_TASKS: dict[str, tuple[Callable[..., _Measured], tuple[str, ...]]] = {
    "translation": (_translation, ()),
    "classification": (_classification, ("labels",)),
    "tagging": (_tagging, ("scheme",)),
    "question_answering": (_answers, ()),
    "summarisation": (_summaries, ("stemmer",)),
    "pairs": (_pairs, ("labels",)),
    "retrieval": (_retrieval, ("k",)),
    "language_modelling": (_modelling, ()),
}
TASKS = tuple(_TASKS)
