"""A search: what it tries, that it goes on where it stopped, that it never sees the test rows."""

import csv
import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from regard.data.corpus import Corpus
from regard.errors import TaskError
from regard.metrics.records import LOWER_IS_BETTER, TASKS, measures_of
from regard.tasks import load_task
from regard.train import run as runs
from regard.train import train
from regard.train.folder import RunFolder
from regard.train.study import StudyFolder, read_study, tune
from regard.train.trial import Outcome, run_trial
from regard.train.trials import Trials, best_of
from tests.train.tiny import make_task

RANGES = {
    "training.lr": {"low": 0.0001, "high": 0.03, "log": True},
    "model.layers": [1, 2],
    "training.warmup": {"low": 1, "high": 4},
}


def make(folder, training=None, **search):
    return make_task(
        folder,
        training={"steps": 4, "eval_every": 2, "save_every": 2, **(training or {})},
        search={"ranges": RANGES, "trials": 3, "pruner": "none", **search},
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searched")
    task = make(folder)
    return task, StudyFolder(folder / "study"), tune(task, folder / "study")


def test_as_many_are_tried_as_asked_with_settings_from_the_ranges(searched):
    _, folder, found = searched
    assert [one.number for one in found] == [0, 1, 2]
    for one in found:
        assert one.state == "finished" and one.metric == "BLEU" and one.seconds >= 0
        assert 0.0001 <= one.settings["training.lr"] <= 0.03
        assert one.settings["model.layers"] in (1, 2)
        assert isinstance(one.settings["training.warmup"], int)
        assert 1 <= one.settings["training.warmup"] <= 5
    assert len({json.dumps(one.settings) for one in found}) == 3
    assert read_study(folder.path) == found


def test_the_best_task_file_reproduces_its_own_figure(searched, tmp_path):
    _, folder, found = searched
    best = best_of(found)
    assert best.value == max(one.value for one in found)
    task = load_task(folder.best)
    assert task.search is None and task.training.lr == best.settings["training.lr"]
    again = train(task, tmp_path / "again", progress=False)
    assert again.metrics["valid"]["scores"]["BLEU"] == best.value


def test_the_table_has_a_row_for_each_trial(searched):
    _, folder, found = searched
    with folder.table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == [one.value for one in found]
    assert [float(row["training.lr"]) for row in rows] == [
        one.settings["training.lr"] for one in found
    ]
    assert folder.picture.read_bytes().startswith(b"\x89PNG")


def test_the_test_rows_are_never_looked_at(tmp_path, monkeypatch):
    task = make(tmp_path, trials=1)
    load, asked = runs.load_task_data, []

    class Guarded(list):
        def __iter__(self):
            asked.append(1)
            return super().__iter__()

        __getitem__ = None

    def guarded(task):
        corpus = load(task)
        splits = corpus.splits._replace(test=Guarded(corpus.splits.test))
        return Corpus(splits, corpus.labels, corpus.report, corpus.sha256)

    monkeypatch.setattr(runs, "load_task_data", guarded)
    (found,) = tune(task, tmp_path / "study")
    assert found.state == "finished" and asked == []
    (folder,) = StudyFolder(tmp_path / "study").trials.glob("*/")
    metrics = json.loads(RunFolder(folder).metrics.read_text())
    assert "test" not in metrics and not RunFolder(folder).records.exists()
    # The guard sees a run that scores the test rows.
    train(task, tmp_path / "run", progress=False)
    assert asked


def test_a_search_that_was_stopped_goes_on_with_the_trial_at_hand(searched, tmp_path, monkeypatch):
    task, _, whole = searched
    from regard.train.record import LogFile

    seen = []

    def on_step_begin(_, args, state, control, **__):
        seen.append(state.global_step)
        if len(seen) == 7:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)
    first = tune(task, tmp_path / "study")
    assert [one.state for one in first] == ["finished", "stopped"]
    found = tune(task, tmp_path / "study", resume=True)
    assert [one.state for one in found] == ["finished", "stopped", "finished", "finished"]
    assert found[2].settings == found[1].settings == whole[1].settings
    assert found[2].value == whole[1].value
    assert len(list(StudyFolder(tmp_path / "study").trials.glob("*/"))) == 3


def test_a_finished_search_may_be_asked_for_more(searched, tmp_path):
    folder = tmp_path
    task = make(folder, trials=1)
    one = tune(task, folder / "study")
    more = tune(make(folder, trials=2), folder / "study", resume=True)
    assert more[:1] == one and len(more) == 2


@pytest.mark.parametrize("pruner", ["median", "none"])
def test_what_lags_behind_the_median_is_hopeless(tmp_path, pruner):
    search = make(tmp_path, pruner=pruner, warmup=2, trials=5).search
    trials = Trials(tmp_path / "study.sqlite", search)
    for good in (5.0, 7.0):
        drawn = trials.draw()
        assert not drawn.hopeless(2, good)
        trials.end(drawn, Outcome("finished", "BLEU", good, 1.0))
    assert not trials.draw().hopeless(2, 6.5)
    assert trials.draw().hopeless(2, 5.5) == (pruner == "median")


def test_hopeless_trial_is_given_up_at_once_and_may_be_taken_up(tmp_path):
    task, settings, asked = make(tmp_path), {"training.lr": 0.01}, []

    def hopeless(step, good):
        asked.append(step)
        return True

    given_up = run_trial(task, settings, tmp_path / "trials", hopeless)
    assert (given_up.state, given_up.metric, asked) == ("given up", "BLEU", [2])
    finished = run_trial(task, settings, tmp_path / "trials")
    assert finished.state == "finished" and finished.seconds is not None
    # The same settings again are not trained again.
    assert run_trial(task, settings, tmp_path / "trials", hopeless) == finished
    assert asked == [2]


