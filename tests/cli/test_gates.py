"""`regard gates`: what it prints, how it goes on, and how misuse looks."""

import re
import signal

import pytest
from typer.testing import CliRunner

from regard.cli.main import app
from regard.modes import load_mode
from regard.train.record import LogFile
from tests.train.tiny import write_task

SHORT = {"steps": 6, "save_every": 50, "eval_every": 0}


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_it_says_what_each_head_runs_and_goes_on_after_an_interrupt(tmp_path, monkeypatch):
    path, run = write_task(tmp_path, training=SHORT), tmp_path / "run"
    begun = []

    def on_step_begin(*_, **__):
        begun.append(1)
        if len(begun) == 3:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)
    asked = ("gates", path, "local", "alibi", "--run", run)
    done = call(*asked)
    assert done.exit_code == 130, done.output
    assert f"continue with: regard gates {path} local alibi --run {run} --cost 0.0 --resume" in (
        done.stdout
    )
    done = call(*asked, "--resume")
    assert done.exit_code == 0, done.output
    mode = load_mode(run / "model" / "mode.json")
    assert str(mode) in done.stdout and f"mode: {run}/model/mode.json" in done.stdout
    assert re.search(r"^validation rows at the end: BLEU [\d.e-]+, chrF", done.stdout, re.M)
    named = (run / "gates.json").read_text()
    assert all(f'"{name}"' in named for name in ("plain", "local", "alibi"))
    assert '"broad"' not in named


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.yaml"], "error: none.yaml: there is no such file\n"),
        (["TASK", "locl"], "error: there is no mode 'locl'; did you mean 'local'?"),
        (["TASK", "none.json"], "error: none.json: "),
        (["TASK", "--cost", "-1"], "error: cost=-1.0 must be a number from 0"),
        (["TASK", "--resume"], "error: runs/toy-gates"),
    ],
)
def test_misuse_is_a_message_and_the_exit_code_two(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    words = [str(write_task(tmp_path, training=SHORT)) if w == "TASK" else w for w in words]
    done = call("gates", *words)
    assert done.exit_code == 2 and message in done.stderr, done.output
    assert not (tmp_path / "runs").exists()
