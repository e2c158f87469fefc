"""What a step costs: in turn, on the same batches, with the memory it really takes."""

import pytest
import torch

from regard.customise.verdict import costs
from regard.customise.verdict.costs import FEWEST, _grown, _Stepper, _take_turns, measure_costs
from regard.modes import READY
from regard.train.model import build_model
from regard.train.run import prepare
from tests.learners.toys import toy
from tests.train.tiny import make_task

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return prepare(make_task(tmp_path_factory.mktemp("costs")))


class Fake:
    """Writes down whose turn it is, and on which batch."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def step(self, batch):
        self.log.append((self.name, batch))


def test_contenders_take_turns_on_the_same_batch_and_each_is_first_at_times():
    log = []
    steppers = {name: Fake(name, log) for name in "abc"}
    times = _take_turns(steppers, ["one", "two"], rounds=4)
    assert "".join(name for name, _ in log) == "abc" + "bca" + "cab" + "abc"
    assert [batch for _, batch in log[::3]] == ["one", "two", "one", "two"]
    assert all(len(one) == 4 for one in times.values())


def test_slow_steps_are_measured_less_often_but_not_too_seldom(monkeypatch):
    monkeypatch.setattr(costs, "_SECONDS", 0.0)
    times = _take_turns({"a": Fake("a", [])}, ["one"], rounds=25)
    assert len(times["a"]) == FEWEST


def test_costs_of_each_are_measured_and_nothing_of_the_test_rows_is_read(prepared):
    learner, corpus = prepared

    class Closed(list):
        __iter__ = __getitem__ = None

    closed = corpus.__class__(
        corpus.splits._replace(test=Closed(), valid=Closed()),
        corpus.labels, corpus.report, corpus.sha256,
    )  # fmt: skip
    modes = {"plain": None, "reader": READY["reader"]("encoder")}
    costs = measure_costs(learner, closed, modes, rounds=3)
    assert all(len(one) == 3 and min(one) > 0 for one in costs.times.values())
    # The mode has a parameter for each bucket of each head, with gradient and two moments.
    assert costs.peak_bytes["reader"] >= costs.peak_bytes["plain"] + 4 * 2 * 32 * 4
    assert costs.median("plain") == sorted(costs.times["plain"])[1]


def test_a_step_trains_and_leaves_the_learner_as_it_was(prepared):
    learner, corpus = prepared
    stepper = _Stepper(learner, None)
    before = [one.clone() for one in stepper.trained]
    for batch in costs._batches(learner, corpus):
        stepper.step(batch)
    changed = [not torch.equal(a, b) for a, b in zip(before, stepper.trained, strict=True)]
    assert all(changed) and learner.class_weights is None


class Memory:
    """Stands for a contender whose step takes so many MiB at its highest, in two pieces."""

    device = torch.device("cpu")

    def __init__(self, *pieces):
        self.pieces = pieces
        self.optimiser = torch.optim.SGD([torch.zeros(1)])

    def step(self, batch):
        for pieces in self.pieces:
            kept = [torch.zeros(one * MEBIBYTE // 4) for one in pieces]
            del kept


@pytest.mark.parametrize(
    ("pieces", "highest"), [([(3, 4)], 7), ([(3,), (4,)], 4), ([(1, 2), (5,), (3,)], 5)]
)
def test_memory_is_that_of_the_highest_moment(pieces, highest, capfd):
    assert _grown(Memory(*pieces), {}) == highest * MEBIBYTE
    # The profiler's own words do not reach the terminal.
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["masked", "summarisation", "retrieval"])
def test_steps_of_any_kind_of_task_are_measured(tmp_path, name):
    learner, corpus = prepare(toy(tmp_path, name))
    costs = measure_costs(learner, corpus, {"plain": None}, rounds=1)
    weights = sum(one.numel() for one in build_model(learner).parameters())
    # Weights, gradients and two moments, and what a step holds beside them.
    assert costs.peak_bytes["plain"] > 4 * 4 * weights
