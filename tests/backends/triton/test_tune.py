"""Tiles are measured where that is asked for, kept, and right whichever is chosen."""

import json

import pytest
import torch

import regard as rg
from regard.backends.measured import figures
from regard.backends.triton import caller, tiles, tune
from regard.backends.triton.module import TritonModule
from regard.backends.triton.tiles import Job, Tiles, choose_tiles, may_run, near_tiles

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

WIDTHS = (16, 64, 128, 256)
DTYPES = (torch.bfloat16, torch.float32, torch.float64)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("REGARD_CACHE_DIR", str(tmp_path / "kernels"))
    monkeypatch.setattr(figures, "_known", {})
    return tmp_path / "kernels"


@pytest.fixture
def on_device(monkeypatch):
    """Choose tiles as on a GPU."""
    monkeypatch.setattr(tiles, "is_interpreted", lambda: False)


def job(what="rows", widest=64, dtype=torch.bfloat16, at_pairs=False, queries=4096):
    return Job(what, widest, dtype, at_pairs, 64, queries, 4096)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("widest", WIDTHS)
@pytest.mark.parametrize(
    ("what", "queries"), [("rows", 1), ("rows", 4096), ("i", 4096), ("j", 4096)]
)
def test_default_may_run_and_has_a_few_neighbours_that_may(on_device, what, widest, dtype, queries):
    asked = job(what, widest, dtype, queries=queries)
    default = choose_tiles(asked)
    around = near_tiles(asked, default)
    assert may_run(asked, default)
    assert 1 <= len(around) <= 8 and default not in around
    assert all(may_run(asked, one) for one in around)


def test_tiles_that_cannot_fit_are_not_tried():
    assert may_run(job(), Tiles(128, 64, 4, 3))
    assert not may_run(job(widest=256), Tiles(128, 256, 8, 4))
    assert not may_run(job(), Tiles(256, 256, 1, 1))
    assert not may_run(job(), Tiles(96, 64, 4, 3))
    assert not may_run(job(queries=1), Tiles(64, 64, 4, 1))


@rg.program
def slanted(pair):
    """A learned slope, a mask, and a feature that learns."""
    slope = rg.parameter("slope", per="head")
    score = rg.dot(pair.q, pair.k) - slope * abs(pair.i - pair.j)
    return rg.softmax(score, where=pair.j <= pair.i)


def inputs():
    draw = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(1, 2, 70, 16, dtype=torch.float64, generator=draw) for _ in "qkv")
    given = {"q": q, "k": k, "v": v, "slope": torch.tensor([0.1, 0.3], dtype=torch.float64)}
    return {name: x.requires_grad_() for name, x in given.items()}


def run(backend):
    given = inputs()
    q, k, v, slope = given.values()
    out = rg.attend(slanted, q, k, v, slope=slope, backend=backend)
    return [out, *torch.autograd.grad(out.square().sum(), list(given.values()))]


def timed(monkeypatch, milliseconds):
    """Measure as told, running each candidate; return what was tried."""
    tried = []

    def timer(device, launch):
        tried.append(1)
        if len(tried) < 5:
            launch()
        return milliseconds(len(tried))

    settled = tune.find_tiles
    monkeypatch.setattr(
        caller,
        "find_tiles",
        lambda module, job, device, launch: settled(module, job, device, launch, timer),
    )
    return tried


def forget(monkeypatch):
    """Do as another process would."""
    monkeypatch.setattr(figures, "_known", {})
    from regard.backends.cpu import kernel
    from regard.ops import kind, plan

    for cache in (kernel._compile, plan.make_plan, plan.compiled, kind.kind_of):
        cache.cache_clear()


def test_nothing_is_measured_unless_it_is_asked_for(triton, folder, monkeypatch):
    forget(monkeypatch)
    monkeypatch.delenv("REGARD_TUNE", raising=False)
    tried = timed(monkeypatch, lambda count: 1.0)
    run("triton")
    assert not tried and not folder.exists()


def test_every_sweep_is_measured_once_and_the_next_process_reads_it(triton, folder, monkeypatch):
    forget(monkeypatch)
    monkeypatch.setenv("REGARD_TUNE", "1000")
    tried = timed(monkeypatch, lambda count: 1.0 + count * 7 % 5)
    expected = run("reference")
    for found, value in zip(run("triton"), expected, strict=True):
        torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)
    kept = [json.loads(path.read_text()) for path in folder.iterdir()]
    assert sorted(one["about"]["what"] for one in kept) == ["i", "j", "rows"]
    assert sum(len(one["found"]["tried"]) for one in kept) == len(tried) > 9
    for one in kept:
        *best, ms = min(one["found"]["tried"], key=lambda tried: tried[-1])
        assert (one["found"]["tiles"], one["found"]["ms"]) == (best, ms)

    forget(monkeypatch)
    tried.clear()
    chosen = []
    launch = caller.TritonCaller._launch
    monkeypatch.setattr(
        caller.TritonCaller,
        "_launch",
        lambda self, *given: chosen.append(given[5]) or launch(self, *given),
    )
    run("triton")
    assert not tried
    assert {tuple(one["found"]["tiles"]) for one in kept} == {tiles_of(one) for one in chosen}


def tiles_of(one):
    return one.rows, one.keys, one.warps, one.stages


def test_time_is_bounded(triton, folder, monkeypatch):
    forget(monkeypatch)
    monkeypatch.setenv("REGARD_TUNE", "1e-9")
    tried = timed(monkeypatch, lambda count: 1.0)
    run("triton")
    assert len(tried) == 3


def test_nothing_is_kept_where_no_candidate_runs(triton, folder, monkeypatch):
    forget(monkeypatch)
    monkeypatch.setenv("REGARD_TUNE", "1000")
    timed(monkeypatch, lambda count: None)
    run("triton")
    assert not folder.exists()


@pytest.mark.parametrize("wrong", [[7, 64, 4, 1], ["a"], None, [16, 16, 4, 1, 1]])
def test_kept_tiles_that_make_no_sense_are_not_taken(folder, wrong):
    module = next(iter(rg_modules()))
    device = torch.device("cpu")
    figures.keep_figures(tune._about(module, job(), device), {"tiles": wrong})
    assert tune.known_tiles(module, job(), device) == choose_tiles(job())


def rg_modules() -> list[TritonModule]:
    from regard.backends.triton import TritonBackend
    from regard.ops.bind import Options
    from regard.ops.prepare import prepare

    q = torch.zeros(1, 2, 64, 16)
    kind, _ = prepare(rg.catalogue.causal(), q, q, q, {}, Options())
    return TritonBackend().compile(kind.request).forward


@pytest.mark.parametrize("size", [(32, 64, 4, 2), (64, 32, 8, 1), (16, 16, 1, 4)])
def test_every_candidate_gives_the_same(triton, monkeypatch, size):
    forget(monkeypatch)
    monkeypatch.setattr(caller, "find_tiles", lambda *given: Tiles(*size))
    for found, value in zip(run("triton"), run("reference"), strict=True):
        torch.testing.assert_close(found, value, rtol=1e-9, atol=1e-9)