def test_settings_that_do_not_go_together_fail_alone(tmp_path):
    ranges = {"model.width": [16, 18], "model.heads": [2, 4]}
    task = make(tmp_path, {"steps": 2}, ranges=ranges, trials=6, sampler="random")
    found = tune(task, tmp_path / "study")
    failed = [one for one in found if one.state == "failed"]
    assert failed and all("cannot be shared by 4 heads" in one.problem for one in failed)
    assert best_of(found) is not None


def test_several_workers_share_the_trials(tmp_path):
    found = tune(make(tmp_path, {"steps": 2}, trials=4), tmp_path / "study", workers=2)
    assert [one.state for one in found] == ["finished"] * 4
    assert len({json.dumps(one.settings) for one in found}) == 4


def test_workers_that_draw_the_same_settings_share_a_run(tmp_path):
    ranges = {"training.lr": [0.01, 0.01]}
    task = make(tmp_path, {"steps": 2}, ranges=ranges, trials=3)
    found = tune(task, tmp_path / "study", workers=2)
    assert [one.state for one in found] == ["finished"] * 3
    assert len({one.value for one in found}) == 1


def test_trials_drawn_at_the_same_time_differ_and_are_no_more_than_asked(tmp_path):
    search = make(tmp_path, trials=12).search
    database = tmp_path / "study.sqlite"
    workers = [Trials(database, search) for _ in range(4)]

    def work(trials):
        return [one.settings for one in iter(trials.draw, None)]

    with ThreadPoolExecutor(len(workers)) as pool:
        drawn = [one for found in pool.map(work, workers) for one in found]
    assert len(drawn) == len({json.dumps(one) for one in drawn}) == 12


def test_which_metrics_are_better_when_lower_agrees_with_the_metrics():
    texts, labels = ["a b c d"], ["x"]
    answers = {
        "classification": (labels, labels), "tagging": ([["B-x"]], [["B-x"]]),
        "question_answering": (["a"], [["a"]]), "pairs": ([1.0, 2.0], [1.0, 2.0]),
        "retrieval": ([[1]], [0]),
        "language_modelling": ([{"loss": 2.0, "tokens": 2}], [{"bytes": 3}]),
    }  # fmt: skip
    for task in TASKS:
        found, references = answers.get(task, (texts, texts))
        records = [
            {"input": "i", "reference": b, "prediction": a}
            for a, b in zip(found, references, strict=True)
        ]
        for one in measures_of(task, [records])[0]:
            assert one.higher_is_better == (one.name not in LOWER_IS_BETTER), one.name


WRONG = [
    (
        {"ranges": {"training.lrr": [1, 2]}},
        r"search\.ranges: there is no setting 'training\.lrr'",
    ),
    ({"ranges": {"training.lr": [0.1, -1]}}, r"search\.ranges: training\.lr=-1: Input should be"),
    (
        {"ranges": {"model.dropout": {"low": 0.1, "high": 3}}},
        r"model\.dropout=3: Input should be less",
    ),
    ({"metric": "accuracy"}, r"search\.metric: there is no metric 'accuracy'; "),
]


@pytest.mark.parametrize(("search", "message"), WRONG)
def test_search_without_meaning_is_refused(tmp_path, search, message):
    with pytest.raises(TaskError, match=message):
        tune(make(tmp_path, {"steps": 2}, **search), tmp_path / "study")


SCHEMA = [
    ({"ranges": {}}, "ranges"),
    ({"ranges": {"training.lr": [1]}}, "at least 2"),
    ({"ranges": {"training.lr": {"low": 2, "high": 1}}}, "low 2 should be less than high 1"),
    ({"ranges": {"training.lr": {"low": 0, "high": 1, "log": True}}}, "low should be above 0"),
    ({"trails": 3}, "trials"),
]


@pytest.mark.parametrize(("search", "message"), SCHEMA)
def test_search_that_is_written_wrong_is_refused_by_the_task_file(tmp_path, search, message):
    with pytest.raises(TaskError, match=message):
        make(tmp_path, **search)


def test_task_without_a_search_says_how_to_write_one(tmp_path):
    with pytest.raises(TaskError, match=r"nothing of a search; give it a part such as"):
        tune(make_task(tmp_path), tmp_path / "study")


def test_search_needs_validation_rows(tmp_path):
    task = make_task(tmp_path, data={"valid_pairs": 0}, search={"ranges": RANGES})
    with pytest.raises(TaskError, match="a search needs validation rows"):
        tune(task, tmp_path / "study")


def test_folders_that_hold_something_else_are_refused(searched, tmp_path):
    task, folder, _ = searched
    with pytest.raises(TaskError, match=r"there is something already; choose another .*--study"):
        tune(task, folder.path)
    with pytest.raises(TaskError, match=r"there is no study to continue; leave out --resume$"):
        tune(task, tmp_path / "none", resume=True)
    other = task.model_copy(update={"tokenizer": task.tokenizer.model_copy(update={"size": 50})})
    with pytest.raises(TaskError, match=re.escape("tokenizer.size was 60 and is 50")):
        tune(other, folder.path, resume=True)
    with pytest.raises(TaskError, match="there is no study here"):
        read_study(tmp_path)
