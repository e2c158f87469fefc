"""The checks that a user of torch's flex_attention would port, run on ours."""

import inspect
import math
import re

import pytest
import torch
from torch.nn.attention import flex_attention as torch_flex
from torch.nn.attention.flex_attention import AuxRequest, create_block_mask

import regard as rg
from tests.flex.oracle import assert_same, flex_eager, gradients, rows


def causal(b, h, q_idx, kv_idx):
    return q_idx >= kv_idx


def falling(score, b, h, q_idx, kv_idx):
    return score - 0.1 * (h + 1) * (q_idx - kv_idx).abs()


def mask_for(q, k, mask_mod=causal, size=4):
    return create_block_mask(
        mask_mod, None, None, q.shape[2], k.shape[2], device="cpu", BLOCK_SIZE=size
    )


def test_the_arguments_are_those_of_torch():
    ours = inspect.signature(rg.flex_attention).parameters
    theirs = inspect.signature(torch_flex.flex_attention).parameters
    assert list(ours) == [*theirs, "backend"]
    for name in theirs:
        assert ours[name].default == theirs[name].default
        assert ours[name].kind == theirs[name].kind


@pytest.mark.parametrize("backend", ["reference", "tiled", pytest.param("cpu")])
def test_score_mod_and_block_mask_work_together(backend):
    q, k, v = rows(grad=True)
    output = rg.flex_attention(q, k, v, falling, mask_for(q, k), backend=backend)
    wanted, *_ = flex_eager(q, k, v, falling, causal)
    inputs = [q, k, v]
    assert_same([output, *gradients(output, inputs)], [wanted, *gradients(wanted, inputs)])


@pytest.mark.parametrize("sizes", [
    dict(N=1), dict(N=1, M=17), dict(N=17, M=1), dict(N=63, M=5), dict(E=3), dict(B=1, H=1, D=2),
], ids=str)  # fmt: skip
def test_lengths_and_widths_are_free(sizes):
    q, k, v = rows(**sizes)
    output, lse = rg.flex_attention(q, k, v, falling, return_lse=True)
    assert output.shape == (*q.shape[:3], v.shape[3])
    assert_same([output, lse], flex_eager(q, k, v, falling)[:2])


@pytest.mark.parametrize("G", [1, 2, 4])
def test_query_heads_share_key_heads_when_asked(G):
    q, k, v = rows(G=G, grad=True)
    output = rg.flex_attention(q, k, v, falling, mask_for(q, k), enable_gqa=True)
    wanted, *_ = flex_eager(q, k, v, falling, causal)
    inputs = [q, k, v]
    assert_same([output, *gradients(output, inputs)], [wanted, *gradients(wanted, inputs)])


def test_one_batch_row_of_keys_is_shared_beside_a_block_mask():
    q, (_, k, v) = rows(B=3)[0], rows(B=1)
    block_mask = create_block_mask(causal, 3, None, 18, 18, device="cpu", BLOCK_SIZE=4)
    output = rg.flex_attention(q, k, v, falling, block_mask)
    assert_same([output], [flex_eager(q, k, v, falling, causal)[0]])


@pytest.mark.parametrize("scale", [None, 1.0, 0.3, -2])
def test_scale_multiplies_before_score_mod(scale):
    q, k, v = rows()
    cap = lambda score, b, h, i, j: torch.tanh(score)  # noqa: E731
    output = rg.flex_attention(q, k, v, cap, scale=scale)
    assert_same([output], [flex_eager(q, k, v, cap, scale=scale)[0]])


def test_lse_is_a_natural_logarithm_and_trains():
    q, k, v = rows(grad=True)
    _, lse = rg.flex_attention(q, k, v, falling, return_lse=True)
    i = torch.arange(18)
    slopes = 0.1 * torch.arange(1, 5, dtype=torch.float64)[:, None, None]
    scores = q @ k.mT / math.sqrt(8) - slopes * (i[:, None] - i).abs()
    wanted = scores.logsumexp(-1)
    assert_same([lse, *gradients(lse, [q, k])], [wanted, *gradients(wanted, [q, k])])


@pytest.mark.parametrize("lse", [True, False])
@pytest.mark.parametrize("largest", [True, False])
def test_auxiliary_outputs_are_given_as_asked(lse, largest):
    q, k, v = rows()
    output, aux = rg.flex_attention(
        q, k, v, falling, mask_for(q, k), return_aux=AuxRequest(lse=lse, max_scores=largest)
    )
    assert type(aux) is torch_flex.AuxOutput
    found = [output, *(value for value in aux if value is not None)]
    wanted = flex_eager(q, k, v, falling, causal)
    kept = [True, lse, largest]
    assert [value is not None for value in aux] == kept[1:]
    assert_same(found, [value for value, keep in zip(wanted, kept, strict=True) if keep])


def test_rows_that_see_nothing_give_zero_and_minus_infinity():
    q, k, v = rows(grad=True)
    late = lambda b, h, q_idx, kv_idx: q_idx >= kv_idx + 3  # noqa: E731
    output, aux = rg.flex_attention(
        q, k, v, None, mask_for(q, k, late), return_aux=AuxRequest(lse=True, max_scores=True)
    )
    assert not output[:, :, :3].any()
    assert (aux.lse[:, :, :3] == -math.inf).all()
    assert (aux.max_scores[:, :, :3] == -math.inf).all()
    assert not any(gradient.isnan().any() for gradient in gradients(output, [q, k, v]))
    assert_same([output, aux.lse, aux.max_scores], flex_eager(q, k, v, None, late))


