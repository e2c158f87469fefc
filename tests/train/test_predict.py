"""Answering the rows of any file: in order, each with its line, wrong ones named or skipped."""

import json
import re

import pytest

from regard.errors import DataError, TaskError
from regard.train import predict_run, translate_run

LONG = "one " * 40


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_every_row_is_answered_in_order_with_its_line(finished, tmp_path):
    texts = ["one two", "green sun", "blue"] * 9
    path = write(tmp_path / "rows.jsonl", "".join(f'{{"source": "{one}"}}\n' for one in texts))
    found = list(predict_run(finished.folder, path, rows=4))
    assert [one.line for one in found] == list(range(1, 28))
    assert [one.answer for one in found] == translate_run(finished.folder, texts)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.tsv", "one two\n", 1),
        ("a.tsv", "one two\tun deux\n", 1),
        ("a.csv", "id,source\n7,one two\n", 2),
        ("a.txt", "one two\n", 1),
    ],
)
def test_rows_of_any_file_are_answered_without_a_target(finished, tmp_path, name, text, line):
    (found,) = predict_run(finished.folder, write(tmp_path / name, text))
    assert found.line == line and [found.answer] == translate_run(finished.folder, ["one two"])


WRONG = [
    ("{", "this is not JSON"),
    ('{"text": "one"}', "there is no key 'source'"),
    ('{"source": 3}', "'source' "),
    ('{"source": " "}', "source is empty"),
    (json.dumps({"source": LONG}), "tokens, but the model reads at most 32"),
]


@pytest.mark.parametrize(("row", "problem"), WRONG)
def test_wrong_row_is_fatal_with_its_line(finished, tmp_path, row, problem):
    path = write(tmp_path / "rows.jsonl", f'{{"source": "one"}}\n{row}\n')
    with pytest.raises(DataError, match=f"rows.jsonl, line 2: .*{re.escape(problem)}"):
        list(predict_run(finished.folder, path))


def test_wrong_rows_are_skipped_if_that_was_chosen(finished, tmp_path):
    rows = ['{"source": "one"}', *(row for row, _ in WRONG), '{"source": "two"}']
    path = write(tmp_path / "rows.jsonl", "".join(row + "\n" for row in rows))
    skipped = []
    found = list(predict_run(finished.folder, path, skipped.append))
    assert [one.line for one in found] == [1, 7]
    assert sorted(one.line for one in skipped) == [2, 3, 4, 5, 6]


def test_no_more_is_read_than_is_answered(finished, tmp_path):
    path = write(tmp_path / "rows.jsonl", '{"source": "one"}\n' * 4 + "{\n")
    found = predict_run(finished.folder, path, rows=2)
    assert [next(found).line for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(DataError, match="line 5"):
        next(found)


def test_run_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TaskError, match=r"none: there is no run here; it would hold a task\.yaml$"):
        list(predict_run(tmp_path / "none", tmp_path / "rows.jsonl"))
