"""Kernels do what the reference does where their loops begin and end, and refuse the rest.

What the programs of the contract mean, the contract suite tests; here are the shapes, strides and
numbers that it does not have.
"""

from functools import partial
from itertools import product

import pytest
import torch

import regard as rg
from regard.backends.cpu import forward
from regard.backends.cpu.kernel import KEY_BLOCK, QUERY_BLOCK
from regard.backends.cpu.module import QUERY_STEP
from regard.errors import UnsupportedError
from regard.ops.kind import kind_of
from regard.ops.plan import ORDER_VARIABLE, make_plan
from regard.testing.accuracy import assert_as_good_as_eager, largest, worst_error
from regard.testing.contract import GRADIENT_SLACK
from tests.backends.cpu.ahead import build_ahead
from tests.backends.cpu.programs import (
    additive,
    difference,
    dropping,
    everything,
    near,
    rows,
    run,
    share,
    sinking,
    striped,
)

# One below, at and above the end of a block of queries and of keys, and some blocks.
EDGES = (1, 32, 33, 64, 65, 95, 96, 97, 255, 256, 257, 300, 513)
# Of a result's largest number. Sums of 513 terms in another order differ by some of these.
ROUNDINGS = 2**12


@pytest.fixture(scope="module", autouse=True)
def built():
    """The kernels that most tests share, built two at a time."""
    double, single = (partial(rows, dtype=dtype) for dtype in (torch.float64, torch.float32))
    calls = [partial(run, one, double(), backend="cpu") for one in (near, everything, additive)]
    calls += [partial(run, dropping, double(), seed=1, backend="cpu")]
    calls += [partial(run, near, single(), backend="cpu")]
    for one, dtype in product(DECODED, (torch.float64, torch.float32)):
        if dtype == torch.float64 or one is near:
            calls.append(partial(decode, one, decoded(one, dtype), backend="cpu"))
    build_ahead(calls)


def close(found, expected):
    assert found.keys() == expected.keys()
    scale = max(1.0, *map(largest, expected.values()))
    for name, value in expected.items():
        assert found[name].shape == value.shape
        error = worst_error(found[name], value)
        allowed = ROUNDINGS * torch.finfo(torch.float64).eps * scale
        assert error <= allowed, f"{name}: differs by {error:.2e} of {scale:.2e}"


def check(program, tensors, views=None, **options):
    expected = run(program, tensors, views, backend="reference", **options)
    close(run(program, tensors, views, backend="cpu", **options), expected)


# ── Sizes ─────────────────────────────────────────────────────────────────────────────────────
def test_edges_are_those_of_the_blocks():
    assert {QUERY_BLOCK - 1, QUERY_BLOCK, QUERY_BLOCK + 1} <= set(EDGES)
    assert {KEY_BLOCK - 1, KEY_BLOCK, KEY_BLOCK + 1, 2 * KEY_BLOCK + 1} <= set(EDGES)


@pytest.mark.parametrize(("n", "m"), list(zip(EDGES, EDGES[4:] + EDGES[:4], strict=True)))
@pytest.mark.parametrize("program", [near, everything], ids=lambda p: p.name)
def test_blocks_begin_and_end_where_they_should(program, n, m):
    check(program, rows(n=n, m=m))


@pytest.mark.slow
@pytest.mark.parametrize("program", [near, everything, additive, dropping], ids=lambda p: p.name)
def test_blocks_begin_and_end_where_they_should_in_all_sizes(program):
    for n, m in product(EDGES, EDGES):
        check(program, rows(b=2, h=2, g=2, n=n, m=m, d=5, e=3), seed=1)


@pytest.mark.parametrize(("n", "m"), [(97, 128), (200, 200), (290, 330)])
def test_rows_that_see_nothing_may_stand_between_rows_that_see_everything(n, m):
    assert QUERY_STEP == 32 and QUERY_BLOCK >= 3 * QUERY_STEP, "a stripe is a step of a block"
    check(striped, rows(n=n, m=m))


@pytest.mark.parametrize(("d", "e"), [(1, 130), (3, 80), (20, 1), (72, 20), (80, 72), (130, 3)])
@pytest.mark.parametrize("program", [near, additive], ids=lambda p: p.name)
def test_rows_may_have_any_width(program, d, e):
    check(program, rows(h=4, g=2, n=99, m=41, d=d, e=e))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_heads_that_share_keys_add_up_in_their_gradient(groups):
    check(near, rows(b=2, h=4, g=groups, n=97, m=257))


@pytest.mark.parametrize(
    ("queries", "keys"), [(None, [0, 300]), ([97, 0], None), ([0, 97], [300, 1]), ([96, 1], [0, 0])]
)
@pytest.mark.parametrize("program", [near, additive], ids=lambda p: p.name)
def test_rows_beyond_their_length_are_not_there(program, queries, keys):
    tensors = rows(b=2, n=97, m=300)
    check(program, tensors, query_lengths=queries, key_lengths=keys)


@pytest.mark.parametrize("lengths", [5, torch.tensor([97, 9, 31, 9])[::2]], ids=str)
def test_lengths_may_be_shared_or_lie_apart(lengths):
    check(near, rows(b=2, n=97, m=300), query_lengths=lengths, key_lengths=lengths)


