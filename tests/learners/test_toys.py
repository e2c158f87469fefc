"""Each kind of task: its toy is learned, comes back, is programmed, resumes to the same bits."""

import signal

import pytest

from regard.train import evaluate_run, load_learner, train
from regard.train.record import LogFile
from regard.train.report import write_run_report
from tests.learners.toys import TOYS, toy
from tests.train.tiny import PROGRAMS, assert_same_weights

# A metric, what it reaches, and what the baseline does not.
LEARNED = {
    "causal": ("perplexity", -2.5, -15),
    "masked": ("perplexity", -6, -15),
    "summarisation": ("ROUGE-L", 0.9, 0.5),
    "pairs": ("accuracy", 0.99, 0.8),
    "scores": ("Pearson", 0.8, 0.5),
    "retrieval": ("recall@1", 0.99, 0.5),
    "question_answering": ("exact match", 0.85, 0.5),
}
SHORT = {"steps": 6, "save_every": 2, "eval_every": 3}


@pytest.fixture(scope="module", params=sorted(TOYS))
def learned(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, train(toy(folder, request.param), folder / "run", progress=False)


def test_every_toy_has_its_bar():
    assert set(LEARNED) == set(TOYS)


def test_toy_is_learned_and_the_baseline_is_not_enough(learned):
    name, result = learned
    metric, reached, missed = LEARNED[name]
    sign = -1 if reached < 0 else 1
    test = result.metrics["test"]
    assert sign * test["scores"][metric] >= reached
    assert sign * test["baseline"][metric] < missed
    assert test["examples"] == 9


def test_run_is_scored_again_from_its_folder_and_says_nothing_else(learned, capfd):
    _, result = learned
    found = evaluate_run(result.folder)
    assert found.metrics() == result.metrics["test"]
    assert capfd.readouterr() == ("", "")


def test_report_holds_the_baseline_and_samples(learned, tmp_path):
    name, result = learned
    write_run_report({name: result.folder}, tmp_path / "report.html", name)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert result.metrics["test"]["baseline_name"] in page
    assert "Samples" in page


def stop_at(monkeypatch, step):
    """Press Ctrl-C once, when a step begins."""

    def on_step_begin(_, args, state, control, **__):
        if state.global_step == step:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)


@pytest.mark.parametrize("name", [
    # As pairs, but for the loss.
    pytest.param(name, marks=pytest.mark.slow) if name == "scores" else name
    for name in sorted(TOYS)
])  # fmt: skip
def test_programmed_run_stopped_and_resumed_ends_as_if_it_had_not_been(name, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(PROGRAMS, encoding="utf-8")
    role = "decoder" if name == "causal" else "encoder"
    task = toy(tmp_path, name, mode={role: "mine.py:relative"}, training=SHORT)
    whole = train(task, tmp_path / "whole", progress=False)
    stop_at(monkeypatch, 3)
    assert not train(task, tmp_path / "parts", progress=False).finished
    resumed = train(task, tmp_path / "parts", resume=True, progress=False)
    assert resumed.metrics["test"] == whole.metrics["test"]
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")
    _, model = load_learner(tmp_path / "parts")
    programmed = [one for key, one in model.named_parameters() if ".regard." in key]
    assert len(programmed) == 1 and programmed[0].abs().max() > 0
    assert evaluate_run(tmp_path / "parts").metrics() == whole.metrics["test"]
