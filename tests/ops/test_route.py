"""On a GPU the backend that was measured to be fastest comes first; figures are kept and shown.

There is none here: a CPU stands for it, and a stub tells the times.
"""

import pytest
import torch

import regard as rg
from regard.backends.base import registered
from regard.backends.flex import FlexBackend
from regard.backends.measured import figures
from regard.ops import kind as kinds
from regard.ops import plan, route

pytestmark = pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
NAMES = ("sdpa", "flex", "tiled", "reference")


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A CPU that is routed like a GPU, an empty cache folder, and a process that knows nothing."""
    flex = FlexBackend()
    monkeypatch.setattr(flex, "device", "cpu")
    known = {name: flex if name == "flex" else registered()[name] for name in NAMES}
    monkeypatch.setattr(plan, "registered", lambda: known)
    monkeypatch.setattr(route, "_ROUTED", ("cpu",))
    monkeypatch.setenv("REGARD_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setenv("REGARD_TUNE", "100")
    monkeypatch.delenv("REGARD_BACKENDS", raising=False)
    forget(monkeypatch)
    yield tmp_path / "kernels"
    forget(monkeypatch)


def forget(monkeypatch):
    """Do as another process would."""
    monkeypatch.setattr(figures, "_known", {})
    for cache in (plan.make_plan, plan.compiled, kinds.kind_of):
        cache.cache_clear()


def timing(monkeypatch, **milliseconds):
    """Have each backend take as long as told; return the names of those that were run."""
    tried = []

    def time_on(where, run):
        name = run.args[0]
        tried.append(name)
        if milliseconds.get(name) is None:
            return None
        run()
        return milliseconds[name]

    monkeypatch.setattr(route, "time_on", time_on)
    return tried


def rows(count=600, wanted=False):
    draw = torch.Generator().manual_seed(4)
    return [torch.randn(1, 2, count, 16, generator=draw).requires_grad_(wanted) for _ in "qkv"]


def used(monkeypatch):
    """Return the names of the backends that run from now on."""
    from regard.ops import run

    names, own = [], run._run_on
    monkeypatch.setattr(run, "_run_on", lambda name, *rest: names.append(name) or own(name, *rest))
    return names


CAUSAL = rg.catalogue.causal()


def test_fastest_backend_runs_and_each_is_measured_once(device, monkeypatch):
    tried = timing(monkeypatch, sdpa=2.0, flex=1.0)
    names = used(monkeypatch)
    found = rg.attend(CAUSAL, *rows())
    assert tried == ["sdpa", "flex"] and names == ["sdpa", "flex", "flex"]
    expected = rg.attend(CAUSAL, *rows(), backend="reference")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    rg.attend(CAUSAL, *rows())
    # Of about the same size.
    rg.attend(CAUSAL, *rows(550))
    assert tried == ["sdpa", "flex"]
    rg.attend(CAUSAL, *rows(300))
    assert len(tried) == 4


def test_next_process_reads_what_was_measured_and_measures_nothing(device, monkeypatch):
    timing(monkeypatch, sdpa=2.0, flex=1.0)
    rg.attend(CAUSAL, *rows())
    forget(monkeypatch)
    monkeypatch.delenv("REGARD_TUNE")
    tried, names = timing(monkeypatch, sdpa=1.0, flex=2.0), used(monkeypatch)
    rg.attend(CAUSAL, *rows())
    assert not tried and names == ["flex"]


def test_nothing_is_measured_unless_it_is_asked_for(device, monkeypatch):
    monkeypatch.delenv("REGARD_TUNE")
    tried, names = timing(monkeypatch, sdpa=2.0, flex=1.0), used(monkeypatch)
    rg.attend(CAUSAL, *rows())
    assert not tried and names == ["sdpa"] and not device.exists()


def test_backend_that_does_not_run_is_tried_behind_the_others(device, monkeypatch):
    timing(monkeypatch, sdpa=2.0)
    names = used(monkeypatch)
    rg.attend(CAUSAL, *rows())
    assert names[-1] == "sdpa"


def test_training_is_measured_with_its_gradient_apart_from_inference(device, monkeypatch):
    tried = timing(monkeypatch, sdpa=2.0)
    grads = []
    own = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: grads.append(1) or own(*a, **k))
    rg.attend(CAUSAL, *rows())
    assert not grads
    rg.attend(CAUSAL, *rows(wanted=True))
    assert len(grads) == 1 and tried == ["sdpa", "flex"] * 2


@pytest.mark.parametrize("options", [{"backend": "sdpa"}, {"backend": "tiled"}])
def test_named_backend_is_the_one_that_runs(device, monkeypatch, options):
    tried, names = timing(monkeypatch, sdpa=2.0, flex=1.0), used(monkeypatch)
    rg.attend(CAUSAL, *rows(), **options)
    assert not tried and names == [options["backend"]]


def test_order_of_the_environment_is_kept(device, monkeypatch):
    monkeypatch.setenv("REGARD_BACKENDS", "sdpa,flex,tiled")
    tried, names = timing(monkeypatch, sdpa=2.0, flex=1.0), used(monkeypatch)
    rg.attend(CAUSAL, *rows())
    assert not tried and names == ["sdpa"]


def test_processor_is_not_routed(device, monkeypatch):
    monkeypatch.setattr(route, "_ROUTED", ("cuda",))
    tried = timing(monkeypatch, sdpa=2.0, flex=1.0)
    rg.attend(CAUSAL, *rows())
    assert not tried


def test_fastest_that_declines_leaves_the_call_to_the_next(device, monkeypatch):
    timing(monkeypatch, sdpa=2.0, flex=1.0)
    q, k, v = rows()
    v[:, :, -1] = torch.inf
    rg.attend(CAUSAL, q, k, torch.zeros_like(v))
    names = used(monkeypatch)
    found = rg.attend(CAUSAL, q, k, v)
    assert names == ["flex", "sdpa", "tiled"] and bool(found[:, :, :-1].isfinite().all())


def test_explain_shows_the_choice_and_its_figures(device, monkeypatch):
    assert rg.explain(CAUSAL, *rows()).routed_ms == {}
    timing(monkeypatch, sdpa=2.0, flex=1.0)
    rg.attend(CAUSAL, *rows())
    told = rg.explain(CAUSAL, *rows())
    assert told.backend == "flex" and told.routed_ms == {"flex": 1.0, "sdpa": 2.0}
    assert told.otherwise["sdpa"] == "'flex' was measured to be faster: 1 ms, not 2 ms"
    assert told.otherwise["tiled"] == "'flex' comes first"
    assert "runs on: flex, measured: 1 ms for calls like this" in str(told)


@pytest.mark.parametrize("kept", [{"sdpa": "fast"}, {"none": 1.0}, {"sdpa": -1.0}, {"sdpa": None}])
def test_kept_figures_that_make_no_sense_are_not_taken(device, monkeypatch, kept):
    monkeypatch.setattr(route, "known_figures", lambda about: kept)
    names = used(monkeypatch)
    rg.attend(CAUSAL, *rows())
    assert names == ["sdpa"]
