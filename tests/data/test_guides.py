"""What rows say of attention: how it is written, and what is said of what does not fit."""

import json

import pytest
import yaml

from regard.data import load_corpus
from regard.data.guides import read_alignment, read_rationale, read_word_weights
from regard.errors import DataError
from regard.tasks import load_task, plan_task_data


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("2 5", {(0, 2): 1.0, (0, 5): 1.0}),
        ([2, 5], {(0, 2): 1.0, (0, 5): 1.0}),
        ("2:0.5 5:2", {(0, 2): 0.5, (0, 5): 2.0}),
        ("", None), (None, None), ([], None), ("3:0", None),
    ],
)  # fmt: skip
def test_rationales_are_places_of_words(cell, wanted):
    assert read_rationale(cell) == wanted


def test_word_weights_are_a_number_for_each_word():
    assert read_word_weights("0 1 0.5") == read_word_weights([0, 1, 0.5])
    assert read_word_weights([0, 1, 0.5]) == {(0, 0): 0.0, (0, 1): 1.0, (0, 2): 0.5}
    assert read_word_weights("0 0") is None


def test_alignments_are_kept_by_target_and_source():
    assert read_alignment("0-1 2-0") == {(1, 0): 1.0, (0, 2): 1.0}
    assert read_alignment(["0-1"]) == {(1, 0): 1.0}
    assert read_alignment("") is None


@pytest.mark.parametrize(
    ("read", "cell", "said"),
    [
        (read_rationale, "2 x", r"^item 2 should be a word's place from 0, as 2 or 2:0\.5, found"),
        (read_rationale, "-1", "^item 1 should be a word's place from 0"),
        (read_rationale, [0.5], "^item 1 should be a word's place from 0"),
        (read_rationale, [True], "^item 1 should be text or a number, found bool"),
        (read_rationale, 5, "^should be text or a list, found int"),
        (read_word_weights, "1 -1", "^item 2 should be a number from 0, found '-1'"),
        (read_word_weights, "nan", "^item 1 should be a number from 0, found 'nan'"),
        (read_alignment, "0:1", "^item 1 should link a word of the source to one of the target"),
    ],
)  # fmt: skip
def test_cells_that_say_nothing_are_refused(read, cell, said):
    with pytest.raises(DataError, match=said):
        read(cell)


def corpus_of(folder, kind, rows, to=None, **data):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")
    split = {} if kind == "translation" else {"split": {"test": 1, "valid": 0}}
    if kind == "translation":
        data = {"test_pairs": 1, "valid_pairs": 0, **data}
    term = {"term": "agreement", **({"to": to} if to else {})}
    task = {
        "task": kind, "data": {"path": "rows.jsonl", **split, **data},
        "attention": {"regularise": [term]},
    }  # fmt: skip
    (folder / "task.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return load_corpus(plan_task_data(load_task(folder / "task.yaml")))


def row(text, label, **more):
    return {"text": text, "label": label, **more}


def test_rows_without_a_guide_are_kept(tmp_path):
    rows = [
        row("a b", "x", rationale=[1]),
        row("c d", "y", rationale=None),
        row("e", "x"),
        row("f", "y"),
    ]
    for one in rows[2:]:
        one["rationale"] = ""
    found = corpus_of(tmp_path, "classification", rows)
    assert not found.report.errors
    given = [one.values["rationale"] for one in (*found.splits.train, *found.splits.test)]
    assert sorted(map(str, given)) == ["None", "None", "None", "{(0, 1): 1.0}"]


@pytest.mark.parametrize(
    ("kind", "to", "wrong", "said"),
    [
        ("classification", None, row("a b", "x", rationale="2"),
         "rationale names word 2; there are 2, counted from 0"),
        ("classification", "word_weights", row("a b", "x", word_weights=[1]),
         "word_weights has 1 numbers for 2 words; give each word one"),
        ("tagging", None, {"tokens": ["a"], "tags": ["O"], "rationale": [3]},
         "rationale names word 3; there are 1, counted from 0"),
        ("translation", None, {"source": "a b", "target": "c", "alignment": "0-0 1-1"},
         "alignment names word 1 of the target; there are 1, counted from 0"),
        ("translation", None, {"source": "a", "target": "c d", "alignment": "2-0"},
         "alignment names word 2 of the source; there are 1, counted from 0"),
    ],
)  # fmt: skip
def test_guides_that_do_not_fit_their_words_are_found_before_training(
    tmp_path, kind, to, wrong, said
):
    right = {key: value for key, value in wrong.items() if key not in ("rationale",)}
    right |= {key: "" for key in ("rationale", "word_weights", "alignment") if key in wrong}
    if "source" in right:
        others = [{**right, "source": f"w{k}"} for k in range(3)]
    elif "text" in right:
        others = [{**right, "text": f"w{k}", "label": "xy"[k % 2]} for k in range(4)]
    else:
        others = [{**right, "tokens": [f"w{k}"], "tags": ["OX"[k % 2]]} for k in range(4)]
    report = corpus_of(tmp_path, kind, [*others, wrong], to).report
    assert [str(one) for one in report.errors] == [str(report.errors[0])]
    assert said in str(report.errors[0]) and f"line {len(others) + 1}" in str(report.errors[0])


def test_column_of_a_guide_that_is_missing_is_named(tmp_path):
    report = corpus_of(tmp_path, "classification", [row("a", "x", ration=[0])] * 3).report
    assert "there is no key 'rationale'; did you mean 'ration'?" in str(report.errors[0])
    (tmp_path / "rows.csv").write_text("text,label,why\na,x,0\nb,y,0\n")
    with pytest.raises(
        DataError,
        match=r"rows\.csv, line 1: there is no column 'rationale' for rationale; known: label, "
        r"text, why; name it in data\.columns\.rationale$",
    ):
        corpus_of(tmp_path, "classification", [], path=str(tmp_path / "rows.csv"))


def test_column_of_a_guide_may_have_another_name(tmp_path):
    rows = [row(f"a{k} b", "xy"[k % 2], why="1") for k in range(4)]
    found = corpus_of(tmp_path, "classification", rows, columns={"rationale": "why"})
    assert all(one.values["rationale"] == {(0, 1): 1.0} for one in found.splits.train)


def test_third_column_of_a_table_without_names_is_the_alignment(tmp_path):
    (tmp_path / "pairs.tsv").write_text("a b\tc d\t0-1\ne\tf\t\ng\th\t0-0\n")
    found = corpus_of(tmp_path, "translation", [], path=str(tmp_path / "pairs.tsv"))
    given = [one.values["alignment"] for one in (*found.splits.train, *found.splits.test)]
    assert sorted(map(str, given)) == ["None", "{(0, 0): 1.0}", "{(1, 0): 1.0}"]
