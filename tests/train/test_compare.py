"""Runs side by side: verdicts, and the runs that cannot be compared."""

import json
import re

import pytest

from regard.errors import DataError, FileError, TaskError
from regard.train.compare import compare_runs
from regard.train.examples import read_records, write_records
from regard.train.folder import RunFolder

RIGHT = ["a", "b"] * 20


def make_run(path, predictions, references=RIGHT, task="classification", options=None):
    """Write what a finished run leaves of its test."""
    folder = RunFolder(path)
    path.mkdir(parents=True)
    folder.task.write_text("task: any\n")
    pairs = zip(references, predictions, strict=True)
    found = [
        {"input": f"text {n}", "reference": a, "prediction": b} for n, (a, b) in enumerate(pairs)
    ]
    folder.write_metrics({"measured": write_records(folder, task, found, options)})
    return path


@pytest.fixture
def runs(tmp_path):
    worse, alike = [*"ba" * 10, *RIGHT[20:]], ["b", *RIGHT[1:]]
    return [
        make_run(tmp_path / name, found)
        for name, found in (("best", RIGHT), ("worse", worse), ("alike", alike))
    ]


def test_each_run_gets_a_verdict_against_the_first(runs):
    found = compare_runs(runs, resamples=500, permutations=1000)
    names = [str(run) for run in runs]
    assert list(found.scores) == names and list(found.verdicts) == names[1:]
    answers = {name: [one.answer for one in each] for name, each in found.verdicts.items()}
    assert answers == {names[1]: ["worse"] * 2, names[2]: ["no difference shown"] * 2}
    accuracy = found.scores[names[1]][0]
    assert (accuracy.name, accuracy.value) == ("accuracy", 0.5)
    assert accuracy.interval.low < 0.5 < accuracy.interval.high
    assert (found.task, found.examples) == ("classification", 40)
    # Four comparisons were made: the smallest p counts four times.
    smallest = min(one.p for each in found.verdicts.values() for one in each)
    corrected = min(one.corrected_p for each in found.verdicts.values() for one in each)
    assert corrected == pytest.approx(4 * smallest)
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_trained_run_keeps_what_it_answered(finished):
    measured, records = read_records(finished.folder)
    assert (measured.task, len(records)) == ("translation", 10)
    bleu, chrf = finished.metrics["scores"]
    assert {one["name"]: one["value"] for one in (bleu, chrf)} == (
        finished.metrics["test"]["scores"]
    )
    assert bleu["interval"]["low"] <= bleu["value"] <= bleu["interval"]["high"]


def fails(error, runs, message):
    with pytest.raises(error, match=message):
        compare_runs(runs)


def test_one_run_or_one_twice_is_refused(runs):
    fails(TaskError, runs[:1], "^one run has nothing to be compared with; give two or more$")
    fails(
        TaskError, [runs[0], runs[0] / "." / ".." / "best"], "this run is given twice; compare it"
    )


def test_runs_of_other_tasks_options_or_test_splits_are_refused(runs, tmp_path):
    other = make_run(tmp_path / "task", RIGHT, task="translation")
    fails(
        TaskError, [runs[0], other], r"task: the task is translation, that of .*best is classific"
    )
    other = make_run(tmp_path / "options", RIGHT, options={"labels": ["a", "b"]})
    fails(
        TaskError, [runs[0], other], r"are counted with \{'labels': \['a', 'b'\]\}, those of .*best"
    )
    other = make_run(tmp_path / "split", RIGHT, references=["a", "a", *RIGHT[2:]])
    message = (
        r"split: its 40 test examples \(sha256 \w{12}…\) are not the 40 of .*best \(\w{12}…\); "
        r"they differ first in line 2 of records\.jsonl, in 'reference'$"
    )
    fails(TaskError, [runs[0], other], message)
    other = make_run(tmp_path / "short", RIGHT[:30], references=RIGHT[:30])
    fails(TaskError, [runs[0], other], "its 30 test examples .* one is the beginning of the other$")


def remove_records(run):
    RunFolder(run).records.unlink()


def cut_records(run):
    lines = RunFolder(run).records.read_text().splitlines(keepends=True)
    RunFolder(run).records.write_text("".join(lines[:-1]))


def empty_records(run):
    RunFolder(run).records.write_text("")


def break_a_record(run):
    RunFolder(run).records.write_text('{"input": 1, "reference": 2, "prediction": 3}\n{"inp\n')


def drop_a_key(run):
    RunFolder(run).records.write_text('{"input": 1, "reference": 2, "predicted": 3}\n')


def write_bytes(run):
    RunFolder(run).records.write_bytes(b'{"input": "\xff"}\n')


def remove_metrics(run):
    RunFolder(run).metrics.unlink()


def remove_task(run):
    RunFolder(run).task.unlink()


def write_old_metrics(run):
    RunFolder(run).metrics.write_text('{"test": {}}')


def break_metrics(run):
    RunFolder(run).metrics.write_text('{"test": ')


def break_measured(run):
    RunFolder(run).metrics.write_text('{"measured": {"kind": "x"}}')


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (remove_task, TaskError, "worse: there is no run here; it would hold a task.yaml"),
        (remove_metrics, TaskError, "worse: this run is not finished; continue it with --resume"),
        (
            remove_records,
            TaskError,
            "there is no records.jsonl, so its answers are lost; train anew",
        ),
        (
            write_old_metrics,
            TaskError,
            "this run is of a version that kept no answers; train it anew",
        ),
        (break_metrics, FileError, "metrics.json: this is not JSON"),
        (
            break_measured,
            FileError,
            "metrics.json: 'measured' should hold task, test_sha256 and opt",
        ),
        (cut_records, FileError, "records.jsonl: these 39 examples are not those that were scored"),
        (empty_records, FileError, "records.jsonl, line 1: this is not JSON"),
        (break_a_record, FileError, "records.jsonl, line 2: this is not JSON"),
        (drop_a_key, FileError, "line 1: record 1 has no 'prediction'; did you mean 'predicted'?"),
        (write_bytes, FileError, "records.jsonl: byte 12 is not UTF-8"),
    ],
)
def test_damaged_run_is_refused(runs, damage, error, message):
    damage(runs[1])
    fails(error, runs[:2], re.escape(message))


def test_answer_of_the_wrong_kind_names_the_runs(tmp_path):
    one, other = (make_run(tmp_path / name, [None] * 40) for name in ("one", "other"))
    fails(DataError, [one, other], r"one and .*other: a label is missing")
