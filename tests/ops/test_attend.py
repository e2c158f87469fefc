"""attend as a torch function: layouts, dtypes, modes of autograd, and what is remembered."""

import inspect

import pytest
import torch

import regard as rg
from regard.backends.base import registered
from regard.errors import UnsupportedError
from regard.ir.verify import CALL_OPTIONS
from regard.ops import check as check_module
from regard.ops import plan as plan_module
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS

BACKENDS = ["reference", "tiled", "sdpa", "cpu"]
# Those that derive their gradient, behind an autograd Function.
DERIVED = ["tiled", "cpu"]
CAUSAL = PROGRAMS["causal"]


def rows(*shape, dtype=torch.float64, grad=True):
    return torch.randn(*shape, dtype=dtype).requires_grad_(grad)


def qkv(batch=2, heads=4, groups=2, queries=5, keys=7, width=8, values=6, **more):
    return (
        rows(batch, heads, queries, width, **more),
        rows(batch, groups, keys, width, **more),
        rows(batch, groups, keys, values, **more),
    )


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


# ── Layouts ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("backend", BACKENDS)
def test_strides_do_not_matter(backend):
    q, k, v = qkv()
    expected = rg.attend(CAUSAL, q, k, v, backend=backend)
    moved = [x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v)]
    assert not moved[0].is_contiguous()
    close(rg.attend(CAUSAL, *moved, backend=backend), expected.detach())
    spread = torch.stack([q, q], -1)[..., 1]
    close(rg.attend(CAUSAL, spread, k, v, backend=backend), expected)
    one = k[:, :1].expand_as(k)
    close(
        rg.attend(CAUSAL, q, one, v, backend=backend),
        rg.attend(CAUSAL, q, one.contiguous(), v, backend=backend),
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_tensor_in_several_places_gets_the_sum_of_their_gradients(backend):
    x = rows(2, 3, 5, 8)
    parts = [x.detach().clone().requires_grad_() for _ in "qkv"]
    (whole,) = torch.autograd.grad(rg.attend(CAUSAL, x, x, x, backend=backend).sum(), x)
    apart = torch.autograd.grad(rg.attend(CAUSAL, *parts, backend=backend).sum(), parts)
    close(whole, sum(apart))


@pytest.mark.parametrize("backend", BACKENDS)
def test_only_what_asks_for_a_gradient_gets_one(backend):
    q, k, v = qkv()
    output = rg.attend(CAUSAL, q.detach(), k, v.detach(), backend=backend)
    output.sum().backward()
    assert k.grad is not None and q.grad is None and v.grad is None
    assert not rg.attend(CAUSAL, q.detach(), k.detach(), v.detach()).requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
def test_output_is_in_the_dtype_of_q_and_scores_are_not_narrower_than_float32(backend):
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        output = rg.attend(CAUSAL, *qkv(dtype=dtype), backend=backend)
        assert output.dtype == dtype
    observed = rg.attend(CAUSAL, *qkv(dtype=torch.bfloat16), observe=["lse"])[1]["lse"]
    assert observed.dtype == torch.float32


# ── Autograd's modes ──────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("backend", BACKENDS)
def test_modes_without_gradient_leave_nothing_behind(backend, mode):
    q, k, v = qkv(queries=11, keys=13)
    with mode():
        first = rg.attend(CAUSAL, q, k, v, backend=backend)
    assert not first.requires_grad
    output = rg.attend(CAUSAL, q, k, v, backend=backend)
    close(output.detach(), first.clone())
    output.sum().backward()
    assert q.grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_does_not_make_scores_narrower(backend):
    q, k, v = qkv(dtype=torch.float32)
    expected = rg.attend(CAUSAL, q, k, v, backend=backend)
    wanted = torch.autograd.grad(expected.sum(), [q, k, v])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rg.attend(CAUSAL, q, k, v, backend=backend)
        assert torch.is_autocast_enabled("cpu")
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    for one, other in zip(torch.autograd.grad(found.sum(), [q, k, v]), wanted, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("backend", DERIVED)
def test_backward_inside_autocast_is_not_narrower_either(backend):
    q, k, v = qkv(dtype=torch.float32)
    expected = torch.autograd.grad(rg.attend(CAUSAL, q, k, v, backend=backend).sum(), [q, k, v])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = rg.attend(CAUSAL, q, k, v, backend=backend)
        found = torch.autograd.grad(output.sum(), [q, k, v])
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("backend", DERIVED)
def test_tensor_changed_before_backward_is_noticed(backend):
    q, k, v = (x * 1 for x in qkv())
    output = rg.attend(CAUSAL, q, k, v, backend=backend)
    v.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_output_changed_before_backward_is_noticed_where_it_is_read_again():
    q, k, v = qkv()
    output = rg.attend(CAUSAL, q, k, v, backend="cpu")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.mul_(2).sum().backward()


def test_output_changed_before_backward_is_harmless_where_it_is_not_read_again():
    q, k, v = qkv()
    output = rg.attend(CAUSAL, q, k, v, backend="tiled")
    expected = torch.autograd.grad(output.sum(), [q, k, v], retain_graph=True)
    for one, other in zip(
        torch.autograd.grad(output.mul_(2).sum(), [q, k, v]), expected, strict=True
    ):
        torch.testing.assert_close(one, 2 * other)


@pytest.mark.parametrize("backend", DERIVED)
def test_second_backward_of_a_graph_that_is_kept_gives_the_same(backend):
    q, k, v = qkv()
    output = rg.attend(CAUSAL, q, k, v, backend=backend).sum()
    first = torch.autograd.grad(output, [q, k, v], retain_graph=True)
    second = torch.autograd.grad(output, [q, k, v])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("backend", DERIVED)
def test_gradient_of_a_gradient_is_refused_and_given_by_reference(backend):
    q, k, v = qkv()

    def penalty(backend):
        output = rg.attend(CAUSAL, q, k, v, backend=backend).sum()
        (grad,) = torch.autograd.grad(output, q, create_graph=True)
        # Without the refusal, the penalty's part of this gradient would be missing in silence.
        return output + grad.square().sum()

    with pytest.raises(UnsupportedError) as caught:
        penalty(backend).backward()
    assert str(caught.value) == (
        f"backend '{backend}' gives no second derivatives; use backend=\"reference\""
    )
    penalty("reference").backward()
    assert v.grad.isfinite().all()


@pytest.mark.parametrize("backend", DERIVED)
def test_graph_of_a_gradient_that_nobody_differentiates_does_no_harm(backend):
    q, k, v = qkv()
    output = rg.attend(CAUSAL, q, k, v, backend=backend).sum()
    found = torch.autograd.grad(output, [q, k, v], create_graph=True)
    plain = torch.autograd.grad(rg.attend(CAUSAL, q, k, v, backend=backend).sum(), [q, k, v])
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))


