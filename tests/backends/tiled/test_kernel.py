"""Tiles fit the memory they are meant for, and can be forced for tests and measurements."""

import pytest
import torch

import regard as rg
from regard.backends.tiled import forward, kernel
from regard.backends.tiled.kernel import CHANNEL_TILE_NUMBERS, LEAST_ROWS, TILE_NUMBERS, force_tile
from regard.backends.values.evaluate import Evaluator
from regard.ops.explain import explain
from regard.ops.plan import compiled
from regard.testing.contract import run_both
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

SHAPES = [(1, 1, 100_000, 64), (1, 1, 16, 64), (32, 16, 4096, 128), (1, 1, 1, 8), (512, 64, 9, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["softmax_one", "additive", "manhattan"])
def test_tile_fits_its_memory_or_is_the_least_there_is(name, shape):
    rows, keys = explain(PROGRAMS[name], shape, backend="tiled").tile
    batch, heads, length, width = shape
    assert 1 <= rows <= length and 1 <= keys <= length
    channels = name != "softmax_one"
    numbers = batch * heads * rows * keys * (width if channels else 1)
    least = rows <= LEAST_ROWS and keys <= LEAST_ROWS
    assert least or numbers <= (CHANNEL_TILE_NUMBERS if channels else TILE_NUMBERS)


def test_tile_is_forced_inside_the_block_alone():
    outside = explain(PROGRAMS["softmax_one"], (1, 1, 50, 8)).tile
    with force_tile(3, 4):
        assert explain(PROGRAMS["softmax_one"], (1, 1, 50, 8)).tile == (3, 4)
        with force_tile(5, 6):
            assert explain(PROGRAMS["softmax_one"], (1, 1, 50, 8)).tile == (5, 6)
        assert explain(PROGRAMS["softmax_one"], (1, 1, 50, 8)).tile == (3, 4)
    assert explain(PROGRAMS["softmax_one"], (1, 1, 50, 8)).tile == outside == (50, 50)
    with pytest.raises(RuntimeError, match="in the block"), force_tile(3, 4):
        raise RuntimeError("in the block")
    assert explain(PROGRAMS["softmax_one"], (1, 1, 50, 8)).tile == outside


@pytest.mark.parametrize("name", ["learned_sink", "differential", "laser", "gated", "query_sink"])
def test_tiles_of_every_size_give_the_same(name):
    inputs = make_inputs(PROGRAMS[name].root, Sizes(N=9, M=11), torch.float64)
    expected = run_both(PROGRAMS[name], inputs, backend="tiled", query_offset=3)
    for tile in ((1, 1), (2, 11), (9, 1), (4, 3), (100, 100)):
        with force_tile(*tile):
            found = run_both(PROGRAMS[name], inputs, backend="tiled", query_offset=3)
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-12, atol=1e-12)


def test_backward_may_choose_other_keys_than_forward():
    q, k, v = (torch.randn(1, 2, 9, 4, dtype=torch.float64, requires_grad=True) for _ in "qkv")
    expected = torch.autograd.grad(rg.attend(PROGRAMS["causal"], q, k, v).sum(), [q, k, v])
    with force_tile(4, 2):
        output = rg.attend(PROGRAMS["causal"], q, k, v, backend="tiled")
    found = torch.autograd.grad(output.sum(), [q, k, v])
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_forcing_a_tile_compiles_nothing_anew():
    inputs = make_inputs(PROGRAMS["softmax_one"].root, Sizes(), torch.float64)
    rg.attend(PROGRAMS["softmax_one"], **inputs)
    before = compiled.cache_info().misses
    with force_tile(2, 2):
        rg.attend(PROGRAMS["softmax_one"], **inputs)
    assert compiled.cache_info().misses == before
    assert kernel.TILE_NUMBERS == 1 << 20


@rg.program
def called_like_positions(pair):
    """Name parameters as positions, sizes and a term are named."""
    score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width) * rg.parameter("width")
    score = score + rg.parameter("i", per="head") * pair.i * 0.1 + pair.keys * 0.1
    return rg.softmax(score + rg.table("keys")[pair.j] * rg.parameter("a"), name="a")


def test_parameter_may_be_called_like_a_position_or_a_term():
    inputs = make_inputs(called_like_positions.root, Sizes(N=5, M=6), torch.float64)
    expected, found = (
        run_both(called_like_positions, inputs, backend=backend)
        for backend in ("reference", "tiled")
    )
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["causal", "window", "alibi"])
def test_tiles_that_nobody_sees_are_not_visited(name, monkeypatch):
    visited = []
    see = forward.Sweep.see
    monkeypatch.setattr(
        forward.Sweep, "see", lambda sweep, at: [visited.append(at.tile), see(sweep, at)]
    )
    q = torch.randn(1, 2, 64, 4)
    with force_tile(8, 8):
        rg.attend(PROGRAMS[name], q, q, q, backend="tiled")
    # Two sweeps: the sums of rows, then weights and values.
    assert all(visited.count(tile) == 2 for tile in visited)
    seen = 8 + 7 if name == "window" else 36
    assert len(visited) == 2 * seen and all(tile.j0 <= tile.i0 for tile in visited)


def test_mask_is_not_asked_where_it_admits_all(monkeypatch):
    asked, condition = [], Evaluator.condition
    mask = PROGRAMS["causal"].root.weights.where

    def watched(at, node):
        if node is mask:
            asked.append(at.tile)
        return condition(at, node)

    monkeypatch.setattr(Evaluator, "condition", watched)
    q = torch.randn(1, 2, 64, 4)
    with force_tile(8, 8):
        rg.attend(PROGRAMS["causal"], q, q, q, backend="tiled")
    assert asked and all(tile.i0 == tile.j0 for tile in asked)
