"""Nothing is measured unless REGARD_TUNE says for how long."""

import pytest
import torch

from regard.backends.measured.budget import budget_seconds
from regard.backends.measured.timer import device_name, time_on
from regard.errors import InputError


@pytest.mark.parametrize(("told", "seconds"), [("", 0), ("0", 0), ("20", 20), (" 0.5 ", 0.5)])
def test_budget_is_what_the_variable_says(monkeypatch, told, seconds):
    monkeypatch.setenv("REGARD_TUNE", told)
    assert budget_seconds() == seconds


def test_nothing_is_measured_unless_it_is_set(monkeypatch):
    monkeypatch.delenv("REGARD_TUNE", raising=False)
    assert budget_seconds() == 0


@pytest.mark.parametrize("told", ["on", "-1", "inf", "nan", "1s"])
def test_what_is_no_number_of_seconds_is_named(monkeypatch, told):
    monkeypatch.setenv("REGARD_TUNE", told)
    with pytest.raises(InputError, match=f"REGARD_TUNE is '{told}'.*seconds"):
        budget_seconds()


def test_nothing_is_measured_while_a_graph_is_captured(monkeypatch):
    monkeypatch.setenv("REGARD_TUNE", "20")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert budget_seconds() == 0


def test_time_is_that_of_several_runs_behind_a_first():
    runs = []
    taken = time_on(torch.device("cpu"), lambda: runs.append(1))
    assert taken is not None and taken >= 0
    assert len(runs) >= 4


def test_what_does_not_run_takes_no_time():
    def fails():
        raise RuntimeError("out of shared memory")

    assert time_on(torch.device("cpu"), fails) is None


def test_device_of_the_processor_is_named():
    assert device_name(torch.device("cpu")) == "cpu"
