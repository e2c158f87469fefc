"""Which backend "auto" chooses, why not another, and what a person can say about it."""

import warnings

import pytest
import torch

import regard as rg
from regard.backends import cpu
from regard.backends.base import registered
from regard.errors import InputError, UnsupportedError
from regard.ir.nodes import Array, Feature, walk
from regard.ops import plan as plan_module
from regard.ops.bind import Options
from regard.ops.kind import kind_of
from regard.ops.plan import ORDER_VARIABLE, make_plan
from regard.ops.prepare import prepare
from regard.testing.programs import PROGRAMS

# 2 · 4 · 600 · 600 pairs of 8 + 8 channels: more than is left to others.
LARGE, SMALL = (2, 4, 600, 8), (2, 4, 17, 8)
NO_COMPILER = "no C++ compiler (g++, clang++, c++) is on PATH; install one or set REGARD_CXX"


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    """What nobody set: no order of backends, nothing planned, nobody warned."""
    monkeypatch.delenv(ORDER_VARIABLE, raising=False)
    monkeypatch.setattr(plan_module, "_warned", set())
    forget()
    yield
    forget()


def forget():
    make_plan.cache_clear()
    kind_of.cache_clear()


def candidates(shape, program="causal", backend="auto"):
    q = torch.zeros(shape)
    return prepare(PROGRAMS[program], q, q, q, {}, Options(backend=backend))[0].plan.candidates


def test_best_is_first_and_slowest_is_last():
    assert candidates(LARGE) == ("cpu", "sdpa", "tiled", "reference")
    assert list(registered()) == ["cpu", "linear", "sdpa", "tiled", "reference"]


def test_building_a_kernel_is_not_worth_it_for_little_work():
    assert candidates(SMALL) == ("sdpa", "tiled", "cpu", "reference")
    assert candidates(SMALL, "softplus_share") == ("tiled", "cpu", "reference")


def test_little_work_ends_where_it_says():
    # (N · N pairs) · (8 + 8 channels) = 2²⁴ at N = 1024, 2²² at 512.
    assert candidates((1, 1, 1023, 8))[0] == "sdpa"
    assert candidates((1, 1, 1024, 8))[0] == "cpu"
    assert candidates((1, 1, 511, 8), "learned_sink")[:2] == ("tiled", "cpu")
    assert candidates((1, 1, 512, 8), "learned_sink")[:2] == ("cpu", "tiled")


@pytest.mark.parametrize(
    ("shape", "program", "best"),
    [
        # (8 · 8 · N · N pairs) · (32 + 32 channels) = 2²⁸ at N = 256, 2²⁶ at 128.
        ((8, 8, 128, 32), "causal", "sdpa"),
        ((8, 8, 129, 32), "causal", "cpu"),
        # (N · N pairs) · (8 + 8 channels) = 2¹⁸ at N = 128.
        ((1, 1, 127, 8), "learned_sink", "tiled"),
        ((1, 1, 128, 8), "learned_sink", "cpu"),
    ],
)
def test_short_rows_are_trained_by_torch_and_tiles_only_with_next_to_nothing_to_do(
    shape, program, best
):
    q, other = torch.zeros(shape, requires_grad=True), torch.zeros(shape)
    assert prepare(PROGRAMS[program], q, other, other, {}, Options())[0].plan.candidates[0] == best
    # Nobody trains in half precision by torch's kernels for the sake of short rows.
    half = torch.zeros(shape, dtype=torch.bfloat16, requires_grad=True)
    kind, _ = prepare(PROGRAMS[program], half, half, half, {}, Options())
    assert kind.plan.candidates[0] == ("tiled" if best == "tiled" else "cpu")


