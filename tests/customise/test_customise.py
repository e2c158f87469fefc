"""Customising: what is tried, what is kept, that it stops in time, goes on, and is never unfair."""

import csv
import json
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from regard.customise import CustomFolder, Options, customise
from regard.customise import budget as budgets
from regard.customise import ground as grounds
from regard.customise import run as customising
from regard.customise import search as searches
from regard.customise.candidate import PLAIN
from regard.data.corpus import Corpus
from regard.errors import FileError, InputError, TaskError, UnsupportedError
from regard.modes import load_mode
from regard.search import find_mode_faults
from regard.tasks import load_task
from regard.train import run as runs
from regard.train import train
from regard.train.folder import RunFolder
from regard.train.record import LogFile
from tests.train.tiny import make_task, write_task

TRIALS = 5


def make(folder, **training):
    return make_task(folder, training={"steps": 16, "save_every": 50, **training})


@pytest.fixture
def no_report(monkeypatch):
    """Leave the page out, which takes longer than a tiny training."""
    monkeypatch.setattr(customising, "write_custom_report", lambda result: None)


@pytest.fixture(scope="module")
def customised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("customised")
    task = make(folder)
    told = []
    result = customise(
        task, folder / "study", Options(trials=TRIALS), on_progress=lambda at: told.append(str(at))
    )
    return task, result, told


def test_as_many_are_tried_as_asked_and_the_better_ones_go_on(customised):
    _, result, _ = customised
    standing = result.standing
    assert result.stopped == "trials" and len(standing.candidates) == TRIALS
    assert result.ground.rungs == (2, 4, 8, 16)
    assert next(iter(standing.candidates)) == PLAIN
    assert standing.reached(PLAIN) == standing.reached(result.best) == 3
    reached = [standing.reached(key) for key in standing.candidates]
    assert len([one for one in reached if one >= 1]) < TRIALS


def test_everything_that_was_trained_is_admitted(customised):
    _, result, _ = customised
    modes = [one.mode for one in result.standing.candidates.values() if one.mode]
    assert modes
    for mode in modes:
        assert find_mode_faults(mode, result.ground.space) == {}


def test_the_best_task_file_reproduces_its_own_figure(customised, tmp_path):
    _, result, _ = customised
    task = load_task(result.folder.best)
    again = train(task, tmp_path / "again", progress=False)
    assert again.metrics["valid"]["scores"]["BLEU"] == result.value(result.best)
    assert again.metrics["test"]["examples"] == 10
    mode = None if task.mode is None else load_mode(task.mode).hash
    assert (PLAIN if mode is None else mode) == result.best


def test_the_table_says_what_was_tried_and_why_it_was_dropped(customised):
    _, result, _ = customised
    with result.folder.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == TRIALS
    assert [row["dropped"] for row in rows].count("the best") == 1
    assert any(re.fullmatch(r"place \d+ of \d+ at step \d+", row["dropped"]) for row in rows)
    assert all(float(row["ms per step"]) > 0 for row in rows)


def test_the_report_shows_the_front_the_mode_and_the_curves(customised):
    page = customised[1].folder.report.read_text("utf-8")
    for title in ("What it costs", "How they learned", "Where it comes from", "All that was tried"):
        assert f">{title}</h2>" in page
    assert page.count("data:image/png;base64,") >= 2
    assert "customised</" not in page and "<script" not in page


def test_progress_tells_the_rung_the_score_and_the_best(customised):
    told = customised[2]
    assert re.fullmatch(r" +∞ left  rung 1/4  plain: on to step 2", told[0])
    assert re.fullmatch(
        r" +∞ left  rung 1/4  plain: BLEU [\d.e-]+; best so far plain, [\d.e-]+ at step 2", told[1]
    )


