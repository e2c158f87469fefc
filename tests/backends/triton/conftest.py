"""Kernels run on the GPU where there is one, else in Triton's interpreter (tests/conftest.py)."""

import importlib.util

import pytest


@pytest.fixture
def triton(monkeypatch):
    """The backend, registered for one test: elsewhere nobody is to meet an interpreter."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("the package 'triton' is not installed")
    from regard.backends.base import registered
    from regard.backends.triton import TritonBackend

    backend = TritonBackend()
    monkeypatch.setitem(registered(), "triton", backend)
    return backend
