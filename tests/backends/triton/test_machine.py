"""Where kernels can run, and what is said where they cannot."""

import pytest
import torch

import regard as rg
from regard.backends.base import registered
from regard.backends.triton import machine
from regard.ops.bind import Options
from regard.ops.plan import _order
from regard.ops.prepare import prepare


@pytest.fixture
def without_gpu(monkeypatch):
    monkeypatch.setattr(machine.torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("TRITON_INTERPRET", "0")


def test_without_the_package_it_is_said(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: None)
    assert "'triton', which is not installed" in (machine.why_not() or "")


def test_without_a_gpu_it_is_said(without_gpu):
    assert "torch sees none" in (machine.why_not() or "")
    assert "q is on cpu" in (machine.why_not_on("cpu") or "")
    assert machine.why_not_on("cuda") is None


def test_interpreter_takes_tensors_of_the_cpu_alone(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert machine.why_not_on("cpu") is None
    assert "CPU alone" in (machine.why_not_on("cuda") or "")


def test_on_a_gpu_kernels_come_before_the_portable_backend(triton, monkeypatch):
    monkeypatch.delenv("REGARD_BACKENDS", raising=False)
    q = torch.zeros(1, 4, 1024, 64)
    kind, _ = prepare(rg.catalogue.causal(), q, q, q, {}, Options())
    names = _order(kind.request, registered())
    assert names.index("triton") < names.index("tiled") < names.index("reference")
