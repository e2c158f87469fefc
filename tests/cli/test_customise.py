"""`regard customise`: what it prints, how it goes on, and how misuse looks."""

import re
import signal

import pytest
from typer.testing import CliRunner

from regard.cli.main import app
from regard.train.record import LogFile
from tests.train.tiny import write_task


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_it_tells_what_was_found_and_goes_on_after_an_interrupt(tmp_path, monkeypatch):
    path = write_task(tmp_path, training={"steps": 4, "save_every": 50})
    study = tmp_path / "my study"
    begun = []

    def on_step_begin(*_, **__):
        begun.append(1)
        if len(begun) == 3:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)
    done = call("customise", path, "--trials", 2, "--study", study, "--seed", 3)
    assert done.exit_code == 130, done.output
    again = re.search(r"stopped; go on with: regard customise (.*) --resume$", done.stdout, re.M)
    said = f"{path} --study '{study}' --trials 2 --objective quality --method halving --seed 3"
    assert again and again[1] == said
    done = call("customise", path, "--trials", 2, "--study", study, "--seed", 3, "--resume")
    assert done.exit_code == 0, done.output
    assert re.search(r"∞ left  rung \d/3  \w+: BLEU [\d.e-]+; best so far", done.stderr)
    assert re.search(r"^\w+: BLEU [\d.e-]+ on validation rows.*2 candidates in \d", done.stdout)
    assert f"task: {study}/best.yaml\nreport: {study}/report.html\n" in done.stdout
    told = f"regard verdict {path} '{study}/mode.json'" in done.stdout
    assert told == (study / "mode.json").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.yaml"], "error: none.yaml: there is no such file\n"),
        (["none.yaml", "--budget", "soon"], "error: 'soon' is no duration; write 90s, 30m, 2h"),
        (["none.yaml", "--method", "grid"], "error: there is no method 'grid'; "),
        (["none.yaml", "--objective", "speed"], "error: there is no objective 'speed'; "),
        (["TASK", "--proposals", "none.json"], "error: none.json: "),
        (["TASK", "--resume"], "there is no study to go on with; leave out --resume"),
    ],
)
def test_misuse_is_a_message_and_the_exit_code_two(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    words = [str(write_task(tmp_path)) if word == "TASK" else word for word in words]
    done = call("customise", *words)
    assert done.exit_code == 2 and message in done.stderr
    # Nothing is left that would be in the way of the next try.
    assert not (tmp_path / "customised").exists()