def test_no_candidate_ever_holds_the_test_rows(tmp_path, monkeypatch, no_report):
    task = make(tmp_path, steps=4)
    load, asked = runs.load_task_data, []

    class Guarded(list):
        def __iter__(self):
            asked.append(1)
            return super().__iter__()

        __getitem__ = None

    def guarded(plan):
        corpus = load(plan)
        splits = corpus.splits._replace(test=Guarded(corpus.splits.test))
        return Corpus(splits, corpus.labels, corpus.report, corpus.sha256)

    monkeypatch.setattr(runs, "load_task_data", guarded)
    result = customise(task, tmp_path / "study", Options(trials=3))
    assert asked == [] and result.ground.known.corpus.splits.test == []
    for folder in result.folder.runs.iterdir():
        run = RunFolder(folder)
        assert not run.records.exists()
        if run.metrics.is_file():
            assert "test" not in json.loads(run.metrics.read_text())
    # The guard sees a run that scores the test rows.
    train(task, tmp_path / "run", progress=False)
    assert asked
    assert grounds.know is runs.know


def test_a_study_that_was_stopped_goes_on_with_the_same_scores(customised, tmp_path, no_report):
    task, whole, _ = customised
    seen, interrupted = [], pytest.MonkeyPatch()

    def on_step_begin(_, args, state, control, **__):
        seen.append(state.global_step)
        if len(seen) == 7:
            interrupted.undo()
            signal.raise_signal(signal.SIGINT)

    interrupted.setattr(LogFile, "on_step_begin", on_step_begin)
    options = Options(trials=TRIALS)
    first = customise(task, tmp_path / "study", options)
    assert first.stopped == "interrupt" and 0 < len(first.standing.candidates) < TRIALS
    assert first.folder.best.is_file()
    again = customise(task, tmp_path / "study", options, resume=True)
    assert again.stopped == "trials" and again.spent_s > first.spent_s
    for key, candidate in whole.standing.candidates.items():
        assert again.standing.candidates[key] == candidate
        theirs = {k: v.quality for k, v in again.standing.scores[key].items()}
        assert theirs == {k: v.quality for k, v in whole.standing.scores[key].items()}


KILLED = """
import sys
from regard.customise import Options, customise
from regard.tasks import load_task
import torch
torch.set_num_threads(1)
customise(load_task(sys.argv[1]), sys.argv[2], Options(trials=3),
          on_progress=lambda at: print(at, flush=True))
"""


@pytest.mark.slow
def test_a_study_that_was_killed_goes_on(tmp_path, no_report):
    path = write_task(tmp_path, training={"steps": 16, "save_every": 50})
    words = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "study")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        for number, line in enumerate(process.stdout):
            if number == 2:
                assert "on to step" in line
                process.kill()
                break
    task, folder = load_task(path), CustomFolder(tmp_path / "study")
    assert folder.database.is_file() and not folder.best.exists()
    result = customise(task, folder.path, Options(trials=3), resume=True)
    assert result.stopped == "trials" and len(result.standing.candidates) == 3
    assert result.standing.reached(PLAIN) == 3


@pytest.mark.parametrize(("steps", "compared"), [(4000, False), (64, True)])
def test_it_stops_in_time_and_leaves_a_result(tmp_path, monkeypatch, steps, compared):
    now = [0.0]

    def monotonic():
        """Each look at the clock takes a twentieth of a second, whatever the machine does."""
        now[0] += 0.05
        return now[0]

    for module in (budgets, customising, searches):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=monotonic))
    result = customise(make(tmp_path, steps=steps), tmp_path / "study", Options(budget_s=12.0))
    assert result.stopped == "budget" and 6.0 < result.spent_s <= 12.0
    assert result.folder.report.is_file()
    assert (result.best is not None) == compared
    if not compared:
        assert load_task(result.folder.best).mode is None
        assert "Nothing was compared within 0:1" in result.folder.report.read_text("utf-8")


def test_more_may_be_asked_of_a_study_later(tmp_path, no_report):
    task = make(tmp_path, steps=4)
    one = customise(task, tmp_path / "study", Options(trials=1))
    assert list(one.standing.candidates) == [PLAIN] and one.mode is None
    assert not one.folder.mode.exists()
    more = customise(task, tmp_path / "study", Options(trials=2), resume=True)
    assert len(more.standing.candidates) == 2
    assert more.standing.scores[PLAIN] == one.standing.scores[PLAIN]


