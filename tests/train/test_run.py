"""A run: what it leaves behind, and that stopping and continuing changes nothing."""

import json
import signal

import pytest
import torch

from regard.data.normalise import normal_form
from regard.errors import DataError, TaskError
from regard.tasks import load_task
from regard.train import evaluate_run, train, translate_run
from regard.train.folder import RunFolder
from regard.train.model import load_model
from tests.train.tiny import PROGRAMS, assert_same_weights, make_task, write_task


def log_of(folder):
    """The log without what the clock says."""
    lines = [json.loads(line) for line in RunFolder(folder).log.read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_run_folder_holds_all_there_is_to_know(finished):
    assert finished.finished and (finished.step, finished.steps) == (12, 12)
    names = {path.relative_to(finished.folder).as_posix() for path in finished.folder.rglob("*")}
    assert {
        "task.yaml", "metrics.json", "log.jsonl", "log.csv", "records.jsonl",
        "checkpoints/checkpoint-12",
        "model/config.json", "model/model.safetensors", "model/tokenizer.json",
    } <= names  # fmt: skip
    assert "model/mode.json" not in names


def test_metrics_say_what_was_measured_how_and_on_what(finished):
    metrics = json.loads((finished.folder / "metrics.json").read_text())
    assert metrics == finished.metrics
    assert metrics["data"] == {"read": 120, "train": 104, "valid": 6, "test": 10, "left_out": {}}
    assert metrics["test"]["examples"] == 10 and 0 <= metrics["test"]["scores"]["BLEU"] <= 100
    assert metrics["test"]["baseline_name"] == "copying the source"
    assert metrics["training"]["steps"] == 12 and metrics["training"]["seconds"] > 0
    assert metrics["mode"] is None
    assert "tok:13a" in metrics["signatures"]["bleu"]
    assert metrics["versions"]["torch"] == torch.__version__


def test_log_has_losses_and_validation_scores(finished):
    log = log_of(finished.folder)
    scored = [line for line in log if "valid_BLEU" in line]
    assert [line["step"] for line in scored] == [6, 12]
    assert {"valid_loss", "valid_BLEU", "valid_chrF"} < set(scored[0])
    # One at each checkpoint, and one at the end.
    learned = [line for line in log if "loss" in line]
    assert [line["step"] for line in learned] == [4, 8, 12]
    assert {"lr", "grad_norm"} < set(learned[0])


def test_records_are_the_held_out_pairs_and_none_was_trained_on(finished):
    lines = (finished.folder / "records.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    assert len(records) == 10
    task = load_task(finished.folder / "task.yaml")
    found = evaluate_run(finished.folder)
    assert found.records == records
    assert len({normal_form(one["input"]) for one in records}) == task.data.test_pairs


def test_resolved_task_trains_the_same_model_again(finished, tmp_path):
    train(load_task(finished.folder / "task.yaml"), tmp_path / "again", progress=False)
    assert_same_weights(finished.folder, tmp_path / "again")


@pytest.mark.parametrize("step", [2, 5, 9])
def test_run_stopped_by_ctrl_c_ends_as_if_it_had_not_been(finished, tmp_path, at_step, step):
    task = make_task(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    at_step(step, lambda: signal.raise_signal(signal.SIGINT))
    stopped = train(task, tmp_path / "run", progress=False)
    assert not stopped.finished and (stopped.step, stopped.steps) == (step + 1, 12)
    assert signal.getsignal(signal.SIGINT) is before
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(finished.folder, tmp_path / "run")


def test_run_that_died_goes_on_from_its_last_checkpoint(finished, tmp_path, at_step):
    task = make_task(tmp_path)

    def die():
        raise OSError("no space left")

    at_step(7, die)
    with pytest.raises(OSError, match="no space left"):
        train(task, tmp_path / "run", progress=False)
    # What was cut short while it was written does not count.
    (tmp_path / "run" / "checkpoints" / "checkpoint-6").mkdir()
    assert RunFolder(tmp_path / "run").last_checkpoint().name == "checkpoint-4"
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(finished.folder, tmp_path / "run")
    assert log_of(tmp_path / "run") == log_of(finished.folder)


def test_run_that_died_before_its_first_checkpoint_begins_again(finished, tmp_path, at_step):
    task = make_task(tmp_path)
    at_step(1, lambda: (_ for _ in ()).throw(OSError("gone")))
    with pytest.raises(OSError, match="gone"):
        train(task, tmp_path / "run", progress=False)
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(finished.folder, tmp_path / "run")


@pytest.fixture(scope="module")
def programmed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programmed")
    (folder / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    task = make_task(folder, mode={"encoder": "mine.py:relative", "cross": "mine.py:relative"})
    return task, train(task, folder / "run", progress=False)


def test_programs_are_trained_and_kept_with_the_model(programmed):
    _, result = programmed
    assert result.metrics["mode"]["name"] == "task"
    model, _ = load_model(result.folder / "model")
    biases = {name: value for name, value in model.named_parameters() if name.endswith("bias")}
    ours = {name: value for name, value in biases.items() if ".regard." in name}
    assert len(ours) == 2
    assert all(value.shape == (2, 9) and value.abs().max() > 0 for value in ours.values())
    assert load_task(result.folder / "task.yaml").mode == str(result.folder / "model" / "mode.json")
    assert evaluate_run(result.folder).metrics() == result.metrics["test"]


def test_programmed_run_continues_too(programmed, tmp_path, at_step):
    task, whole = programmed
    at_step(5, lambda: signal.raise_signal(signal.SIGINT))
    assert not train(task, tmp_path / "run", progress=False).finished
    assert train(task, tmp_path / "run", resume=True, progress=False).finished
    assert_same_weights(whole.folder, tmp_path / "run")


def test_run_whose_programs_changed_is_not_continued(programmed, tmp_path, at_step):
    task, _ = programmed
    at_step(2, lambda: signal.raise_signal(signal.SIGINT))
    train(task, tmp_path / "run", progress=False)
    other = task.model_copy(update={"mode": {"encoder": task.mode["encoder"]}})
    with pytest.raises(TaskError, match="since this run began: the programs of its mode are oth"):
        train(other, tmp_path / "run", resume=True, progress=False)


def test_taken_folder_is_refused(finished, tmp_path):
    task = make_task(tmp_path)
    with pytest.raises(
        TaskError,
        match=r"run: the folder is not empty, it holds checkpoints, data\.json, log\.csv, …; "
        r"choose another with --run, or continue the run that is there with --resume$",
    ):
        train(task, finished.folder, progress=False)


def test_file_in_the_place_of_the_folder_is_refused(tmp_path):
    task = make_task(tmp_path)
    with pytest.raises(TaskError, match=r"pairs\.tsv: this is a file; a run needs a folder$"):
        train(task, tmp_path / "pairs.tsv", progress=False)


def test_finished_run_is_not_continued(finished):
    task = load_task(finished.folder / "task.yaml")
    with pytest.raises(TaskError, match=r"this run is finished; its scores are in metrics\.json$"):
        train(task, finished.folder, resume=True, progress=False)


def test_nothing_is_not_continued(tmp_path):
    task = make_task(tmp_path)
    for call in (
        lambda: train(task, tmp_path / "run", resume=True, progress=False),
        lambda: evaluate_run(tmp_path / "run"),
        lambda: translate_run(tmp_path / "run", ["one"]),
    ):
        with pytest.raises(TaskError, match=r"run: there is no run here; it would hold a task\."):
            call()


def test_run_whose_task_changed_is_not_continued(tmp_path, at_step):
    at_step(0, lambda: signal.raise_signal(signal.SIGINT))
    train(make_task(tmp_path), tmp_path / "run", progress=False)
    changed = make_task(tmp_path, training={"lr": 0.5, "steps": 13})
    with pytest.raises(
        TaskError,
        match=r"the task has changed since this run began: training\.steps was 12 and is 13; "
        r"training\.lr was 0\.01 and is 0\.5\. Undo that, or begin another run with --run$",
    ):
        train(changed, tmp_path / "run", resume=True, progress=False)


def test_run_that_is_not_finished_does_not_translate(tmp_path, at_step):
    at_step(0, lambda: signal.raise_signal(signal.SIGINT))
    train(make_task(tmp_path), tmp_path / "run", progress=False)
    with pytest.raises(TaskError, match=r"this run is not finished; continue it with --resume$"):
        translate_run(tmp_path / "run", ["one"])


def test_unusable_data_leave_no_folder_behind(tmp_path):
    task = make_task(tmp_path)
    (tmp_path / "pairs.tsv").write_text("one\n")
    with pytest.raises(DataError, match="line 1: found 1 column"):
        train(task, tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_other_pairs_can_be_scored_and_their_errors_name_their_file(finished, tmp_path):
    path = tmp_path / "other.tsv"
    path.write_text("one two\tun deux\n")
    found = evaluate_run(finished.folder, path)
    assert len(found.answers) == found.metrics()["examples"] == 1
    path.write_text("one two\tun deux\n" + "one " * 40 + "\tun\n")
    with pytest.raises(DataError, match=r"other\.tsv, line 2: \d+ tokens, but the model reads"):
        evaluate_run(finished.folder, path)


def test_threads_are_set_for_the_run_alone(tmp_path, at_step):
    seen = []
    at_step(0, lambda: (seen.append(torch.get_num_threads()), signal.raise_signal(signal.SIGINT)))
    before = torch.get_num_threads()
    write_task(tmp_path)
    train(load_task(tmp_path / "toy.yaml"), tmp_path / "run", progress=False)
    assert seen == [1] and torch.get_num_threads() == before


def test_nothing_but_our_own_words_reaches_the_terminal(tmp_path, at_step, capfd):
    at_step(5, lambda: signal.raise_signal(signal.SIGINT))
    task = make_task(tmp_path)
    train(task, tmp_path / "run", progress=False)
    train(task, tmp_path / "run", resume=True, progress=False)
    assert capfd.readouterr() == ("", "")


def test_nothing_is_watched_without_validation_pairs(tmp_path):
    task = make_task(tmp_path, data={"valid_pairs": 0}, training={"steps": 7})
    assert train(task, tmp_path / "run", progress=False).metrics["data"]["valid"] == 0
    assert not any("valid_BLEU" in line for line in log_of(tmp_path / "run"))
