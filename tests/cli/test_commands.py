"""The commands that train, score and translate: what they print, and how errors look."""

import json
import re
import signal

import pytest
from typer.testing import CliRunner

from regard.cli.main import app
from regard.train.record import LogFile
from tests.train.tiny import write_task


def call(*words, typed=None):
    return CliRunner().invoke(app, [str(word) for word in words], input=typed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    done = call("train", write_task(folder), "--run", folder / "run")
    assert done.exit_code == 0, done.output
    return folder / "run", done.stdout


def test_training_ends_with_scores_beside_those_of_copying(trained):
    run, output = trained
    assert re.search(r"10 held-out rows +BLEU +chrF\n +this model +[\d.e-]+ +[\d.]+\n", output)
    assert re.search(r"copying the source +[\d.]+ +[\d.]+\n", output)
    assert f"s, kept in {run}" in output


def test_run_can_be_scored_again_with_samples(trained):
    done = call("evaluate", trained[0])
    assert done.exit_code == 0
    assert done.output.splitlines()[:3] == trained[1].splitlines()[:3]
    assert done.output.count("reference") == 5


def test_other_pairs_can_be_scored(trained, tmp_path):
    (tmp_path / "more.tsv").write_text("one\tun\ntwo\tdeux\n")
    done = call("evaluate", trained[0], "--data", tmp_path / "more.tsv")
    assert done.exit_code == 0 and done.output.startswith("2 held-out rows")


def test_texts_are_translated_one_line_each(trained):
    one = call("translate", trained[0], "one two", "green sun")
    assert one.exit_code == 0 and len(one.output.splitlines()) == 2
    other = call("translate", trained[0], typed="one two\ngreen sun\n")
    assert other.output == one.output


def test_rows_of_a_file_are_answered(trained, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"source": "one two"}\n{}\n{"source": "sun"}\n')
    done = call("predict", trained[0], rows, "--skip", "--out", tmp_path / "out.jsonl")
    assert done.exit_code == 0 and done.stdout == ""
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["line"] for one in found] == [1, 3]
    assert f"{rows}, line 2: " in done.stderr and "2 rows answered, 1 skipped" in done.stderr
    fatal = call("predict", trained[0], rows)
    assert fatal.exit_code == 2 and f"error: {rows}, line 2: " in fatal.stderr


def test_interrupted_training_says_how_to_go_on(tmp_path, monkeypatch):
    task = write_task(tmp_path)

    def on_step_begin(*_, **__):
        monkeypatch.undo()
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)
    done = call("train", task, "--run", tmp_path / "my run")
    assert done.exit_code == 130
    assert done.stdout == (
        f"stopped at step 1 of 12; continue with: regard train {task} --run '{tmp_path}/my run' "
        "--resume\n"
    )
    assert call("train", task, "--run", tmp_path / "my run", "--resume").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "none.yaml"], "error: none.yaml: there is no such file\n"),
        (["evaluate", "none"], "error: none: there is no run here; it would hold a task.yaml\n"),
        (
            ["translate", "none", "text"],
            "error: none: there is no run here; it would hold a task.yaml\n",
        ),
    ],
)
def test_error_is_its_message_and_the_exit_code_two(words, message):
    done = call(*words)
    assert (done.exit_code, done.stderr) == (2, message)


def test_run_is_named_after_the_task_if_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    (tmp_path / "runs" / "toy" / "mine.txt").touch()
    done = call("train", write_task(tmp_path))
    assert done.stderr.startswith("error: runs/toy: the folder is not empty, it holds mine.txt; ")


def test_help_names_the_commands():
    words = call("--help").output
    assert all(name in words for name in ("train", "evaluate", "translate"))
