"""A call that lies as an earlier one did runs by what is left of that, and no other call does."""

import pytest
import torch

import regard as rg
from regard.backends.cpu import forward
from tests.backends.cpu.programs import near, rows

SIZES = {"b": 2, "h": 4, "g": 2, "n": 1, "m": 600, "d": 16, "e": 16, "dtype": torch.float32}


@rg.program
def plain(pair):
    """Nothing but rows."""
    return rg.softmax(rg.dot(pair.q, pair.k) / 4)


@rg.program
def dropped(pair):
    """Some pairs are left out at random."""
    return rg.softmax(rg.dot(pair.q, pair.k) / 4, where=rg.keep(0.5))


@pytest.fixture
def long_ways(monkeypatch):
    """What was called the long way, sweep by sweep."""
    ran = []

    def seen(caller, module, *rest, real=forward.Caller.run):
        ran.append(module.what)
        return real(caller, module, *rest)

    monkeypatch.setattr(forward.Caller, "run", seen)
    return ran


@torch.no_grad()
def attended(program, tensors, backend="cpu", **options):
    return rg.attend(program, **tensors, backend=backend, **options)


def check(program, tensors, **options):
    found = attended(program, tensors, **options)
    torch.testing.assert_close(found, attended(program, tensors, "reference", **options))
    return found


def test_a_call_alike_is_made_the_short_way_and_is_the_same(long_ways):
    first, second = rows(**SIZES), {name: x + 1 for name, x in rows(**SIZES).items()}
    kept = check(plain, first)
    long_ways.clear()
    check(plain, second)
    assert torch.equal(attended(plain, first), kept)
    assert long_ways == []


@pytest.mark.parametrize(
    "change",
    [
        lambda x: {**x, "k": x["k"].transpose(1, 2).contiguous().transpose(1, 2)},
        lambda x: {**x, "k": x["k"][:, :, 1:], "v": x["v"][:, :, 1:]},
        lambda x: {**x, "v": x["v"].repeat(1, 1, 1, 2)},
        lambda x: {**x, "q": x["q"][:, :2]},
        lambda x: {name: row[:1] for name, row in x.items()},
        lambda x: {name: row.double() for name, row in x.items()},
    ],
    ids=["strides", "keys", "width of values", "heads", "batch", "dtype"],
)
def test_other_tensors_are_another_call(change):
    tensors = rows(**SIZES)
    check(plain, tensors)
    check(plain, change(tensors))
    check(plain, tensors)


@pytest.mark.parametrize(
    "options",
    [{"key_lengths": [7, 590]}, {"query_lengths": [0, 1]}, {"query_offset": 500}],
    ids=lambda one: next(iter(one)),
)
def test_what_a_call_says_beside_its_tensors_counts(options):
    tensors = rows(**SIZES)
    for program in (plain, near):
        check(program, tensors)
        check(program, tensors, **options)
        check(program, tensors)


def test_every_seed_draws_anew():
    tensors = rows(**SIZES)
    first, second = (check(dropped, tensors, seed=seed) for seed in (1, 2))
    assert not torch.equal(first, second)
    assert torch.equal(check(dropped, tensors, seed=1), first)
    check(dropped, tensors)


def test_a_kernel_remembers_no_more_than_so_many_calls(monkeypatch, long_ways):
    monkeypatch.setattr("regard.backends.cpu.again._MOST", 2)
    tensors = rows(**SIZES)
    for keys in (521, 522, 523, 524, 524):
        check(plain, {**tensors, **{name: tensors[name][:, :, :keys] for name in "kv"}})
    assert len(long_ways) == 4
