"""Keys that a program hides from every query are left out of a call, and nothing else changes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given

import regard as rg
from regard.backends.base import registered
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.ops import gather, kind
from regard.ops.gather import gathered_size, rounded
from regard.ops.kind import kind_of
from regard.ops.prepare import Options, prepare
from regard.passes.restrict_where import restrict_where
from regard.testing.accuracy import largest, worst_error
from regard.testing.contract import run_both
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.random_calls import calls

SIZES = Sizes(N=17, M=210)


@pytest.fixture(autouse=True)
def _small_calls_gather(monkeypatch):
    """Let calls gather that are small enough for the reference."""
    monkeypatch.setattr(kind, "_FEWEST_PAIRS", 0)
    monkeypatch.setattr(kind, "_FEWEST_ROWS", 0)
    kind_of.cache_clear()
    yield
    kind_of.cache_clear()


@pytest.fixture
def keys_of(monkeypatch):
    """Return how many keys a backend is given, call by call."""

    def spy(name):
        found, backend = [], registered()[name]
        forward = type(backend).forward

        def noted(self, kernel, bound):
            found.append(bound.keys)
            return forward(self, kernel, bound)

        monkeypatch.setattr(type(backend), "forward", noted)
        return found

    return spy


def keep():
    return rg.key_feature("keep")


def score(p):
    return rg.dot(p.q, p.k) / rg.sqrt(p.width)


def plain(p):
    return rg.softmax(score(p), where=keep())


def everything(p):
    bias = rg.pair_input("bias") + rg.table("far", per=("rows",))[p.j // 20]
    bias = bias + rg.key_feature("height") * rg.parameter("slope", per="head") * (p.i - p.j)
    where = (p.j <= p.i + 200) & keep() & (rg.key_feature("quality") > -0.2)
    weights = rg.softmax(score(p) + bias + rg.dot(p.q, rg.key_vector("more")), where=where)
    return rg.output(weights, values=p.v * rg.key_feature("height"))


def two_terms(p):
    first = rg.softmax(score(p) * rg.log(p.visible), where=keep(), sink=0.5)
    other = rg.key_feature("other") & (p.j <= p.i + 100)
    return first - rg.parameter("share") * rg.softmax(score(p) / 2, where=other)


def by_head(p):
    return rg.ratio(rg.exp(score(p)), where=keep() & (p.j % 4 >= p.head), add=0.5)


def linear(p):
    return rg.weigh(score(p), where=keep() & (p.j % 3 == 0))


SHOWN = {
    "plain": plain, "everything": everything, "two terms": two_terms, "by head": by_head,
    "linear": linear,
}  # fmt: skip


def inputs_of(program, sizes=SIZES, **features):
    made = make_inputs(program.root, sizes)
    shape = (sizes.B, 1, sizes.M)
    if "keep" in made:
        # Batch rows of different counts.
        share = torch.linspace(0.1, 0.4, sizes.B).view(-1, 1, 1)
        made["keep"] = torch.rand(shape) < share
    if "other" in made:
        made["other"] = torch.rand(shape) < 0.1
    return {**made, **features}


def check(program, inputs, *, backend="tiled", observe=(), **options):
    run = {"observe": observe, "seed": None, **options}
    found = run_both(program, inputs, backend=backend, **run)
    expected = run_both(program, inputs, backend="reference", **run)
    assert found.keys() == expected.keys()
    scale = max(1.0, *map(largest, expected.values()))
    for name, value in expected.items():
        assert worst_error(found[name], value) <= 1e-12 * scale, name


@pytest.mark.parametrize("name", SHOWN)
def test_values_and_gradients_are_those_of_all_keys(name, keys_of):
    program, keys = rg.program(SHOWN[name]), keys_of("tiled")
    observe = ("lse:a", "entropy:a") if name in ("plain", "everything", "two terms") else ()
    check(program, inputs_of(program), observe=observe)
    assert keys and max(keys) < SIZES.M


@pytest.mark.parametrize("name", ["plain", "everything"])
def test_kernels_are_given_gathered_keys(name, keys_of):
    program, keys = rg.program(SHOWN[name]), keys_of("cpu")
    check(program, inputs_of(program), backend="cpu")
    assert len(keys) == 1 and keys[0] < SIZES.M


OPTIONS = {
    "lengths": {"key_lengths": torch.tensor([150, 40])},
    "no keys": {"key_lengths": torch.tensor([0, 210])},
    "query lengths": {"query_lengths": torch.tensor([3, 17])},
    "an offset": {"query_offset": 30},
    "offsets": {"query_offset": torch.tensor([-7, 90])},
    "positions": {"key_positions": torch.randperm(210, generator=torch.Generator().manual_seed(2))},
    "positions of each row": {"key_positions": torch.arange(420).view(2, 210) - 50},
    "some heads": {"first_head": 2, "total_heads": 8},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_mean_what_they_mean_of_all_keys(name, keys_of):
    program, keys = rg.program(everything), keys_of("tiled")
    inputs = inputs_of(program)
    inputs["slope"] = torch.randn(8 if name == "some heads" else 4, dtype=torch.float64)
    check(program, inputs, observe=("lse:a",), **OPTIONS[name])
    assert keys and max(keys) < SIZES.M


@pytest.mark.parametrize("seen", [0, 1, 64, 65, 209, 210])
def test_few_none_and_all_are_seen(seen, keys_of):
    program, keys = rg.program(plain), keys_of("tiled")
    kept = torch.zeros(2, 1, 210, dtype=torch.bool)
    kept[0, :, torch.randperm(210)[:seen]] = True
    check(program, inputs_of(program, keep=kept), observe=("lse:a",))
    assert keys == [{0: 64, 64: 64, 65: 128}.get(seen, 210)]


def test_rows_of_each_head_are_kept_if_one_head_sees_them(keys_of):
    program, keys = rg.program(plain), keys_of("tiled")
    for heads in (4, 2):
        kept = torch.rand(2, heads, 210) < 0.08
        check(program, inputs_of(program, keep=kept))
    assert max(keys) < 210


def test_features_shared_by_batch_rows_or_keys_are_read_as_before(keys_of):
    program, keys = rg.program(everything), keys_of("tiled")
    inputs = inputs_of(program)
    for shape in ((1, 1, 210), (210,), (2, 1, 1)):
        check(program, {**inputs, "height": torch.randn(shape, dtype=torch.float64)})
    assert max(keys) < 210


def test_a_pair_input_shared_by_batch_rows_is_not_repeated(keys_of):
    program, keys = rg.program(everything), keys_of("tiled")
    inputs = inputs_of(program)
    inputs["bias"] = inputs["bias"][:1]
    check(program, inputs)
    same = {name: inputs[name][:1].clone() for name in ("keep", "quality")}
    check(program, {**inputs, **same})
    assert keys[0] == 210 > keys[1]


def test_what_hidden_keys_hold_does_no_harm(keys_of):
    program, keys = rg.program(everything), keys_of("tiled")
    inputs = inputs_of(program)
    hidden = ~inputs["keep"][:, :, :, None]
    for name in ("k", "v", "more"):
        inputs[name] = torch.where(hidden, torch.nan, inputs[name])
    inputs["bias"] = torch.where(~inputs["keep"][:, :, None], torch.nan, inputs["bias"])
    check(program, inputs)
    assert max(keys) < 210


UNGATHERED = {
    "draws": (lambda p: rg.dropout(plain(p), rg.scalar("drop")), {"seed": 3}),
    "a count of keys": (lambda p: rg.softmax(score(p) / p.keys, where=keep()), {}),
    "dense weights": (plain, {"observe": ("weights",)}),
}


@pytest.mark.parametrize("name", UNGATHERED)
def test_calls_that_can_tell_are_left_alone(name, keys_of):
    weights, options = UNGATHERED[name]
    program, keys = rg.program(weights), keys_of("tiled")
    check(program, inputs_of(program), **options)
    assert keys == [210]


def test_choices_among_gathered_keys_are_the_same(keys_of):
    def best(p):
        where = keep() & (p.j <= p.i + 150)
        return rg.softmax(score(p), where=where & rg.topk(score(p), 5, where=where))

    program, keys = rg.program(best), keys_of("tiled")
    check(program, inputs_of(program))
    assert keys == [128]


@pytest.mark.filterwarnings("ignore:the mask of")
@given(calls(lengths=(9, 5, 70, 3)))
def test_random_programs_mean_the_same(call):
    root = restrict_where(call.program.root, n.Feature("key", "shown"))
    assert isinstance(root, n.Output)
    batch, keys = call.inputs["k"].shape[0], call.inputs["k"].shape[2]
    shown = torch.rand(batch, 1, keys) < 0.5
    call = replace(call, program=AttentionProgram(root, "a"))
    run = {"seed": call.seed, **call.options}
    observe = tuple(name for name in call.observe if name != "weights")
    inputs = {**call.inputs, "shown": shown}
    with pytest.MonkeyPatch.context() as patch:
        # Nothing is too small, and every key that is left out counts.
        patch.setattr(gather, "BLOCK", 1)
        patch.setattr(gather, "LARGEST_SHARE", 1)
        found = run_both(call.program, inputs, observe, backend="tiled", **run)
    expected = run_both(call.program, inputs, observe, backend="reference", **run)
    scale = max(1.0, *map(largest, expected.values()))
    for name, value in expected.items():
        assert worst_error(found[name], value) <= 1e-10 * scale, name


# ── Around a call ─────────────────────────────────────────────────────────────────────────────
def test_second_derivatives_are_refused_as_they_are_of_all_keys():
    program = rg.program(plain)
    inputs = inputs_of(program)
    k = inputs["k"].requires_grad_()
    output = rg.attend(program, **inputs, backend="tiled")
    (grad,) = torch.autograd.grad(output.sum(), k, create_graph=True)
    with pytest.raises(UnsupportedError, match="no second derivatives"):
        grad.sum().backward()


def test_taking_has_second_derivatives():
    tensor = torch.randn(2, 1, 6, 2, dtype=torch.float64, requires_grad=True)
    for index in ([[4, 0, 2]], [[4, 0, 2], [1, 2, 3]]):
        taken = lambda x, index=index: gather._taken(x, torch.tensor(index), 2)  # noqa: E731
        assert torch.autograd.gradcheck(taken, tensor)
        assert torch.autograd.gradgradcheck(lambda x, taken=taken: taken(x) ** 2, tensor)


def test_a_compiled_graph_gathers(keys_of):
    program, keys = rg.program(plain), keys_of("tiled")
    inputs = inputs_of(program)
    leaves = [inputs[name].requires_grad_() for name in "qkv"]

    def attended(**given):
        return rg.attend(program, **given, backend="tiled").sin()

    step = torch.compile(attended, backend="aot_eager")
    found = torch.autograd.grad(step(**inputs).sum(), leaves)
    assert keys and set(keys) == {128}
    expected = rg.attend(program, **inputs, backend="reference").sin().sum()
    for one, other in zip(found, torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_transforms_of_torch_see_all_keys():
    program = rg.program(plain)
    inputs = inputs_of(program)
    k = inputs.pop("k")

    def total(k):
        return rg.attend(program, inputs["q"], k, inputs["v"], keep=inputs["keep"]).sum()

    expected = torch.autograd.functional.vjp(total, k)[1]
    found = torch.func.grad(total)(k)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# ── The rule ──────────────────────────────────────────────────────────────────────────────────
def test_sizes_are_few_and_large_enough():
    sizes = {rounded(count) for count in range(1 << 14)}
    assert all(count <= rounded(count) <= max(64, count * 1.125 + 64) for count in range(1 << 14))
    assert len(sizes) < 60 and all(size % 64 == 0 for size in sizes)


def test_scattered_keys_are_gathered_and_runs_are_not():
    for share, size in ((0.1, 128), (0.5, 576), (0.9, None)):
        seen = torch.rand(1, 1024) < share
        assert (gathered_size(seen) or 0) // 64 in range(
            (size or 0) // 64 - 1, (size or 0) // 64 + 2
        )
    assert gathered_size((torch.arange(1024) < 300).view(1, -1)) is None
    documents = (torch.arange(1024) // 64 % 3 == 0).view(1, -1)
    assert gathered_size(documents) is None


def test_small_calls_and_few_rows_are_not_looked_at(monkeypatch):
    monkeypatch.undo()
    kind_of.cache_clear()
    program = rg.program(plain)
    for rows, length in ((64, 64), (31, 1 << 18)):
        q, k = torch.zeros(1, 1, rows, 1), torch.zeros(1, 1, length, 1)
        kept = {"keep": torch.ones(length, dtype=torch.bool)}
        assert prepare(program, q, k, k, kept, Options())[0].key_condition is None
        q = torch.zeros(1, 1, max(rows, 1 << 16), 1)
        assert prepare(program, q, k, k, kept, Options())[0].key_condition is not None
