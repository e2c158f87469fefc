"""Ragged batches: each sequence attends to itself alone, packed end to end or nested."""

import pytest
import torch

import regard as rg
from regard.errors import InputError
from regard.testing.programs import PROGRAMS

CAUSAL = PROGRAMS["causal"]
LENGTHS = [5, 1, 8]
STARTS = [0, 5, 6, 14]


def packed(keys=14):
    shapes = ((4, 14, 8), (2, keys, 8), (2, keys, 6))
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def alone(q, k, v, starts=STARTS, key_starts=STARTS, **options):
    outputs = []
    bounds = zip(starts, starts[1:], key_starts, key_starts[1:], strict=False)
    for i0, i1, j0, j1 in bounds:
        one = rg.attend(CAUSAL, q[None, :, i0:i1], k[None, :, j0:j1], v[None, :, j0:j1], **options)
        outputs.append(one[0])
    return torch.cat(outputs, 1)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["reference", "tiled", "sdpa"])
def test_each_sequence_attends_to_itself_alone(backend):
    q, k, v = packed()
    found = rg.attend_packed(CAUSAL, q, k, v, query_starts=STARTS, backend=backend)
    expected = alone(q, k, v)
    close(found, expected)
    weights = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, [q, k, v], weights),
        torch.autograd.grad(expected, [q, k, v], weights),
        strict=True,
    ):
        close(one, other)


def test_keys_may_have_starts_of_their_own():
    q, k, v = packed(keys=9)
    keys = torch.tensor([0, 2, 3, 9])
    found = rg.attend_packed(CAUSAL, q, k, v, query_starts=STARTS, key_starts=keys)
    close(found, alone(q, k, v, key_starts=keys.tolist()))


def test_sequence_with_nan_spoils_no_other():
    q, k, v = (x.detach().clone() for x in packed())
    for x in (q, k, v):
        x[:, :5] = torch.nan
    found = rg.attend_packed(CAUSAL, q, k, v, query_starts=STARTS)
    assert found[:, 5:].isfinite().all()
    assert found[:, :5].isnan().all()


def test_row_values_are_observed_in_the_packed_form():
    q, k, v = packed()
    output, seen = rg.attend_packed(CAUSAL, q, k, v, query_starts=STARTS, observe=["lse"])
    assert seen["lse"].shape == (4, 14)
    one = rg.attend(CAUSAL, q[None, :, 6:], k[None, :, 6:], v[None, :, 6:], observe=["lse"])
    close(seen["lse"][:, 6:], one[1]["lse"][0])
    close(output[:, 6:], one[0][0])


@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_nested_tensors_come_back_nested(layout):
    rows = [
        [torch.randn(length, heads, width, dtype=torch.float64) for length in LENGTHS]
        for heads, width in ((4, 8), (2, 8), (2, 6))
    ]
    q, k, v = (torch.nested.nested_tensor(many, layout=layout) for many in rows)
    found = rg.attend_packed(CAUSAL, q, k, v)
    assert found.is_nested and found.layout == layout
    flat = [torch.cat(many).transpose(0, 1) for many in rows]
    expected = alone(*flat)
    close(torch.cat(list(found.unbind())).transpose(0, 1), expected)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_gradient_goes_through_nested_tensors():
    rows = [torch.randn(n, 2, 4, dtype=torch.float64, requires_grad=True) for n in LENGTHS]
    nested = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
    found = rg.attend_packed(CAUSAL, nested, nested, nested)
    sum(one.sum() for one in found.unbind()).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in rows)


MISTAKES = [
    (dict(), "attend_packed needs query_starts, e.g. [0, 5, 12] for sequences of 5 and 7 rows"),
    (
        dict(query_starts=STARTS, observe=["weights"]),
        "'weights' of a ragged batch has no common shape; use attend for each sequence",
    ),
    (
        dict(query_starts=[0]),
        "query_starts must be a row of at least two whole numbers, e.g. [0, 5, 12]",
    ),
    (
        dict(query_starts=[0.0, 14.0]),
        "query_starts must be a row of at least two whole numbers, e.g. [0, 5, 12]",
    ),
    (
        dict(query_starts=[0, 5, 13]),
        "query_starts must rise from 0 to 14, the number of rows; found [0, 5, 13]",
    ),
    (
        dict(query_starts=[0, 5, 5, 14]),
        "query_starts must rise from 0 to 14, the number of rows; found [0, 5, 5, 14]",
    ),
    (
        dict(query_starts=[1, 5, 14]),
        "query_starts must rise from 0 to 14, the number of rows; found [1, 5, 14]",
    ),
    (
        dict(query_starts=STARTS, key_starts=[0, 14]),
        "query_starts names 3 sequences, key_starts 1",
    ),
    (
        dict(query_starts=STARTS, key_lengths=[1, 2, 3]),
        "the starts say where each sequence is; leave out key_lengths",
    ),
]


@pytest.mark.parametrize(("options", "text"), MISTAKES)
def test_mistake_is_told(options, text):
    with pytest.raises(InputError) as caught:
        rg.attend_packed(CAUSAL, *packed(), **options)
    assert str(caught.value) == text


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
def test_shapes_that_do_not_fit_are_told():
    q, k, v = packed()
    with pytest.raises(InputError) as caught:
        rg.attend_packed(CAUSAL, q, k[None], v, query_starts=STARTS)
    assert str(caught.value) == (
        "k has shape (1, 2, 14, 8); expected three axes (heads, total rows, width)"
    )
    with pytest.raises(InputError, match=r"^q has 14 rows and k has 9; give key_starts as well$"):
        rg.attend_packed(CAUSAL, q, *packed(keys=9)[1:], query_starts=STARTS)
    nested = torch.nested.nested_tensor([torch.zeros(2, 2, 4)], layout=torch.jagged)
    with pytest.raises(InputError, match=r"^q is a nested tensor; k and v must be nested as well$"):
        rg.attend_packed(CAUSAL, nested, k, v)
    with pytest.raises(
        InputError, match=r"^observe needs the packed form: give tensors with query"
    ):
        rg.attend_packed(CAUSAL, nested, nested, nested, observe=["lse"])
