"""`regard compare`: its table, its JSON, its exit codes."""

import json

import pytest
from typer.testing import CliRunner

from regard.cli.main import app
from tests.train.test_compare import RIGHT, make_run


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, found in (("best", RIGHT), ("worse", [*"ba" * 10, *RIGHT[20:]]), ("twin", RIGHT)):
        make_run(tmp_path / name, found)


def call(*words):
    return CliRunner().invoke(app, ["compare", *words, "--resamples", "500"])


def test_table_has_scores_differences_and_verdicts(folders):
    done = call("best", "worse", "twin")
    assert done.exit_code == 0, done.output
    heading, columns, *rows = done.stdout.splitlines()
    assert heading.startswith("classification, 40 test examples (sha256 ")
    assert columns.split() == [
        "metric", "value", "interval", "difference", "interval", "p", "verdict",
    ]  # fmt: skip
    assert rows[0].split() == ["best", "accuracy", "1", "1", "to", "1"]
    assert rows[2].startswith("worse  accuracy  0.5  ") and rows[2].endswith("  worse")
    assert "  -0.5  " in rows[2]
    assert rows[4].startswith("twin") and rows[4].split()[-4:] == ["1", "no", "difference", "shown"]
    assert "Differences are from best; intervals hold 95%" in done.stdout
    assert "corrected for all 4 (Holm)" in done.stdout


def test_json_holds_all_of_it(folders):
    found = json.loads(call("worse", "best", "--json").stdout)
    assert [one["answer"] for one in found["verdicts"]["best"]] == ["better", "better"]
    assert found["scores"]["worse"][0]["counts"] == {"examples": 40, "right": 20}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["worse", "best", "--expect", "better"], 0),
        (["best", "worse", "--expect", "better"], 1),
        (["best", "twin", "--expect", "better"], 1),
        (["best", "twin", "--expect", "not-worse"], 0),
        (["best", "worse", "--expect", "not-worse"], 1),
        (["best", "worse"], 0),
        (["best"], 2),
        (["best", "nowhere"], 2),
        ([], 2),
    ],
)
def test_exit_code_says_how_it_ended(folders, words, code):
    assert call(*words).exit_code == code


def test_errors_are_one_line_without_a_traceback(folders):
    done = call("best", "nowhere")
    assert done.stderr == "error: nowhere: there is no run here; it would hold a task.yaml\n"
    done = call("best", "twin", "--expect", "beter")
    assert done.stderr.startswith("error: --expect is 'beter'; did you mean 'better'?")
    assert (
        "error: level is 3; it lies between 0 and 1" in call("best", "twin", "--level", "3").stderr
    )
