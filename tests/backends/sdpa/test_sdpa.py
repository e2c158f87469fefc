"""Torch's own kernels are called for what they mean exactly, and no mask is made without need."""

import pytest
import torch
from torch.nn import functional

import regard as rg
from regard.backends import sdpa
from regard.errors import UnsupportedError
from regard.testing.inputs import Sizes, make_inputs
from regard.testing.programs import PROGRAMS


@pytest.fixture
def calls(monkeypatch):
    """The keywords of every call of torch's function."""
    seen = []

    def recorded(q, k, v, **options):
        seen.append(options)
        return functional.scaled_dot_product_attention(q, k, v, **options)

    monkeypatch.setattr(sdpa, "scaled_dot_product_attention", recorded)
    return seen


def run(name, sizes=None, dtype=torch.float64, **options):
    inputs = make_inputs(PROGRAMS[name].root, sizes or Sizes(), dtype)
    return rg.attend(PROGRAMS[name], **inputs, backend="sdpa", **options)


def test_plain_attention_needs_no_mask(calls):
    run("scaled_dot_product")
    assert calls == [{"scale": 1 / 8**0.5, "enable_gqa": True, "is_causal": False}]


def test_causal_attention_needs_no_mask(calls):
    run("causal", Sizes(G=4))
    run("causal", query_offset=0)
    assert [call["is_causal"] for call in calls] == [True, True]
    assert [call["enable_gqa"] for call in calls] == [False, True]
    assert not any("attn_mask" in call for call in calls)


@pytest.mark.parametrize(
    "options",
    [
        {"query_offset": 3},
        {"query_positions": torch.arange(17)},
        {"key_lengths": [19, 4]},
        {"query_lengths": [17, 4]},
    ],
)
def test_causal_attention_that_moves_or_ends_early_gets_a_boolean_mask(calls, options):
    run("causal", **options)
    assert calls[0]["attn_mask"].dtype == torch.bool


def test_a_query_behind_all_keys_needs_no_mask(calls):
    sizes = Sizes(N=1, M=6)
    inputs = make_inputs(PROGRAMS["causal"].root, sizes, torch.float64)
    found = rg.attend(PROGRAMS["causal"], **inputs, query_offset=5, backend="sdpa")
    assert calls[0].get("attn_mask") is None and not calls[0].get("is_causal")
    expected = rg.attend(PROGRAMS["causal"], **inputs, query_offset=5, backend="reference")
    torch.testing.assert_close(found, expected)
    rg.attend(PROGRAMS["causal"], **inputs, query_offset=4, backend="sdpa")
    assert calls[1]["attn_mask"].sum() == 5 * calls[1]["attn_mask"][..., 0].numel()


def test_mask_is_no_larger_than_what_it_varies_along(calls):
    run("window")
    run("fixed_slope")
    sizes = [call["attn_mask"].untyped_storage().nbytes() for call in calls]
    assert sizes == [17 * 19, 4 * 17 * 19 * 8]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bias_keeps_its_precision_beside_halves(calls, dtype):
    far = Sizes(N=300, M=300)
    found = run("fixed_slope", far, dtype)
    assert calls[0]["attn_mask"].dtype == torch.float32
    inputs = make_inputs(PROGRAMS["fixed_slope"].root, far, dtype)
    wide = {name: x.double() for name, x in inputs.items()}
    exact = rg.attend(PROGRAMS["fixed_slope"], **wide, backend="reference")
    # The result is rounded once to its own dtype, and so are the weights inside.
    allowed = 2 * torch.finfo(dtype).eps * exact.abs().max()
    assert (found.double() - exact).abs().max() <= allowed


def test_rows_that_see_nothing_are_zero_and_leave_no_gradient():
    inputs = make_inputs(PROGRAMS["strictly_causal"].root, Sizes(), torch.float64)
    learned = [x.requires_grad_() for x in inputs.values()]
    output = rg.attend(PROGRAMS["strictly_causal"], **inputs, backend="sdpa")
    assert not output[:, :, 0].any() and output[:, :, 1].any()
    grad_q, *others = torch.autograd.grad(output.sum(), learned)
    assert not grad_q[:, :, 0].any()
    assert all(grad.isfinite().all() for grad in (grad_q, *others))


def test_scale_comes_from_the_call_and_must_be_positive(calls):
    heated = rg.program(lambda p: rg.softmax(rg.dot(p.q, p.k) / rg.scalar("heat")))
    q = torch.randn(1, 1, 3, 4)
    rg.attend(heated, q, q, q, heat=4.0, backend="sdpa")
    assert calls[0]["scale"] == 0.25
    for heat, told in ((-2.0, "-0.5"), (0.0, "nan")):
        with pytest.raises(UnsupportedError) as caught:
            rg.attend(heated, q, q, q, heat=heat, backend="sdpa")
        text = f"backend 'sdpa' declined this call: its score multiplies dot(q, k) by {told}"
        assert str(caught.value) == text
    cold = rg.attend(heated, q, q, q, heat=-2.0)
    torch.testing.assert_close(cold, torch.softmax(q @ q.mT / -2, -1) @ q)


def test_calls_that_torch_has_no_kernel_for_get_the_reason():
    with pytest.raises(UnsupportedError) as caught:
        run("causal", observe=["lse"])
    assert str(caught.value).endswith(": torch's kernels return no row statistics")
    inputs = make_inputs(PROGRAMS["alibi"].root, Sizes(), torch.float64)
    inputs["slope"].requires_grad_()
    with pytest.raises(UnsupportedError) as caught:
        rg.attend(PROGRAMS["alibi"], **inputs, backend="sdpa")
    assert "its bias or scale needs a gradient (slope), which torch's" in str(caught.value)
    with torch.no_grad():
        assert rg.attend(PROGRAMS["alibi"], **inputs, backend="sdpa").isfinite().all()
