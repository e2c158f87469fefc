"""Under what a run began and was continued, and what is said when that has changed."""

import hashlib
import json
import signal

import pytest

from regard.train import sittings, train
from regard.train.report import write_run_report
from regard.train.sittings import SittingWarning, code_hash
from tests.train.tiny import PROGRAMS, assert_same_weights, make_task


def read(folder):
    return [json.loads(line) for line in (folder / "sittings.jsonl").read_text().splitlines()]


def test_code_is_told_apart_by_names_and_contents(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    one = code_hash(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("compiled")
    assert code_hash(tmp_path) == one
    (tmp_path / "a.py").write_text("x = 2")
    other = code_hash(tmp_path)
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({one, other, code_hash(tmp_path), code_hash()}) == 4


@pytest.fixture
def stopped(tmp_path, at_step):
    (tmp_path / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    task = make_task(tmp_path, mode={"encoder": "mine.py:relative"}, training={"steps": 6})
    at_step(2, lambda: signal.raise_signal(signal.SIGINT))
    assert not train(task, tmp_path / "run", progress=False).finished
    return task, tmp_path / "run"


def test_a_run_says_what_it_began_with(stopped):
    folder = stopped[1]
    (found,) = read(folder)
    assert found["step"] == 0 and found["processes"] == 1 and found["code"] == code_hash()
    assert found["programs"] == {"mine.py": hashlib.sha256(PROGRAMS.encode()).hexdigest()}
    assert found["versions"].keys() >= {"python", "regard", "torch", "transformers"}
    assert len(found["data"]) == 64 and len(found["mode"]) >= 32


def test_a_run_continued_under_the_same_says_nothing(stopped):
    task, folder = stopped
    train(task, folder, resume=True, progress=False)
    first, second = read(folder)
    assert (first.pop("step"), second.pop("step")) == (0, 3)
    assert first == second
    write_run_report({"toy": folder}, folder / "report.html", "Toy")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert first["code"][:12] in page and first["data"][:12] in page and "mine.py" in page


def test_a_run_continued_under_others_warns_and_goes_on(stopped, monkeypatch, tmp_path):
    task, folder = stopped
    own = sittings.versions()
    monkeypatch.setattr(sittings, "versions", lambda: {**own, "torch": "9.9"})
    monkeypatch.setattr(sittings, "code_hash", lambda: "another")
    (tmp_path / "mine.py").write_text(PROGRAMS + "\n# A remark.\n", encoding="utf-8")
    with pytest.warns(
        SittingWarning,
        match=r"run: continued at step 3, but torch was \S+ and is 9\.9; the file mine\.py is "
        r"another; the code of regard is another; the run may not end with the weights it",
    ):
        assert train(task, folder, resume=True, progress=False).finished
    assert [one["versions"]["torch"] for one in read(folder)] == [own["torch"], "9.9"]
    write_run_report({"toy": folder}, folder / "report.html", "Toy")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"at step 3: torch was {own['torch']} and is 9.9" in page


def test_sigterm_stops_as_ctrl_c_does(tmp_path, at_step, finished):
    task = make_task(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    at_step(4, lambda: signal.raise_signal(signal.SIGTERM))
    assert train(task, tmp_path / "run", progress=False).step == 5
    assert signal.getsignal(signal.SIGTERM) is before
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(finished.folder, tmp_path / "run")
