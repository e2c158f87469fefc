"""`regard data`, `regard schema` and settings on the command line; and the ways to be wrong.

Each wrong task file or data file is answered with a message that names the file, line or key and
the mend, with exit code 2 and without a traceback.
"""

import gzip
import json

import pytest
from typer.testing import CliRunner

from regard.cli.main import app
from regard.tasks import load_task
from tests.train.tiny import write_task

LABELLED = "text,label\n" + "".join(f"good film {n},yes\nbad film {n},no\n" for n in range(10))
TASK = "task: classification\ndata: {path: a.csv}\n"
TAGS = "task: tagging\ndata: {path: a.jsonl}\n"
ASKED = "task: question_answering\ndata: {path: a.jsonl}\n"
SPLIT = "task: classification\ndata: {train: a.csv, test: b.csv}\n"


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def write_all(folder, files):
    for name, text in files.items():
        data = text if isinstance(text, bytes) else text.encode()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)


def lines_of(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


def tagged(*records):
    whole = [{"tokens": ["Ann", "Lee", n], "tags": ["B-NAME", "I-NAME", "O"]} for n in "abcdefgh"]
    return lines_of(*whole, *records)


def asked(*records):
    whole = [{"question": f"Who {n}?", "context": f"It was {n}.", "answers": n} for n in "abcdefgh"]
    return lines_of(*whole, *records)


# What is wrong: the files, settings on the command line, and what the answer says.
WRONG = {
    # The task file.
    "no file": ({}, [], "t.yaml: there is no such file"),
    "not yaml": ({"t.yaml": "task: [1,\n"}, [], "t.yaml, line 2: this is not YAML ("),
    "tabs": ({"t.yaml": "task: tagging\ndata:\n\tpath: a\n"}, [], "t.yaml, line 3: this is not"),
    "no text": ({"t.yaml": b"\xff\xfe\x00"}, [], "t.yaml: cannot be read ("),
    "no keys": ({"t.yaml": "- 1\n"}, [], "t.yaml: a task file starts with `task:` and its kind"),
    "no kind": ({"t.yaml": "data: {path: a.csv}\n"}, [], "t.yaml: task is missing; known: class"),
    "unknown kind": (
        {"t.yaml": "data: {}\ntask: classificatoin\n"},
        [],
        "t.yaml, line 2: task: there is no kind 'classificatoin'; did you mean 'classification'?",
    ),
    "unknown key": (
        {"t.yaml": TASK + "training:\n  stesp: 5\n"},
        [],
        "t.yaml, line 4: training.stesp is not a setting; did you mean 'steps'?",
    ),
    "unknown part": (
        {"t.yaml": TASK + "trainign: {}\n"},
        [],
        "t.yaml, line 3: trainign is not a setting; did you mean 'training'?",
    ),
    "key given twice": (
        {"t.yaml": TASK + "training:\n  lr: 1\n  lr: 2\n"},
        [],
        "t.yaml, line 5: training.lr stands on line 4 already; delete one",
    ),
    "no data": ({"t.yaml": "task: tagging\n"}, [], "t.yaml: data is missing"),
    "data without files": (
        {"t.yaml": "task: tagging\ndata: {max_words: 3}\n"},
        [],
        "t.yaml, line 2: data: say where the rows are: data.path, or data.train",
    ),
    "two names of one thing": (
        {"t.yaml": "task: tagging\ndata: {path: a, train: b}\n"},
        [],
        "line 2: data: path and train are two names of one thing; set the other to null",
    ),
    "wrong type": (
        {"t.yaml": TASK + "training: {steps: many}\n"},
        [],
        "t.yaml, line 3: training.steps: should be a whole number, found 'many'",
    ),
    "out of range": (
        {"t.yaml": TASK + "model: {dropout: 2}\n"},
        [],
        "t.yaml, line 3: model.dropout: should be less than 1, found 2",
    ),
    "a part that has none": (
        {"t.yaml": TASK + "training: 5\n"},
        [],
        "t.yaml, line 3: training: should have parts, found 5; known: accumulate, ",
    ),
    "not one of the choices": (
        {"t.yaml": "task: tagging\ndata: {path: a, duplicates: some}\n"},
        [],
        "t.yaml, line 2: data.duplicates: should be 'refuse', 'first' or 'keep', found 'some'",
    ),
    "field of another kind": (
        {"t.yaml": "task: tagging\ndata: {path: a, columns: {token: 1}}\n"},
        [],
        "data: columns.token: there is no such field; did you mean 'tokens'?",
    ),
    "column that cannot be": (
        {"t.yaml": "task: tagging\ndata: {path: a, columns: {tokens: 0}}\n"},
        [],
        "data.columns.tokens: should be a column's name, or its number from 1, found 0",
    ),
    "path that cannot be": (
        {"t.yaml": "task: tagging\ndata: {path: [1]}\n"},
        [],
        "t.yaml, line 2: data.path: should be a path or a list of paths, found [1]",
    ),
    "share that cannot be": (
        {"t.yaml": "task: tagging\ndata:\n  path: a\n  split: {test: 1.5}\n"},
        [],
        "line 4: data.split.test: should be a number of rows or a fraction below 1, found 1.5",
    ),
    "label listed twice": (
        {"t.yaml": "task: classification\ndata: {path: a, labels: [a, b, a]}\n"},
        [],
        "t.yaml, line 2: data: labels: 'a' is listed twice; delete one",
    ),
    "extends nothing": (
        {"t.yaml": "extends: base.yaml\n"},
        [],
        "t.yaml: extends: {}/base.yaml: there is no such file",
    ),
    "extends itself": (
        {"t.yaml": "extends: u.yaml\n", "u.yaml": "extends: t.yaml\n"},
        [],
        "u.yaml: extends goes in a circle: t.yaml extends u.yaml extends t.yaml; break it",
    ),
    "extends what is no path": (
        {"t.yaml": "task: tagging\nextends: 3\n"},
        [],
        "t.yaml, line 2: extends should be the path of a task file, found 3",
    ),
    "mistake in what is extended": (
        {"t.yaml": "extends: u.yaml\n", "u.yaml": TASK + "model: {widht: 3}\n"},
        [],
        "u.yaml, line 3: model.widht is not a setting; did you mean 'width'?",
    ),
    "override without a value": (
        {"t.yaml": TASK},
        ["training.steps"],
        "command line: 'training.steps' should be KEY=VALUE, such as training.steps=100",
    ),
    "override of an unknown key": (
        {"t.yaml": TASK},
        ["training.step=3"],
        "command line: training.step is not a setting; did you mean 'steps'?",
    ),
    "override of the wrong type": (
        {"t.yaml": TASK},
        ["training.steps=1.5"],
        "command line: training.steps: should be a whole number, found 1.5",
    ),
    "override of what has no parts": (
        {"t.yaml": TASK + "mode: m.json\n"},
        ["mode.encoder=alibi"],
        "command line: mode is '{}/m.json'; it has no parts to set",
    ),
    "override that is not yaml": (
        {"t.yaml": TASK},
        ["training.steps=[1"],
        "command line: training.steps: this is not YAML (",
    ),
    # Files that cannot be read.
    "no data file": (
        {"t.yaml": TASK, "b.csv": ""},
        [],
        "a.csv: there is no such file; did you mean 'b.csv'?",
    ),
    "empty file": (
        {"t.yaml": TASK, "a.csv": ""},
        [],
        "a.csv: the file is empty; it needs at least",
    ),
    "kind of file": (
        {"t.yaml": TASK, "a.xlsx": ""},
        ["data.path={}/a.xlsx"],
        "a.xlsx: the name should end in .csv, .tsv, .jsonl or .txt",
    ),
    "broken gzip": (
        {"t.yaml": TASK, "a.csv.gz": gzip.compress(LABELLED.encode())[:40]},
        ["data.path={}/a.csv.gz"],
        "a.csv.gz: this is no complete gzip file (",
    ),
    "broken parquet": (
        {"t.yaml": TASK, "a.parquet": b"PAR1 and no more"},
        ["data.path={}/a.parquet"],
        "a.parquet: this is no .parquet file (",
    ),
    "folder that is no dataset": (
        {"t.yaml": TASK, "d/x": ""},
        ["data.path={}/d"],
        "d: this folder is no saved dataset; Dataset.save_to_disk writes one",
    ),
    "damaged dataset": (
        {"t.yaml": TASK, "d/state.json": "{", "d/dataset_info.json": "{}"},
        ["data.path={}/d"],
        "d: this saved dataset is damaged (",
    ),
    "unknown encoding": (
        {"t.yaml": TASK, "a.csv": LABELLED},
        ["data.encoding=latin1000"],
        "a.csv: data.encoding 'latin1000' is not known; utf-8, latin-1 and cp1252 are",
    ),
    "utf-16": (
        {"t.yaml": TASK, "a.csv": LABELLED.encode("utf-16")},
        [],
        "a.csv: this is UTF-16, not UTF-8; save the file as UTF-8",
    ),
    "one file in two splits": (
        {"t.yaml": SPLIT, "a.csv": LABELLED},
        ["data.test={}/a.csv"],
        "a.csv: the file is named for train and for test",
    ),
    # Rows that cannot be read.
    "wrong column": (
        {"t.yaml": TASK, "a.csv": LABELLED.replace("text", "texts")},
        [],
        "a.csv, line 1: there is no column 'text' for text; did you mean 'texts'?",
    ),
    "two columns of one name": (
        {"t.yaml": TASK, "a.csv": "text,text,label\n"},
        [],
        "a.csv, line 1: two columns are named 'text'; rename one, or give columns by number",
    ),
    "wrong byte": (
        {"t.yaml": TASK, "a.csv": LABELLED.encode() + b"abc\xe9,yes\n"},
        [],
        "a.csv, line 22: byte 4 is not UTF-8; save the file as UTF-8, or name its encoding in",
    ),
    "ragged row": (
        {"t.yaml": TASK, "a.csv": LABELLED + "bad, very bad,no\n"},
        [],
        "a.csv, line 22: found 3 columns, but the header has 2; is there a separator too many",
    ),
    "row too short": (
        {"t.yaml": TASK, "a.csv": LABELLED + "bad\n"},
        [],
        "a.csv, line 22: found 1 column, but column 2 is asked for; separate columns as the other",
    ),
    "quote that never closes": (
        {"t.yaml": TASK, "a.csv": LABELLED + '"bad,no\nworse,no\n'},
        [],
        "a.csv, line 22: a quote opens here and never closes; close it",
    ),
    "not json": (
        {"t.yaml": TAGS, "a.jsonl": tagged() + "{tokens\n"},
        [],
        "a.jsonl, line 9: this is not JSON (",
    ),
    "json that is no object": (
        {"t.yaml": TAGS, "a.jsonl": tagged([1, 2])},
        [],
        "a.jsonl, line 9: expected an object, found list",
    ),
    "no such key": (
        {"t.yaml": TAGS, "a.jsonl": tagged({"token": ["a"], "tags": ["O"]})},
        [],
        "a.jsonl, line 9: there is no key 'tokens'; did you mean 'token'?",
    ),
    "value of the wrong type": (
        {"t.yaml": TAGS, "a.jsonl": tagged({"tokens": [[]], "tags": ["O"]})},
        [],
        "a.jsonl, line 9: 'tokens' item 1 should be text, found list",
    ),
    # Rows that make no sense.
    "empty field": (
        {"t.yaml": TASK, "a.csv": LABELLED + " ,yes\n"},
        [],
        "a.csv, line 22: text is empty; fill it in or delete the row",
    ),
    "tokens and tags": (
        {"t.yaml": TAGS, "a.jsonl": tagged({"tokens": ["Bo", "Ek"], "tags": ["O"]})},
        [],
        "a.jsonl, line 9: 2 tokens, but 1 tags (tags end after 'Bo'); give each token one tag",
    ),
    "broken span": (
        {"t.yaml": TAGS, "a.jsonl": tagged({"tokens": ["Bo", "Ek"], "tags": ["O", "I-NAME"]})},
        ["data.checks.bio=refuse"],
        "a.jsonl, line 9: token 2 'Ek' is I-NAME after O; a span begins with B-NAME",
    ),
    "answer that is not there": (
        {"t.yaml": ASKED, "a.jsonl": asked({"question": "q", "context": "It", "answers": "z"})},
        [],
        "a.jsonl, line 9: the answer 'z' is not in the context; copy it letter by letter",
    ),
    "answer that is elsewhere": (
        {
            "t.yaml": ASKED,
            "a.jsonl": asked({"question": "q", "context": "a zoo", "answers": "zoo", "start": 1}),
        },
        [],
        "the answer 'zoo' is said to start at character 1, where the context has ' zo'; it stands "
        "at 2, counted from 0",
    ),
    "duplicates refused": (
        {"t.yaml": TASK, "a.csv": LABELLED + "Good  film 1,yes\n"},
        ["data.duplicates=refuse"],
        "a.csv, line 22: the text and label 'Good  film 1' stand on line 4 already; delete one",
    ),
    "conflicting labels refused": (
        {"t.yaml": TASK, "a.csv": LABELLED + "good film 1,no\n"},
        ["data.checks.conflict=refuse"],
        "a.csv, line 22: 'good film 1' is labelled 'no' here and 'yes' on line 4; decide for one",
    ),
    "leak": (
        {"t.yaml": SPLIT, "a.csv": LABELLED, "b.csv": "text,label\nx y,no\nbad film 3,no\n"},
        [],
        "a.csv, line 9: 'bad film 3' is held out too, {}/b.csv, line 3; delete one, or set "
        "data.checks.leak to leave_out",
    ),
    "unknown label in test": (
        {"t.yaml": SPLIT, "a.csv": LABELLED, "b.csv": "text,label\nx y,yess\n"},
        [],
        "b.csv, line 2: the label 'yess' is not among those of the training rows; did you mean",
    ),
    "label that is not listed": (
        {"t.yaml": TASK, "a.csv": LABELLED + "so so,maybe\n"},
        ["data.labels=[yes, no]"],
        "a.csv, line 22: the label 'maybe' is not among data.labels; known: no, yes",
    ),
    "too few rows": (
        {"t.yaml": TASK, "a.csv": LABELLED},
        ["data.split.test=11"],
        "a.csv: 20 rows with 20 different inputs are too few to hold out 13 and train on as many; "
        "lower data.split.test or data.split.valid",
    ),
    "changed file": (
        {"t.yaml": TASK, "a.csv": LABELLED},
        ["data.sha256=abc"],
        "a.csv: the data have changed: their sha256 is ",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_place_and_its_mend(tmp_path, name):
    files, settings, message = WRONG[name]
    write_all(tmp_path, files)
    done = call("data", tmp_path / "t.yaml", *(x.replace("{}", str(tmp_path)) for x in settings))
    assert isinstance(done.exception, SystemExit), done.output
    assert done.exit_code == 2
    assert message.replace("{}", str(tmp_path)) in done.output
    assert "Traceback" not in done.output


def test_there_are_more_than_forty_ways_to_be_wrong():
    assert len(WRONG) > 40


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("one\tun\tuno\n", "a.tsv, line 2: found 3 columns, but the first line has 2; "),
        ("\tun\n", "a.tsv, line 2: source is empty; fill it in or delete the row"),
        ("X\tY\n", "a.tsv, line 2: the source 'X' stands on line 1 already; delete one, or"),
    ],
)
def test_training_refuses_what_the_check_refuses_and_leaves_nothing_behind(tmp_path, row, message):
    task = "task: translation\ndata: {path: a.tsv, test_pairs: 1, valid_pairs: 0}\n"
    write_all(tmp_path, {"t.yaml": task, "a.tsv": "x\ty\n" + row + "a\tb\nc\td\n"})
    done = call("train", tmp_path / "t.yaml", "--run", tmp_path / "run")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {tmp_path}/{message}")
    assert not (tmp_path / "run").exists()


def test_training_says_on_what_it_goes_on_and_keeps_the_report(tmp_path):
    write_task(tmp_path, data={"duplicates": "keep"}, training={"steps": 1})
    with open(tmp_path / "pairs.tsv", "a") as file:
        file.write("one two three\tun deux trois\n")
    words = ("train", tmp_path / "toy.yaml", "training.steps=2", "data.valid_pairs=0")
    done = call(*words, "--run", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert "2 steps in " in done.stdout
    assert "the data:\n" in done.stderr and "line 121: the source 'one two three'" in done.stderr
    kept = json.loads((tmp_path / "run" / "data.json").read_text())
    assert kept["read"] == 121 and len(kept["findings"]) == 1
    assert load_task(tmp_path / "run" / "task.yaml").training.steps == 2


def test_report_tells_what_was_kept_and_left_out_and_warns(tmp_path):
    rows = LABELLED + "good film 1,yes\n" + "a " * 9 + ",yes\nso so,maybe\n"
    write_all(tmp_path, {"t.yaml": TASK, "a.csv": rows})
    done = call("data", tmp_path / "t.yaml", "data.max_words=5")
    assert done.exit_code == 0
    where = f"{tmp_path}/a.csv"
    assert done.stdout == (
        f"{where}: 23 rows\n"
        "23 rows read: 18 train, 2 valid, 2 test\n"
        "1 left out: 1 max_words\n"
        "\n"
        "warning: 2\n"
        f"  {where}, line 22: the text and label 'good film 1' stand on line 4 already; delete "
        "one, or set data.duplicates to first\n"
        f"  {where}, line 24: the label 'maybe' has one training row; add others or drop it\n"
        "\n"
        "left out: 1\n"
        f"  {where}, line 23: text has 9 words, more than 5\n"
    )


def test_report_as_json_holds_every_finding(tmp_path):
    write_all(tmp_path, {"t.yaml": TASK, "a.csv": LABELLED + "good film 1,yes\n" * 9})
    found = json.loads(call("data", tmp_path / "t.yaml", "--json").stdout)
    assert found["labels"] == ["no", "yes"] and len(found["sha256"]) == 64
    assert found["read"] == 29 == found["train"] + found["valid"] + found["test"]
    assert found["files"] == {f"{tmp_path}/a.csv": 29}
    assert [one["line"] for one in found["findings"]] == list(range(22, 31))
    assert {one["check"] for one in found["findings"]} == {"duplicate"}


def test_nothing_to_remark_is_said(tmp_path):
    write_all(tmp_path, {"t.yaml": TASK, "a.csv": LABELLED})
    done = call("data", tmp_path / "t.yaml")
    assert done.exit_code == 0 and done.stdout.endswith(
        "16 train, 2 valid, 2 test\nnothing to remark\n"
    )


def test_schema_is_printed_and_another_is_not_known():
    assert json.loads(call("schema", "task").stdout)["title"] == "A task of regard"
    done = call("schema", "tsak")
    assert (done.exit_code, done.stderr) == (
        2,
        "error: there is no schema of 'tsak'; did you mean 'task'? known: grammar, guide, mode, "
        "task\n",
    )
