"""Attention over disjoint keys joins to attention over all of them, gradients included."""

import pytest
import torch

import regard as rg
from regard.errors import InputError
from regard.testing.programs import PROGRAMS

CAUSAL, SINK = PROGRAMS["causal"], PROGRAMS["learned_sink"]


def tensors(queries=6, keys=9):
    shapes = ((2, 4, queries, 8), (2, 2, keys, 8), (2, 2, keys, 6))
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def parts_of(program, q, k, v, cuts, backend="tiled", **inputs):
    found = []
    for start, stop in zip((0, *cuts), (*cuts, k.shape[2]), strict=True):
        output, seen = rg.attend(
            program, q, k[:, :, start:stop], v[:, :, start:stop], observe=["lse"],
            key_positions=torch.arange(start, stop), backend=backend, **inputs,
        )  # fmt: skip
        found.append((output, seen["lse"]))
    return found


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("cuts", [(), (4,), (1, 2, 8)])
@pytest.mark.parametrize("backend", ["reference", "tiled"])
def test_parts_join_with_their_gradients(backend, cuts):
    # From the fourth key on, the first rows see nothing in a part.
    q, k, v = tensors()
    whole, seen = rg.attend(CAUSAL, q, k, v, observe=["lse"], backend=backend)
    output, lse = rg.merge(parts_of(CAUSAL, q, k, v, cuts, backend))
    close(output, whole)
    close(lse, seen["lse"])
    weights = torch.randn(output.shape, dtype=torch.float64), torch.randn(lse.shape)
    found, expected = (
        torch.autograd.grad((a * weights[0]).sum() + (b * weights[1]).sum(), [q, k, v])
        for a, b in ((output, lse), (whole, seen["lse"]))
    )
    for one, other in zip(found, expected, strict=True):
        close(one, other)


def test_row_that_sees_nothing_in_any_part_is_zero_without_gradient():
    q, k, v = tensors()
    parts = parts_of(CAUSAL, q, k, v, (4,), query_offset=-3)
    output, lse = rg.merge(parts)
    assert not output[:, :, :3].any()
    assert (lse[:, :, :3] == -torch.inf).all()
    safe = torch.where(lse == -torch.inf, 0.0, lse)
    (grad,) = torch.autograd.grad(output.sum() + safe.sum(), q)
    assert grad.isfinite().all()
    assert not grad[:, :, :3].any() and grad[:, :, 3:].any()


def test_sink_counts_once_if_one_part_has_it():
    q, k, v = tensors()
    sink = torch.randn(4, dtype=torch.float64)
    whole = rg.attend(SINK, q, k, v, sink=sink)
    first = parts_of(SINK, q, k[:, :, :4], v[:, :, :4], (), sink=sink)
    bare = torch.full((4,), -torch.inf, dtype=torch.float64)
    second, seen = rg.attend(
        SINK, q, k[:, :, 4:], v[:, :, 4:], sink=bare, observe=["lse"],
        key_positions=torch.arange(4, 9),
    )  # fmt: skip
    close(rg.merge([*first, (second, seen["lse"])])[0], whole)


def test_halves_are_joined_in_float32_and_given_back_as_halves():
    q, k, v = (x.detach().bfloat16() for x in tensors())
    output, lse = rg.merge(parts_of(CAUSAL, q, k, v, (4,)))
    assert (output.dtype, lse.dtype) == (torch.bfloat16, torch.float32)


def test_mistakes_are_told():
    output, lse = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3)
    with pytest.raises(InputError, match=r"^rg\.merge needs at least one \(output, lse\) pair$"):
        rg.merge([])
    with pytest.raises(InputError) as caught:
        rg.merge([(output, lse), (output[..., :3], lse)])
    assert str(caught.value) == (
        "part 1 has output (1, 2, 3, 3) and lse (1, 2, 3); expected (1, 2, 3, 4) and (1, 2, 3)"
    )
    with pytest.raises(InputError, match=r"^part 0 has output \(1, 2, 3, 4\) and lse \(2, 3\); "):
        rg.merge([(output, lse[0])])
