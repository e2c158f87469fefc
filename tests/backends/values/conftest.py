"""Blocks of small calls are looked into as those of large ones are."""

import pytest

from regard.backends.values import blocks


@pytest.fixture(autouse=True, scope="module")
def refined():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "LEAST_PAIRS", 0)
        yield
