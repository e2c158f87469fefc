"""Records of each task and the metrics that follow from them."""

import re

import pytest

from regard.errors import DataError
from regard.metrics import measures_of
from regard.metrics.records import TASKS, as_line, fingerprint


def records(references, predictions):
    pairs = zip(references, predictions, strict=True)
    return [{"input": str(n), "reference": a, "prediction": b} for n, (a, b) in enumerate(pairs)]


BYTES = [{"bytes": 4}, {"bytes": 8}]
CASES = {
    "translation": (["a b", "c"], ["a b", "d"], {}, ["BLEU", "chrF"]),
    "classification": (["x", "y"], ["x", "x"], {"labels": ["x", "y"]}, ["accuracy", "macro F1"]),
    "tagging": (
        [["B-X"], ["O"]], [["B-X"], ["B-Y"]], {"scheme": "IOBES"},
        ["span F1", "span macro F1", "tag accuracy"],
    ),
    "question_answering": ([["a b"], []], ["b", ""], {}, ["exact match", "answer F1"]),
    "summarisation": (
        ["a b", ["c", "d"]], ["b", "d"], {"stemmer": True},
        ["ROUGE-1", "ROUGE-2", "ROUGE-L", "ROUGE-Lsum"],
    ),
    "pairs": ([1.0, 2.0], [3.0, 1.0], {}, ["Pearson", "Spearman", "mean squared error"]),
    "retrieval": ([[0], [1]], [[1], [3, 4]], {"k": [2]}, ["MRR", "recall@2"]),
    "language_modelling": (
        BYTES, [{"loss": 2.0, "tokens": 1}, {"loss": 3.0, "tokens": 2}], {},
        ["bits per byte", "perplexity"],
    ),
}  # fmt: skip


def test_every_task_is_tested():
    assert set(CASES) == set(TASKS)


@pytest.mark.parametrize("task", CASES)
def test_metrics_of_a_task_can_be_scored_and_compared(task):
    references, predictions, options, names = CASES[task]
    found = records(references, predictions)
    one, other = measures_of(task, [found, found], options)
    assert [measure.name for measure in one] == names
    for measure, twin in zip(one, other, strict=True):
        assert len(measure) == 2 and measure.score() == twin.score()
        assert len(measure.joined(twin)) == 4


def test_runs_with_other_labels_are_made_comparable():
    one, other = records(["x", "y"], ["x", "y"]), records(["x", "y"], ["x", "z"])
    measured = measures_of("classification", [one, other])
    assert len(measured[0][1].joined(measured[1][1])) == 4
    tags = [[["B-X"]], [["B-Z"]]]
    measured = measures_of("tagging", [records([["B-X"]], found) for found in tags])
    assert len(measured[0][1].joined(measured[1][1])) == 2


def test_perplexities_over_other_tokens_are_not_set_side_by_side():
    one, other = ([{"loss": 2.0, "tokens": n}, {"loss": 1.0, "tokens": 1}] for n in (1, 2))
    found = measures_of("language_modelling", [records(BYTES, one), records(BYTES, other)])
    assert [[measure.name for measure in run] for run in found] == [["bits per byte"]] * 2


def test_fingerprint_is_of_what_is_asked_alone():
    one, other = records(["x"], ["y"]), records(["x"], ["z"])
    assert fingerprint(one) == fingerprint(other) != fingerprint(records(["z"], ["y"]))
    assert fingerprint(one) != fingerprint(one * 2)


@pytest.mark.parametrize(
    ("task", "found", "options", "message"),
    [
        ("taging", [{}], {}, "there is no task 'taging'; did you mean 'tagging'? known: "),
        (
            "tagging",
            [{}],
            {"schema": 1},
            "a tagging has no option 'schema'; did you mean 'scheme'?",
        ),
        ("tagging", [], {}, "there are no records to score; at least one is needed"),
        ("tagging", [3], {}, "record 1 is int; an object is needed"),
        ("pairs", [{"input": 1, "reference": 2}], {}, "record 1 has no 'prediction'; known: input"),
        ("language_modelling", records([{}], [3.0]), {}, "record 1: its reference has no 'bytes'"),
        (
            "language_modelling",
            records(BYTES, [3, 4]),
            {},
            "record 1: its prediction has no 'loss'",
        ),
    ],
)
def test_what_is_no_record_of_a_known_task_is_refused(task, found, options, message):
    with pytest.raises(DataError, match="^" + re.escape(message)):
        measures_of(task, [found], options)


def test_pairs_with_labels_are_classified():
    found = records(["x", "y"], ["x", "x"])
    for options in ({}, {"labels": ["x", "y"]}):
        (measures,) = measures_of("pairs", [found], options)
        assert [one.name for one in measures] == ["accuracy", "macro F1"]


def test_scores_that_are_all_equal_are_measured_by_their_error():
    (measures,) = measures_of("pairs", [records([2.0, 2.0], [1.0, 3.0])])
    assert [(one.name, one.score().value) for one in measures] == [("mean squared error", 1.0)]
    (measures,) = measures_of("pairs", [records([1.0, 2.0], [2.0, 2.0])])
    assert [one.score().value for one in measures] == [0.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("part", "line"),
    [
        ("a  b\nc", "a b c"),
        (["a", "b"], "a b"),
        ([], "–"),
        ([3, 1], "3 1"),
        ({"loss": 2.123456, "tokens": 3}, "loss 2.123, tokens 3"),
        ("abcd efgh ij", "abcd efgh…"),
    ],
)
def test_part_of_a_record_is_one_line(part, line):
    assert as_line(part, 10 if isinstance(part, str) else None) == line


TWO = {"tasks": {
    "films": {"task": "classification", "options": {"labels": ["a", "b"]}},
    "names": {"task": "tagging", "options": {}},
}}  # fmt: skip


def record(task, reference, prediction):
    return {"task": task, "input": "x", "reference": reference, "prediction": prediction}


def test_several_tasks_are_measured_each_by_its_own_records():
    films = [record("films", "a", "a"), record("films", "b", "a")]
    names = [record("names", ["B-x"], ["B-x"])]
    (mixed,) = measures_of("joint", [[films[0], *names, films[1]]], TWO)
    (alone,) = measures_of("classification", [films], TWO["tasks"]["films"]["options"])
    found = {one.name: (one.score().value, len(one)) for one in mixed}
    for one in alone:
        assert found[f"films/{one.name}"] == (one.score().value, 2)
    assert found["names/span F1"] == (1.0, 1)
    # A task without records has no metrics.
    (some,) = measures_of("joint", [films], TWO)
    assert {one.name.partition("/")[0] for one in some} == {"films"}


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([], TWO, "a joint task needs records, and the option 'tasks'"),
        ([record("films", "a", "a")], {}, "a joint task needs records, and the option 'tasks'"),
        (
            [record("film", "a", "a")],
            TWO,
            "record 1 is of task 'film'; did you mean 'films'? known: films, names",
        ),
        ([{"task": "films", "input": "x"}], TWO, "record 1 has no 'reference'"),
    ],
)
def test_records_of_no_known_task_are_refused(records, options, message):
    with pytest.raises(DataError, match=re.escape(message)):
        measures_of("joint", [records], options)
