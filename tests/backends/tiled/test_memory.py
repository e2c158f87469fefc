"""The tiled backend holds O(N · tile) numbers: no N×M tensor and no (N, M, D) tensor, ever."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import regard as rg
from regard.backends.tiled.kernel import CHANNEL_TILE_NUMBERS, TILE_NUMBERS
from regard.testing.programs import PROGRAMS

FLOAT32_BYTES = 4


class Measure(TorchDispatchMode):
    """Records the largest storage that any operation made, and the most that lived at once."""

    def __init__(self):
        super().__init__()
        self.largest = self.alive = self.most = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.note(tensor.untyped_storage())
        return result

    def note(self, storage):
        place, size = storage._cdata, storage.nbytes()
        if place in self.known:
            return
        self.known.add(place)
        self.largest = max(self.largest, size)
        self.alive += size
        self.most = max(self.most, self.alive)
        weakref.finalize(storage, self.forget, place, size)

    def forget(self, place, size):
        self.known.discard(place)
        self.alive -= size


def measure(program, length, width, **inputs):
    """Run forward and backward over `length` queries and keys, and return what was measured."""
    q, k, v = (torch.randn(1, 1, length, width, requires_grad=True) for _ in "qkv")
    with Measure() as measured:
        output = rg.attend(program, q, k, v, backend="tiled", **inputs)
        output.sum().backward()
    assert q.grad is not None and k.grad is not None and v.grad is not None
    return measured


@rg.program
def relative_keys(pair):
    rows = rg.parameter("rows", per=(9, "channel"), init=rg.init.normal(1.0))
    step = rg.clip(pair.i - pair.j, -4, 4) + 4
    return rg.output(rg.softmax(rg.dot(pair.q, pair.k + rows[step])), values=pair.v + rows[step])


ROWS_ALONE = ["causal", "alibi", "t5_buckets", "softpick", "differential", "laser", "drop_key"]


@pytest.mark.parametrize("name", ["causal", "softpick"])
def test_no_tensor_is_as_large_as_all_pairs(name):
    check_pairs(PROGRAMS[name], 2048)


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS_ALONE)
def test_no_tensor_is_as_large_as_all_pairs_of_4096(name):
    check_pairs(PROGRAMS[name], 4096)


def check_pairs(program, length):
    extra = {}
    if "q2" in {leaf.name for leaf in program.inputs}:
        extra = {"q2": torch.randn(1, 1, length, 4), "k2": torch.randn(1, 1, length, 4)}
    if "p" in {leaf.name for leaf in program.inputs}:
        extra = {"p": 0.1, "seed": 3}
    measured = measure(program, length, 8, **extra)
    # Index values of a tile are int64, twice as large as its float32 ones.
    assert measured.largest <= 2 * FLOAT32_BYTES * TILE_NUMBERS < FLOAT32_BYTES * length**2


@pytest.mark.parametrize("length", [512, pytest.param(4096, marks=pytest.mark.slow)])
@pytest.mark.parametrize("program", [PROGRAMS["additive"], relative_keys], ids=lambda p: p.name)
def test_no_tensor_has_channels_at_all_pairs(program, length):
    width = 8 if length == 4096 else 32
    measured = measure(program, length, width)
    assert measured.largest <= FLOAT32_BYTES * CHANNEL_TILE_NUMBERS
    assert measured.largest <= FLOAT32_BYTES * length**2 * width / 4


@pytest.mark.slow
def test_what_lives_at_once_grows_with_the_length_and_not_with_its_square():
    # A tile is full from 2048 rows on, so only q, k, v, their gradients and row values grow.
    short, long = (measure(PROGRAMS["alibi"], length, 8).most for length in (2048, 4096))
    assert long - short <= 2048 * FLOAT32_BYTES * 128
    assert long < 32 * FLOAT32_BYTES * TILE_NUMBERS


def test_the_measurement_sees_a_dense_implementation():
    q, k, v = (torch.randn(1, 1, 256, 8, requires_grad=True) for _ in "qkv")
    with Measure() as measured:
        weights = torch.softmax(q @ k.mT, -1)
        del weights
    assert measured.largest == FLOAT32_BYTES * 256**2
    with Measure() as measured:
        rg.attend(PROGRAMS["scaled_dot_product"], q, k, v, backend="reference").sum().backward()
    assert measured.largest >= FLOAT32_BYTES * 256**2 * 8
    assert measured.most > measured.largest


@rg.program
def wide_network(pair):
    first = rg.parameter("first", per=("channel", "channel"), init=rg.init.normal(0.3))
    last = rg.parameter("last", per="channel", init=rg.init.normal(1.0))
    hidden = rg.project(pair.q, first, width=4096) + rg.project(pair.k, first, width=4096)
    return rg.softmax(rg.sum(last * rg.relu(hidden)))


def test_width_that_counts_is_that_of_the_pair_and_not_of_the_rows():
    assert measure(wide_network, 64, 4).largest <= FLOAT32_BYTES * CHANNEL_TILE_NUMBERS
