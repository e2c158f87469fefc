"""Measuring a machine times calls of each backend once, and keeps what it finds."""

import pytest
import torch

import regard as rg
from regard.errors import InputError, UnsupportedError
from regard.ops import measure_machine, predict
from regard.ops.measure_machine import prepare_call, time_calls, work_of
from regard.testing.programs import PROGRAMS

measured = measure_machine.measure_machine


@pytest.fixture
def quickly(tmp_path, monkeypatch):
    """Few and small calls, an empty cache folder, and a process that knows nothing yet."""
    monkeypatch.setenv("REGARD_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(predict, "_known", {})
    monkeypatch.setattr(measure_machine, "_MOST_SECONDS", 0.0)
    calls = [one for one in measure_machine._CALLS if one.sizes[2] <= 128]
    monkeypatch.setattr(measure_machine, "_CALLS", calls)


def test_what_is_known_is_not_measured_again(quickly):
    said: list[str] = []
    first = measured(("tiled",), say=said.append)
    assert measured(("tiled",), say=said.append) == first
    assert said == ["measuring backend 'tiled' on this machine, once"]
    measured(("tiled",), again=True, say=said.append)
    assert len(said) == 2


def test_backends_that_nobody_counts_are_left_out(quickly):
    assert list(measured(("sdpa", "reference"))) == ["sdpa"]


def test_prices_of_a_machine_are_seconds(quickly):
    found = measured(("sdpa",))["sdpa"]
    assert 0 < found.calls + found.products < 1


def test_nobody_counts_what_the_reference_does():
    q = torch.randn(1, 2, 5, 8)
    with pytest.raises(UnsupportedError, match=r"^nobody counts what backend 'reference' does$"):
        work_of(PROGRAMS["causal"], q, q, q, "reference")


def test_calls_are_timed_with_their_gradients():
    q = torch.randn(1, 2, 5, 8, requires_grad=True)
    slope = torch.rand(2, requires_grad=True)
    call = prepare_call(PROGRAMS["alibi"], q, q, q, "tiled", slope=slope)
    assert time_calls([call, call], 0.0)[1] > 0


def test_gradients_add_work():
    q = torch.randn(1, 2, 50, 8)
    wanted = q.clone().requires_grad_()
    for backend in ("sdpa", "tiled", "cpu"):
        forward = work_of(PROGRAMS["causal"], q, q, q, backend)
        trained = work_of(PROGRAMS["causal"], wanted, wanted, wanted, backend)
        assert trained.products > 3 * forward.products
        assert (forward.gradients, trained.gradients) == (0, 1)


@rg.program
def plain(pair):
    """Nothing hidden."""
    return rg.softmax(rg.dot(pair.q, pair.k))


@pytest.mark.parametrize("backend", ["sdpa", "tiled", "cpu"])
def test_plain_attention_takes_two_products_and_an_exponential_a_pair(backend):
    """At D = E = 8 a pair is 16 multiply-adds."""
    q = torch.randn(2, 3, 200, 8)
    work = work_of(plain, q, q, q, backend)
    pairs = 2 * 3 * 200 * 200
    assert work.products == 16 * pairs
    assert work.functions == pairs


@pytest.mark.parametrize(("backend", "most"), [("sdpa", 0.57), ("tiled", 0.7), ("cpu", 0.52)])
def test_hidden_blocks_cost_nothing(backend, most):
    q = torch.randn(1, 4, 2048, 8)
    full = work_of(plain, q, q, q, backend)
    half = work_of(PROGRAMS["causal"], q, q, q, backend)
    assert 0.5 < half.products / full.products < most


def test_one_backend_may_be_named_and_dtypes_are_torchs(quickly):
    with torch.no_grad():
        assert list(measured("sdpa")) == ["sdpa"]
    with pytest.raises(InputError, match=r"^dtype must be one of torch's.*found 'float32'$"):
        measured("sdpa", dtype="float32")
    with pytest.raises(InputError, match=r"^there is no backend 'gpu'"):
        measured(("gpu",))
