"""A run that finished, shared by all tests that only look at one, and a hand in a running one."""

import pytest

from regard.train import train
from regard.train.record import LogFile
from tests.train.tiny import make_task


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return train(make_task(folder), folder / "run", progress=False)


@pytest.fixture
def at_step(monkeypatch):
    """Do something when a step begins, in the same process and thread."""

    def arrange(step, do):
        def on_step_begin(_, args, state, control, **__):
            if state.global_step == step:
                monkeypatch.undo()
                do()

        monkeypatch.setattr(LogFile, "on_step_begin", on_step_begin)

    return arrange
