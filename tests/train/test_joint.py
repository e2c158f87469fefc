"""A run of several tasks: what it keeps, that stopping changes nothing, and what goes with it."""

import csv
import json
import signal

import pytest
import torch

from regard.errors import TaskError
from regard.hf.quiet import quiet
from regard.learners import learner_class
from regard.learners.joint_model import JointModel
from regard.learners.tokenizer import read_tokenizer
from regard.tasks import load_task, load_task_data
from regard.train import evaluate_run, load_learner, train
from regard.train.compare import compare_runs
from regard.train.folder import RunFolder
from regard.train.model import build_model
from regard.train.predict import predict_run
from regard.train.report import write_run_report
from regard.train.trial import goodness
from regard.train.tuning import begin_tuning
from tests.learners.joined import joint, write_joint, write_member
from tests.learners.pretrained import pretrained
from tests.train.test_processes import TORCHRUN, assert_same_curve, launch
from tests.train.test_run import log_of
from tests.train.tiny import PROGRAMS, assert_same_weights, weights_of

NAMES = ("labels", "tags", "scores")
HARD = {"weighting": "uncertainty", "sampling": {"temperature": 2}, "training": {"accumulate": 2}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined")
    return train(joint(folder, NAMES, **HARD), folder / "run", progress=False)


# The run


def test_run_is_measured_by_task(finished):
    test, counts = finished.metrics["test"], finished.metrics["data"]
    assert {name.partition("/")[0] for name in test["scores"]} == set(NAMES)
    assert {"labels/accuracy", "tags/span F1", "scores/mean squared error"} <= set(test["scores"])
    assert test["examples"] == 27 and counts["tasks"]["labels"]["test"] == 9
    assert counts["train"] == sum(one["train"] for one in counts["tasks"].values())
    lines = (finished.folder / "records.jsonl").read_text().splitlines()
    assert [json.loads(line)["task"] for line in lines] == [n for n in NAMES for _ in range(9)]
    assert evaluate_run(finished.folder).metrics() == test


def test_log_and_table_tell_each_tasks_losses(finished):
    log = log_of(finished.folder)
    learned = [line for line in log if "loss" in line]
    assert {name for line in learned for name in line if name.endswith("/weight")} == {
        f"{name}/weight" for name in NAMES
    }
    scored = [line for line in log if "valid_loss" in line]
    assert [line["step"] for line in scored] == [6, 12]
    for name in NAMES:
        assert f"valid_{name}/loss" in scored[0]
    with (finished.folder / "log.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    assert {"labels/loss", "valid_labels/loss", "valid_labels/accuracy"} <= set(columns)


def test_a_task_of_a_run_is_asked_alone(finished, tmp_path):
    scores = finished.metrics["test"]["scores"]
    alone = evaluate_run(finished.folder, task="labels").metrics()
    assert alone["scores"] == {
        name.removeprefix("labels/"): value
        for name, value in scores.items()
        if name.startswith("labels/")
    }
    (tmp_path / "more.jsonl").write_text('{"text": "the sky is red"}\n{"text": "a red sea"}\n')
    found = list(predict_run(finished.folder, tmp_path / "more.jsonl", task="labels"))
    assert [one.line for one in found] == [1, 2] and all(one.answer for one in found)
    other = evaluate_run(finished.folder, tmp_path.parent / finished.folder.parent / "tags.jsonl",
                         task="tags")  # fmt: skip
    assert len(other.answers) == 48


def test_questions_to_no_task_or_a_wrong_one_are_refused(finished, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "the sky is red"}\n')
    with pytest.raises(TaskError, match=r"several tasks; say which with --task: labels, tags, sco"):
        list(predict_run(finished.folder, rows))
    with pytest.raises(TaskError, match=r"several tasks; say which with --task: labels, tags, sco"):
        evaluate_run(finished.folder, rows)
    with pytest.raises(TaskError, match=r"--task label: there is no such task; did you mean 'lab"):
        evaluate_run(finished.folder, task="label")


def test_report_shows_samples_of_every_task(finished, tmp_path):
    write_run_report({"joint": finished.folder}, tmp_path / "report.html", "Joint")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(f"{name}: " in page for name in NAMES) and "labels/accuracy" in page


@pytest.mark.parametrize("step", [1, 5, 9])
def test_stopped_run_ends_as_if_it_had_not_been(finished, tmp_path, at_step, step):
    task = joint(tmp_path, NAMES, **HARD)
    at_step(step, lambda: signal.raise_signal(signal.SIGINT))
    assert not train(task, tmp_path / "run", progress=False).finished
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(finished.folder, tmp_path / "run")


def test_run_that_died_logs_what_it_would_have(finished, tmp_path, at_step):
    task = joint(tmp_path, NAMES, **HARD)
    at_step(7, lambda: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        train(task, tmp_path / "run", progress=False)
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(finished.folder, tmp_path / "run")
    assert log_of(tmp_path / "run") == log_of(finished.folder)


def test_resolved_task_trains_the_same_model_again(finished, tmp_path):
    train(load_task(finished.folder / "task.yaml"), tmp_path / "again", progress=False)
    assert_same_weights(finished.folder, tmp_path / "again")


def test_run_with_another_task_is_not_continued(tmp_path, at_step):
    at_step(0, lambda: signal.raise_signal(signal.SIGINT))
    train(joint(tmp_path, NAMES), tmp_path / "run", progress=False)
    with pytest.raises(TaskError, match=r"since this run began: tasks\.scores was .* and is None"):
        train(joint(tmp_path), tmp_path / "run", resume=True, progress=False)


def test_best_weights_are_kept_by_the_metric_of_one_task(tmp_path):
    chosen = {"watch": "labels/accuracy", "keep": "best", "patience": 1, "eval_every": 3}
    result = train(joint(tmp_path, training=chosen), tmp_path / "run", progress=False)
    scored = [line for line in log_of(tmp_path / "run") if "valid_loss" in line]
    best = max(scored, key=lambda line: line["valid_labels/accuracy"])
    assert result.metrics["training"]["kept_step"] == best["step"]
    kept = result.metrics["valid"]["scores"]["labels/accuracy"]
    assert kept == best["valid_labels/accuracy"]
    joint(tmp_path, training={**chosen, "watch": "labels/loss"})


def test_metric_that_no_task_has_is_not_watched(tmp_path):
    task = joint(tmp_path, training={"watch": "labels/accurcy", "keep": "best"})
    with pytest.raises(TaskError, match=r"'labels/accurcy' is not measured; did you mean 'labels/"):
        train(task, tmp_path / "run", progress=False)


def test_search_knows_which_metrics_of_a_task_fall():
    assert goodness("scores/mean squared error", 2.0) == -2.0
    assert goodness("labels/accuracy", 0.5) == 0.5


def test_joint_run_is_compared_with_one_of_a_task_alone(finished, tmp_path):
    write_joint(tmp_path)
    words = ["model={width: 32, layers: 1, heads: 2, ffn: 32, positions: 24}", "training.steps=2"]
    alone = load_task(tmp_path / "labels.yaml", [*words, "training.warmup=0"])
    train(alone, tmp_path / "alone", progress=False)
    runs = [tmp_path / "alone", finished.folder]
    found = compare_runs(runs, resamples=100, permutations=100, task="labels")
    assert found.task == "classification" and found.examples == 9
    assert (
        found.scores[str(runs[1])][0].value == finished.metrics["test"]["scores"]["labels/accuracy"]
    )
    whole = compare_runs([finished.folder, _copy(finished.folder, tmp_path)], resamples=100)
    assert whole.task == "joint" and whole.answers == {"no difference shown"}
    with pytest.raises(TaskError, match=r"the task is joint, that of .* --task chooses one of tho"):
        compare_runs(runs)
    with pytest.raises(TaskError, match=r"there is no task 'label'; did you mean 'labels'"):
        compare_runs(runs, task="label")
    with pytest.raises(TaskError, match=r"--task labels: none of these runs joins tasks; leave it"):
        compare_runs([runs[0], _copy(runs[0], tmp_path, "same")], task="labels")


def _copy(folder, to, name="copy"):
    import shutil

    return shutil.copytree(folder, to / name)


# What goes with it


def test_mode_and_what_attention_should_do(tmp_path):
    (tmp_path / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    wish = {"term": "entropy", "goal": "minimise", "weight": 0.1}
    task = joint(
        tmp_path, mode={"encoder": "mine.py:relative"},
        attention={"regularise": [wish], "log": True},
    )  # fmt: skip
    result = train(task, tmp_path / "run", progress=False)
    _, model = load_learner(result.folder)
    learned = [value for name, value in model.named_parameters() if ".regard." in name]
    assert len(learned) == 1 and learned[0].abs().max() > 0
    assert any("attention_entropy" in line for line in log_of(result.folder))
    assert len(RunFolder(result.folder).heads.read_text().splitlines()) == 1 + 2 * 2
    assert evaluate_run(result.folder).metrics() == result.metrics["test"]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("head_only", "adalora", "houlsby")]


@pytest.mark.parametrize("method", ["lora", *SLOW])
def test_few_weights_of_a_pretrained_encoder_are_trained(tmp_path, method, at_step):
    base = pretrained("bert", tmp_path / "base")
    model = {"pretrained": str(base), "width": 128, "layers": 2, "heads": 4, "ffn": 512}
    parts = {
        "model": model, "tuning": {"method": method}, "weighting": "uncertainty",
    }  # fmt: skip
    task = joint(tmp_path, **parts)
    learner = learner_class(task)(task, read_tokenizer(base), load_task_data(task).labels)
    with quiet():
        before = build_model(learner)
        kept = {key: value.clone() for key, value in before.state_dict().items()}
        begin_tuning(before, task)
    whole = train(task, tmp_path / "run", progress=False)
    after = weights_of(whole.folder)
    names = {key: key.replace(".base_layer.", ".") for key in after}
    changed = {names[key] for key, value in after.items() if names[key] in kept
               and not value.equal(kept[names[key]])}  # fmt: skip
    heads = {key for key in kept if key.startswith(("parts.", "log_variances."))}
    assert heads <= changed
    adapted = {key for key in changed - heads if "attention.self" not in key}
    assert not adapted and (method in ("lora", "adalora")) == bool(changed - heads)
    assert evaluate_run(whole.folder).metrics() == whole.metrics["test"]
    at_step(5, lambda: signal.raise_signal(signal.SIGINT))
    assert not train(task, tmp_path / "two", progress=False).finished
    assert train(task, tmp_path / "two", resume=True, progress=False).finished
    assert_same_weights(whole.folder, tmp_path / "two")


def test_encoder_of_a_joint_run_goes_into_a_task_of_its_own(finished, tmp_path):
    folder = str(finished.folder / "model")
    write_member(tmp_path, "tags", model={"pretrained": folder}, training={"steps": 1, "lr": 1e-9})
    result = train(load_task(tmp_path / "tags.yaml"), tmp_path / "run", progress=False)
    before, after = weights_of(finished.folder), weights_of(result.folder)
    for key in (key for key in before if key.startswith("encoder.")):
        torch.testing.assert_close(after[key], before[key], rtol=0, atol=1e-6)
    assert isinstance(load_learner(finished.folder)[1], JointModel)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(tmp_path):
    path = write_joint(tmp_path, NAMES, **HARD)
    train(load_task(path), tmp_path / "one", progress=False)
    run = launch(TORCHRUN, path, "--run", tmp_path / "two")
    said = run.communicate()[0]
    assert run.returncode == 0, said
    assert_same_curve(tmp_path / "one", tmp_path / "two")