@pytest.mark.parametrize("offset", [-200, 37, 400, torch.tensor([0, 250])], ids=str)
def test_rows_may_stand_anywhere(offset):
    check(near, rows(b=2, n=97, m=300), query_offset=offset)


# ── Strides ───────────────────────────────────────────────────────────────────────────────────
def test_rows_may_lie_behind_those_of_other_heads():
    tensors = {name: x.transpose(1, 2).contiguous() for name, x in rows(b=2, g=2, n=97).items()}
    check(near, tensors, dict.fromkeys("qkv", lambda x: x.transpose(1, 2)))


@pytest.mark.parametrize("program", [near, additive], ids=lambda p: p.name)
def test_channels_may_lie_apart(program):
    check(program, rows(n=97, m=261, d=26, e=22), dict.fromkeys("qkv", lambda x: x[..., 1::2]))


def test_rows_may_lie_apart_and_backwards_in_steps():
    check(near, rows(n=97, m=522), {"k": lambda x: x[:, :, ::2], "v": lambda x: x[:, :, 1::2]})


@pytest.mark.parametrize("program", [near, additive], ids=lambda p: p.name)
def test_batch_rows_and_heads_may_share_memory(program):
    views = {
        "q": lambda x: x[:1].expand(2, -1, -1, -1),
        "k": lambda x: x[:, :1].expand(2, 2, -1, -1),
        "v": lambda x: x[:1, :1].expand(2, 2, -1, -1),
    }
    tensors = rows(b=1, h=4, g=1, n=97, m=261)
    check(program, tensors, views)
    lengths = torch.tensor([261, 100])
    check(program, tensors, views, key_lengths=lengths, query_lengths=[3, 97])


def test_parameters_may_be_expanded():
    tensors = {**rows(h=4), "slope": torch.rand(1, dtype=torch.float64)}
    check(near, tensors, {"slope": lambda x: x.expand(4)})


# ── Numbers ───────────────────────────────────────────────────────────────────────────────────
def hidden(poison):
    """Return rows of which those that no query sees hold something else."""
    tensors = rows(n=40, m=300)
    for name in "kv":
        tensors[name][:, :, 50:60] = poison
    return tensors


@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -torch.inf])
def test_rows_that_are_not_finite_are_declined(poison):
    with pytest.raises(UnsupportedError) as caught:
        run(near, hidden(poison), backend="cpu")
    assert str(caught.value) == (
        "backend 'cpu' declined this call: "
        "a row holds NaN or infinity, which products would let through"
    )


def test_auto_runs_the_next_backend_where_kernels_decline(monkeypatch):
    monkeypatch.setenv(ORDER_VARIABLE, "cpu,tiled")
    for cache in (make_plan, kind_of):
        cache.cache_clear()
    ran, tensors = watched(monkeypatch), hidden(torch.nan)
    close(run(near, tensors), run(near, tensors, backend="tiled"))
    assert ran == ["forward"], "the kernel looked at the numbers first"
    for cache in (make_plan, kind_of):
        cache.cache_clear()


def test_rows_beyond_their_length_may_hold_anything():
    tensors = rows(b=2, n=97, m=300)
    lengths = {"query_lengths": [90, 0], "key_lengths": [257, 3]}
    expected = run(near, tensors, backend="reference", **lengths)
    for name in "qkv":
        ends = lengths["query_lengths" if name == "q" else "key_lengths"]
        for b, end in enumerate(ends):
            tensors[name][b, :, end:] = torch.nan
    close(run(near, tensors, backend="cpu", **lengths), expected)


def test_scores_may_be_large():
    tensors = rows(n=97, m=300)
    tensors["q"] *= 1e4
    check(near, tensors)
    tensors["k"] *= 0
    check(near, tensors)


@pytest.mark.parametrize("heads", [(0, 2), (3, 7)])
def test_draws_are_those_of_the_reference(heads):
    first, total = heads
    tensors = rows(b=2, h=2, g=2, n=97, m=300)
    for seed in (0, 1, -1, 2**62 + 5):
        check(dropping, tensors, seed=seed, first_head=first, total_heads=total)
    one, other = (run(dropping, tensors, seed=seed, backend="cpu") for seed in (1, 2))
    assert not torch.equal(one["output"], other["output"])


# ── Decoding: a few query rows, many keys ─────────────────────────────────────────────────────
DECODED = [near, everything, sinking, difference, share]
CASES = [
    ({"n": 1, "m": 512}, {}),
    ({"n": 3, "m": 700, "h": 4, "g": 2}, {"query_offset": 697}),
    ({"n": 8, "m": 513, "b": 2, "d": 3, "e": 21}, {"query_offset": torch.tensor([300, 505])}),
    (
        {"n": 4, "m": 1030, "b": 3, "h": 3, "d": 20, "e": 130},
        {"query_offset": 900, "key_lengths": [0, 1030, 257], "query_lengths": [4, 2, 0]},
    ),
]