@pytest.mark.parametrize(
    ("heads", "rows", "keys", "dtype", "best"),
    [
        (8, 1, 1024, torch.float32, "cpu"),
        (8, 1, 1023, torch.float32, "sdpa"),
        (8, 4, 512, torch.float64, "cpu"),
        (8, 5, 512, torch.float32, "sdpa"),
        (64, 1, 511, torch.float32, "sdpa"),
        (8, 1, 1024, torch.bfloat16, "sdpa"),
    ],
)
def test_a_step_of_decoding_repays_a_kernel_sooner(heads, rows, keys, dtype, best):
    q = torch.zeros(1, heads, rows, 64, dtype=dtype)
    k = torch.zeros(1, heads, keys, 64, dtype=dtype)
    kind, _ = prepare(PROGRAMS["causal"], q, k, k, {}, Options())
    assert kind.plan.candidates[0] == best
    kind, _ = prepare(PROGRAMS["causal"], q.requires_grad_(), k, k, {}, Options())
    assert kind.plan.candidates[0] == "sdpa"


def test_reasons_against_the_others_are_told():
    found = rg.explain(PROGRAMS["causal"], LARGE)
    assert found.backend == "cpu"
    first = "'cpu' comes first"
    assert found.otherwise == {
        "linear": "its weights are not one weigh or ratio",
        **dict.fromkeys(("sdpa", "tiled", "reference"), first),
    }
    found = rg.explain(PROGRAMS["scaled_dot_product"], LARGE, observe=["weights"])
    assert found.backend == "tiled"
    assert found.otherwise["cpu"] == "its kernels never hold dense weights"
    assert "runs on: tiled\n  not linear: its weights" in str(found)
    assert "\n  not cpu: its kernels never hold" in str(found)


def test_order_can_be_chosen(monkeypatch):
    monkeypatch.setenv(ORDER_VARIABLE, "tiled, reference")
    assert candidates(LARGE) == candidates(SMALL) == ("tiled", "reference")
    forget()
    monkeypatch.setenv(ORDER_VARIABLE, "sdpa")
    with pytest.raises(UnsupportedError, match=r"^backend 'sdpa' cannot run this program: its we"):
        candidates(LARGE, "softplus_share")


def test_backend_that_is_named_needs_no_order(monkeypatch):
    monkeypatch.setenv(ORDER_VARIABLE, "sdpa")
    assert candidates(LARGE, backend="reference") == ("reference",)


def test_order_of_nothing_is_no_order(monkeypatch):
    monkeypatch.setenv(ORDER_VARIABLE, "")
    assert candidates(LARGE)[0] == "cpu"


def test_order_names_backends_that_exist(monkeypatch):
    monkeypatch.setenv(ORDER_VARIABLE, "sdpa,tilde")
    with pytest.raises(InputError) as caught:
        candidates(LARGE)
    assert str(caught.value) == (
        "REGARD_BACKENDS names 'tilde', which is no backend; did you mean 'tiled'? "
        "known: cpu, linear, reference, sdpa, tiled"
    )


# ── Without a compiler ────────────────────────────────────────────────────────────────────────
@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(cpu, "find_compiler", lambda: NO_COMPILER)