def test_captured_biases_train():
    q, k, v = rows(grad=True)
    relative = torch.randn(4, 40, dtype=torch.float64, requires_grad=True)
    pair = torch.randn(18, 18, dtype=torch.float64, requires_grad=True)
    fixed = torch.randn(2, 18, dtype=torch.float64)

    def mod(score, b, h, q_idx, kv_idx):
        bias = relative[h, q_idx - kv_idx + 20] * fixed[b, kv_idx]
        return score + bias + pair[q_idx, kv_idx]

    output = rg.flex_attention(q, k, v, mod, mask_for(q, k))
    wanted, *_ = flex_eager(q, k, v, mod, causal)
    inputs = [q, k, v, relative, pair]
    assert_same([output, *gradients(output, inputs)], [wanted, *gradients(wanted, inputs)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_narrow_dtypes_keep_wide_scores(dtype):
    q, k, v = (row.to(dtype) for row in rows())
    output, lse = rg.flex_attention(q, k, v, falling, mask_for(q, k), return_lse=True)
    assert (output.dtype, lse.dtype) == (dtype, torch.float32)
    exact = flex_eager(*(row.double() for row in (q, k, v)), falling, causal)
    eager = flex_eager(q, k, v, falling, causal)
    worst = (eager[0].double() - exact[0]).abs().max() + torch.finfo(dtype).eps
    assert (output.double() - exact[0]).abs().max() <= 2 * worst
    assert_same([lse.double()], [exact[1]], 1e-5)


def test_scores_have_the_dtype_that_torch_gives_them():
    seen = []

    def mod(score, b, h, q_idx, kv_idx):
        seen.append((score.dtype, q_idx.dtype, score.shape, score.device.type))
        return score.clamp(min=torch.finfo(score.dtype).min)

    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        q, k, v = rows(dtype=dtype)
        rg.flex_attention(q, k, v, mod)
    wide = [torch.float64, torch.float32, torch.float32]
    assert seen == [(dtype, torch.int64, (), "cpu") for dtype in wide]


def test_autocast_narrows_the_rows():
    q, k, v = rows(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = rg.flex_attention(q, k.bfloat16(), v, falling)
    narrow = [row.bfloat16() for row in (q, k, v)]
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, rg.flex_attention(*narrow, falling))


@pytest.mark.parametrize("options", [
    {}, {"BLOCK_M": 64, "num_warps": 4}, {"fwd_BLOCK_M": 32, "bwd_BLOCK_N1": 32},
    {"ROWS_GUARANTEED_SAFE": True, "BACKEND": "AUTO", "PRESCALE_QK": True},
], ids=str)  # fmt: skip
def test_kernel_options_change_nothing(options):
    q, k, v = rows()
    found = rg.flex_attention(q, k, v, falling, kernel_options=options)
    assert torch.equal(found, rg.flex_attention(q, k, v, falling))


def test_it_may_stand_in_a_compiled_model():
    model = torch.compile(lambda q, k, v: rg.flex_attention(q, k, v, falling) * 2, backend="eager")
    q, k, v = rows()
    assert_same([model(q, k, v)], [2 * flex_eager(q, k, v, falling)[0]])


def _bad(**changes):
    q, k, v = rows()
    call = {"query": q, "key": k, "value": v, **changes}
    return lambda: rg.flex_attention(**call)


_Q, _K, _V = rows()
_FOUR = mask_for(_Q, _K)
_HEADS = create_block_mask(causal, None, 3, 18, 18, device="cpu", BLOCK_SIZE=4)
MISTAKES = {
    "heads": (_bad(key=_K[:, :2], value=_V[:, :2]), "give enable_gqa=True"),
    "multiple": (
        _bad(key=_K[:, :3], value=_V[:, :3], enable_gqa=True), "which is no multiple of k's 3"
    ),
    "axes": (_bad(query=_Q[0]), "query has shape (4, 18, 8); expected four axes"),
    "channels": (_bad(query=_Q[..., :4]), "query has 4 channels and key has 8"),
    "batch": (_bad(key=_K[:1], value=_V[:1]), "query has 2 batch rows and key has 1"),
    "batch with a mask": (
        _bad(query=rows(B=3)[0], block_mask=_FOUR), "query has 3 batch rows and key has 2"
    ),
    "dtypes": (_bad(key=_K.float()), "need one floating-point dtype"),
    "device": (_bad(key=_K.to("meta")), "key is on meta, query is on cpu"),
    "nested": (
        _bad(query=torch.nested.nested_tensor([torch.ones(2, 3)], layout=torch.jagged)),
        "rg.attend_packed takes ragged batches",
    ),
    "both": (
        _bad(return_lse=True, return_aux=AuxRequest(lse=True)), "give return_aux alone"
    ),
    "aux": (_bad(return_aux=True), "return_aux must be an AuxRequest, not True"),
    "options": (_bad(kernel_options={"BLOCK_Q": 3}), "kernel_options has no 'BLOCK_Q'"),
    "mask": (_bad(block_mask=causal), "block_mask must be a BlockMask, not function"),
    "longer mask": (
        _bad(query=_Q[:, :, :9], block_mask=_FOUR),
        "block_mask is for 18 queries and 18 keys; found 9 and 18: make one for these lengths",
    ),
    "sliced mask": (_bad(block_mask=_FOUR[:, :, :2]), "slicing forgets its mask_mod"),
    "mask of heads": (_bad(block_mask=_HEADS), "block_mask is for 3 heads; query has 4"),
    "mask elsewhere": (_bad(block_mask=_FOUR.to("meta")), "block_mask is on meta"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_what_does_not_fit_is_refused(name):
    call, message = MISTAKES[name]
    with pytest.raises(rg.InputError, match=re.escape(message)):
        call()