def test_proposals_are_candidates_and_refused_ones_are_told(tmp_path, no_report):
    task = make(tmp_path, steps=4)
    local = {"ready": "local", "knobs": {"window": 3}}
    roles = ("encoder", "decoder", "cross")
    programs = {"near": local, "plain": {"catalogue": "scaled_dot_product"}}
    good = {
        "name": "near",
        "assignments": [
            {"role": role, "program": "plain" if role == "cross" else "near"} for role in roles
        ],
        "programs": programs,
    }
    leaky = {
        "name": "leaky",
        "assignments": [{"role": role, "program": "plain"} for role in roles],
        "programs": {"plain": programs["plain"]},
    }
    file = tmp_path / "proposals.json"
    file.write_text(json.dumps({"proposals": [good, leaky]}))
    result = customise(task, tmp_path / "study", Options(trials=2, proposals=file))
    origins = [one.origin for one in result.standing.candidates.values()]
    assert origins == ["the model's own attention", "proposed, /proposals/0"]
    (refused,) = result.refusals
    assert refused.pointer.startswith("/proposals/1") and "causal" in str(refused)


def test_the_mode_of_the_task_is_a_candidate(tmp_path, no_report):
    from regard.modes import Mode, save_mode
    from regard.modes.collection import READY

    save_mode(Mode("mine", encoder=READY["broad"].programs["encoder"]), tmp_path / "mine.json")
    task = make_task(tmp_path, training={"steps": 4, "save_every": 50}, mode="mine.json")
    result = customise(task, tmp_path / "study", Options(trials=2))
    assert [one.name for one in result.standing.candidates.values()] == ["plain", "mine"]


def test_a_candidate_that_fails_ends_nothing(tmp_path, monkeypatch, no_report):
    from regard.customise import trial

    real = trial.train

    def fails(task, path, *given, **more):
        if "plain" not in str(path):
            raise UnsupportedError("no kernel for this")
        return real(task, path, *given, **more)

    monkeypatch.setattr(trial, "train", fails)
    result = customise(make(tmp_path, steps=4), tmp_path / "study", Options(trials=3))
    assert result.best == PLAIN and len(result.standing.candidates) == 3
    with result.folder.table.open(newline="") as file:
        dropped = [row["dropped"] for row in csv.DictReader(file)]
    assert dropped == ["the best", "no kernel for this", "no kernel for this"]


WRONG = [
    (dict(objective="speed"), r"there is no objective 'speed'"),
    (dict(method="halvng"), r"there is no method 'halvng'; did you mean 'halving'"),
    (dict(budget_s=0.0), r"a budget is seconds above 0"),
    (dict(trials=0), r"trials are a whole number from 1, not 0"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_options_without_meaning_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Options(**options)


def test_unknown_metric_is_refused_before_anything_is_written(tmp_path):
    task = make(tmp_path)
    with pytest.raises(TaskError, match=r"there is no metric 'BLUE'; did you mean 'BLEU'"):
        customise(task, tmp_path / "study", Options(metric="BLUE"))
    assert not (tmp_path / "study").exists()


def test_validation_rows_are_needed(tmp_path):
    task = make_task(tmp_path, data={"valid_pairs": 0})
    with pytest.raises(TaskError, match="modes are compared on validation rows"):
        customise(task, tmp_path / "study")


def test_folders_that_hold_something_else_are_refused(customised, tmp_path):
    task, result, _ = customised
    with pytest.raises(TaskError, match=r"there is something already; choose another .*--study"):
        customise(task, result.folder.path)
    with pytest.raises(TaskError, match="there is no study to go on with"):
        customise(task, tmp_path / "none", resume=True)
    other = task.model_copy(update={"tokenizer": task.tokenizer.model_copy(update={"size": 50})})
    with pytest.raises(TaskError, match=re.escape("tokenizer.size was 60 and is 50")):
        customise(other, result.folder.path, resume=True)
    with pytest.raises(
        FileError, match=r"another task: 'translation by BLEU, .*not 'translation by chrF, "
    ):
        customise(task, result.folder.path, Options(metric="chrF"), resume=True)