def test_program_runs_in_tiles_without_a_compiler_and_one_warning_says_so(no_compiler):
    x = torch.randn(1, 2, 5, 4)
    with pytest.warns(UserWarning) as caught:
        found = rg.attend(PROGRAMS["softplus_share"], x, x, x)
    assert [str(one.message) for one in caught] == [
        f"programs run on the portable backend, several times slower: {NO_COMPILER}"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rg.attend(PROGRAMS["softplus_share"], x[:, :, :4], x, x)
    expected = rg.attend(PROGRAMS["softplus_share"], x, x, x, backend="tiled")
    assert torch.equal(found, expected)


def test_explanation_tells_that_there_is_no_compiler(no_compiler):
    with pytest.warns(UserWarning, match="portable backend"):
        found = rg.explain(PROGRAMS["softplus_share"], LARGE)
    assert found.backend == "tiled"
    assert found.otherwise["cpu"] == NO_COMPILER


def test_nobody_is_warned_where_torch_has_a_kernel(no_compiler):
    assert candidates(LARGE) == ("sdpa", "tiled", "reference")


def test_backend_named_without_a_compiler_is_refused(no_compiler):
    with pytest.raises(UnsupportedError) as caught:
        candidates(LARGE, backend="cpu")
    assert str(caught.value) == f"backend 'cpu' cannot run this program: {NO_COMPILER}"


def test_compiler_that_does_not_serve_is_told_as_well(monkeypatch):
    reason = "REGARD_CXX=tcc: it is neither GCC nor Clang"
    monkeypatch.setattr(cpu, "find_compiler", lambda: reason)
    with pytest.warns(UserWarning, match="neither GCC nor Clang"):
        assert candidates(LARGE, "softplus_share") == ("tiled", "reference")


def test_program_that_no_kernel_runs_needs_no_compiler():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rg.explain(PROGRAMS["stick_breaking"], LARGE).backend == "tiled"


# ── Masks that cannot be meant ───────────────────────────────────────────────────────────────
def masked(condition):
    return rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k), where=condition(p)))


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        (lambda p: p.keys > 0, "reads neither i nor j nor any data, so it says the same of every"),
        (lambda p: (p.j < p.i) & (p.j > p.i), "contradicts itself: it hides every pair, i = j = 0"),
        (lambda p: (p.j > 5000) & (p.j < 4000), "contradicts itself: .* from -20048 to 20047"),
        (lambda p: p.j > p.i + 99, r"hides every pair of this call: its 17 queries .* i = 16 and"),
    ],
)
def test_mask_that_cannot_be_meant_is_told_once(condition, why):
    program, q = masked(condition), torch.zeros(SMALL)
    with pytest.warns(UserWarning, match=f"the mask of 'a' {why}"):
        rg.attend(program, q, q, q, backend="reference")
    forget()
    rg.attend(program, q, q, q, backend="reference")


@pytest.mark.parametrize(
    ("condition", "offset"),
    [
        (lambda p: p.j < p.i, 0),
        (lambda p: p.j > 10**6, 1),
        (lambda p: (p.j > p.i) & (rg.query_feature("a") > 1) & (rg.query_feature("a") < 2), 0),
        (lambda p: rg.table("t", per=3)[p.head], 0),
        (lambda p: (p.head >= 4) & (p.j <= p.i), 0),
        (lambda p: rg.keep(0.5, "ij"), 0),
        (lambda p: rg.dot(p.q, p.k) > 0, 0),
    ],
)
def test_mask_that_may_be_meant_is_not_told(condition, offset):
    program, q = masked(condition), torch.zeros(SMALL)
    names = {n.name for n in walk(program.root) if isinstance(n, Feature | Array)}
    given = {"a": torch.zeros(17), "t": torch.ones(3, dtype=torch.bool)}
    given = {name: tensor for name, tensor in given.items() if name in names}
    rg.attend(program, q, q, q, backend="reference", query_offset=offset, **given)
    one = q[:, :, :1]
    rg.attend(masked(lambda p: p.j < p.i), one, one, one, backend="reference")


def same_document(p):
    return rg.query_feature("mine") == rg.key_feature("other")


def test_data_that_hide_every_pair_are_told_once():
    program, q = masked(same_document), torch.zeros(SMALL)
    one, two = torch.zeros(17, dtype=torch.int64), torch.ones(17, dtype=torch.int64)
    rg.attend(program, q, q, q, backend="tiled", mine=one, other=one)
    forget()
    why = "hides every pair of this call: with what 'mine' and 'other' holds, not even query 0"
    with pytest.warns(UserWarning, match=f"the mask of 'a' {why}"):
        rg.attend(program, q, q, q, backend="tiled", mine=one, other=two)
    forget()
    rg.attend(program, q, q, q, backend="tiled", mine=one, other=two)


def test_lengths_of_nothing_are_not_told():
    program, q = masked(same_document), torch.zeros(SMALL)
    one = torch.zeros(17, dtype=torch.int64)
    lengths = torch.zeros(2, dtype=torch.int64)
    rg.attend(program, q, q, q, backend="tiled", mine=one, other=one, key_lengths=lengths)
