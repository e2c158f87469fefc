"""Commands on runs that join tasks: what is asked of one of them, and how errors look."""

import json

import pytest
from typer.testing import CliRunner

from regard.cli.main import app
from tests.learners.joined import write_joint


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    task = write_joint(folder, training={"steps": 2, "eval_every": 0, "warmup": 0})
    done = call("train", task, "--run", folder / "run")
    assert done.exit_code == 0, done.output
    return folder / "run", done.stdout


def test_scores_stand_under_the_name_of_their_task(trained):
    lines = trained[1].splitlines()
    assert lines[0].split() == ["labels", "accuracy", "macro", "F1"]
    assert lines[3].startswith("tags ") and "span macro F1" in lines[3]
    assert [line.split()[:2] for line in (lines[1], lines[4])] == [["this", "model"]] * 2


def test_data_of_all_tasks_are_checked(trained):
    done = call("data", trained[0].parent / "joint.yaml", "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["tasks"]["tags"]["test"] == 9
    assert "labels/red" in found["labels"] and "tags/B-colour" in found["labels"]


def test_one_task_is_asked_and_scored(trained, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"tokens": ["a", "red", "sea"]}\n')
    done = call("predict", trained[0], rows, "--task", "tags")
    assert done.exit_code == 0 and len(json.loads(done.stdout)["prediction"]) == 3
    done = call("evaluate", trained[0], "--task", "labels")
    assert done.exit_code == 0 and done.stdout.startswith("9 held-out rows ")
    done = call("evaluate", trained[0])
    assert done.exit_code == 0 and done.stdout.startswith("labels ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "RUN", "FILE"], "this run joins several tasks; say which with --task: labels"),
        (
            ["predict", "RUN", "FILE", "--task", "tag"],
            "--task tag: there is no such task; did you mean 'tags'? known: labels, tags",
        ),
        (["evaluate", "RUN", "--data", "FILE"], "this run joins several tasks; say which with"),
        (["compare", "RUN", "RUN/../run", "--task", "x"], "RUN/../run: this run is given twice"),
        (["translate", "RUN", "text"], "RUN: this run is of the kind joint; use evaluate"),
    ],
)
def test_wrong_task_is_an_error_without_a_traceback(trained, tmp_path, words, message):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "a red sea"}\n')
    given = [word.replace("RUN", str(trained[0])).replace("FILE", str(rows)) for word in words]
    done = call(*given)
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert f"error: {message.replace('RUN', str(trained[0]))}" in done.stderr