@pytest.mark.parametrize("backend", DERIVED)
def test_largest_score_has_no_gradient_and_the_others_have(backend):
    q, k, v = qkv()
    _, seen = rg.attend(CAUSAL, q, k, v, observe=["max", "lse", "entropy"], backend=backend)
    assert {name: value.requires_grad for name, value in seen.items()} == {
        "max": False,
        "lse": True,
        "entropy": True,
    }


@pytest.mark.parametrize("backend", DERIVED)
def test_results_do_not_depend_on_the_number_of_threads(backend):
    inputs = make_inputs(PROGRAMS["t5_buckets"].root, Sizes(N=130, M=140), torch.float32)
    learned = [x.requires_grad_() for x in inputs.values()]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            output = rg.attend(PROGRAMS["t5_buckets"], **inputs, backend=backend)
            found.append([output, *torch.autograd.grad(output.sum(), learned)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


# ── Plans ─────────────────────────────────────────────────────────────────────────────────────
def test_second_call_of_a_kind_analyses_nothing(monkeypatch):
    program = rg.program(lambda pair: rg.softmax(rg.dot(pair.q, pair.k) * 1.25, sink=0.5))

    def run():
        q, k, v = qkv(queries=6)
        rg.attend(program, q, k, v, query_offset=2, key_lengths=[7, 3]).sum().backward()

    run()
    kept = plan_module.make_plan.cache_info().misses, plan_module.compiled.cache_info().misses
    for name in ("infer_widths", "resolve_channels", "verify_program"):
        monkeypatch.setattr(check_module, name, lambda *_, name=name: pytest.fail(name))
    monkeypatch.setattr(
        registered()["tiled"], "compile", lambda _: pytest.fail("compiled again"), raising=False
    )
    run()
    assert kept == (
        plan_module.make_plan.cache_info().misses,
        plan_module.compiled.cache_info().misses,
    )


def test_numbers_of_a_call_are_no_part_of_its_plan():
    program = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k) * rg.scalar("heat"), p.j <= p.i))
    q, k, v = qkv()
    rg.attend(program, q, k, v, heat=0.5, query_offset=3, seed=1)
    before = plan_module.make_plan.cache_info().misses
    for heat, offset, seed in ((0.7, 4, 2), (1.5, 9, 3)):
        rg.attend(program, q, k, v, heat=heat, query_offset=offset, seed=seed)
    assert plan_module.make_plan.cache_info().misses == before


def test_auto_takes_the_next_backend_when_one_declines_the_numbers():
    q, k, v = qkv(queries=3, keys=5, grad=False)
    expected = rg.attend(CAUSAL, q, k, v, backend="sdpa")
    k[:, :, 4] = v[:, :, 4] = torch.nan
    close(rg.attend(CAUSAL, q, k, v), expected)
    with pytest.raises(UnsupportedError) as caught:
        rg.attend(CAUSAL, q, k, v, backend="sdpa")
    assert str(caught.value) == (
        "backend 'sdpa' declined this call: "
        "q, k or v holds NaN or infinity, and torch's kernels would let hidden ones through"
    )


def test_backend_that_cannot_run_a_program_says_why():
    sparse = PROGRAMS["sparsemax_window"]
    with pytest.raises(UnsupportedError) as caught:
        rg.attend(sparse, *qkv(), backend="sdpa")
    assert str(caught.value) == (
        "backend 'sdpa' cannot run this program: its weights are not one softmax"
    )
    assert rg.attend(sparse, *qkv()).shape == (2, 4, 5, 6)


def test_options_of_attend_are_the_names_a_program_cannot_take():
    signature = inspect.signature(rg.attend).parameters
    own = set(signature) - {"q", "k", "v", "named_inputs"}
    assert own == set(CALL_OPTIONS)