def decoded(program, dtype=torch.float64, b=1, n=1, m=512, **sizes):
    tensors = rows(b=b, n=n, m=m, dtype=dtype, **sizes)
    if program is sinking:
        tensors |= {
            "part": torch.randint(0, 2, (b, 1, n)),
            "kind": torch.arange(m).view(1, 1, m) % 3,
        }
    return tensors


def decode(program, tensors, **options):
    with torch.no_grad():
        return rg.attend(program, **tensors, **options)


def watched(monkeypatch):
    """Return a list that tells what is run from now on."""
    ran = []

    def seen(caller, module, *rest, real=forward.Caller.run):
        ran.append(module.what)
        return real(caller, module, *rest)

    monkeypatch.setattr(forward.Caller, "run", seen)
    # Calls like earlier ones would be made in a shorter way.
    monkeypatch.setattr("regard.backends.cpu.key_of", lambda kernel, bound: None)
    return ran


@pytest.mark.parametrize("place", range(len(CASES)))
@pytest.mark.parametrize("program", DECODED, ids=lambda p: p.name)
def test_few_query_rows_are_attended_in_place(program, place, monkeypatch):
    sizes, options = CASES[place]
    tensors, ran = decoded(program, **sizes), watched(monkeypatch)
    found = decode(program, tensors, backend="cpu", **options)
    assert ran == ["decode"]
    expected = decode(program, tensors, backend="reference", **options)
    close({"output": found}, {"output": expected})


@rg.program
def windows(pair):
    """Each head sees another stretch of keys, the first all before it."""
    far = pair.i - pair.j > 700 / (1 + pair.head)
    return rg.softmax(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width), where=(pair.j <= pair.i) & ~far)


@pytest.mark.parametrize("program", [near, windows], ids=lambda p: p.name)
@pytest.mark.parametrize("sizes", [{"h": 6, "g": 2}, {"h": 13, "g": 1, "n": 8}, {"h": 3, "g": 3}])
def test_heads_of_a_group_are_attended_together(program, sizes, monkeypatch):
    tensors, ran = decoded(program, b=2, m=900, **sizes), watched(monkeypatch)
    expected = decode(program, tensors, backend="reference", query_offset=700)
    for name in "kv":
        tensors[name][:, :, 710:] = torch.nan  # Nobody is that far.
    found = decode(program, tensors, backend="cpu", query_offset=700)
    assert ran == ["decode"]
    close({"output": found}, {"output": expected})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("place", range(len(CASES)))
def test_keys_are_decoded_as_they_are_stored(place, dtype, monkeypatch):
    sizes, options = CASES[place]
    tensors, ran = decoded(near, dtype, **sizes), watched(monkeypatch)
    found = decode(near, tensors, backend="cpu", **options)
    assert ran == ["decode"]
    eager = decode(near, tensors, backend="reference", **options)
    exact = {name: x.double() for name, x in tensors.items()}
    exact = decode(near, exact, backend="reference", **options)
    assert_as_good_as_eager(found, eager, exact, scale=largest(tensors["v"]))


def test_keys_of_a_longer_cache_are_read_where_they_lie(monkeypatch):
    tensors, ran = decoded(near, b=2, g=2, m=700), watched(monkeypatch)
    kept = {name: x.transpose(1, 2).contiguous() for name, x in tensors.items()}
    views = {name: x.transpose(1, 2) for name, x in kept.items()}
    views |= {name: views[name][:, :, 100:640] for name in "kv"}
    found = decode(near, views, backend="cpu", query_offset=539)
    assert ran == ["decode"]
    expected = decode(near, views, backend="reference", query_offset=539)
    close({"output": found}, {"output": expected})


def test_keys_whose_channels_lie_apart_are_laid_out(monkeypatch):
    tensors, ran = decoded(near, d=16, e=16), watched(monkeypatch)
    views = {name: x[..., ::2] for name, x in tensors.items()}
    found = decode(near, views, backend="cpu", query_offset=511)
    assert ran == ["forward"]
    expected = decode(near, views, backend="reference", query_offset=511)
    close({"output": found}, {"output": expected})


# ── Threads ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_depends_on_the_number_of_threads(dtype):
    tensors = rows(b=2, h=4, g=2, n=300, m=600, d=16, e=16, dtype=dtype)
    few = decoded(near, dtype, b=2, h=4, g=2, n=8, m=9000, d=16, e=16)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            trained = run(near, tensors, backend="cpu", query_offset=200)
            found.append([*trained.values(), decode(near, few, backend="cpu", query_offset=8000)])
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))


def test_narrow_numbers_are_computed_with_in_float32():
    tensors = rows(n=97, m=300, dtype=torch.float32)
    tensors = {name: x.bfloat16() for name, x in tensors.items()}
    exact = run(near, {name: x.double() for name, x in tensors.items()}, backend="reference")
    eager, found = (run(near, tensors, backend=name) for name in ("reference", "cpu"))
    scale = max(map(largest, exact.values()))
    for name, value in found.items():
        slack = 2.0 if name == "output" else GRADIENT_SLACK
        assert_as_good_as_eager(value, eager[name], exact[name], slack, scale, name)
