"""A run that finished, shared by all tests that only look at one."""

import pytest

from regard.train import train
from tests.train.tiny import make_task


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    return train(make_task(folder), folder / "run", progress=False)
