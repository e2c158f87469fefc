"""A function of rows' numbers in one pass is what torch computes, and so is its gradient."""

import pytest
import torch

from regard.backends.cpu import rowmap
from regard.backends.cpu.rowmap import RowMap, find_row_map
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.passes.build import call

Q, K = n.Vector("query", "q"), n.Vector("key", "k")
ELU = call("add", call("relu", Q), call("exp", call("min", Q, 0.0)))
MAPS = {
    "elu + 1": (ELU, lambda x: torch.nn.functional.elu(x) + 1),
    "squared relu": (call("mul", call("relu", Q), call("relu", Q)), lambda x: x.relu() ** 2),
    "scaled": (call("mul", Q, 0.125), lambda x: x * 0.125),
    "softplus": (call("softplus", Q), torch.nn.functional.softplus),
}


def found_map(node):
    found = find_row_map(node)
    assert found is not None
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 7, 16])
@pytest.mark.parametrize("name", MAPS)
def test_values_and_gradients_are_those_of_torch(name, width, dtype):
    node, oracle = MAPS[name]
    rows = torch.randn(2, 3, 5, width, dtype=dtype).requires_grad_()
    received = torch.randn(2, 3, 5, width, dtype=dtype)
    found, exact = found_map(node).apply(rows), oracle(rows)
    torch.testing.assert_close(found, exact)
    grads = [torch.autograd.grad(one, rows, received)[0] for one in (found, exact)]
    torch.testing.assert_close(*grads)


def test_ties_share_as_in_torch():
    rows = torch.zeros(1, 1, 1, 9, requires_grad=True)
    found = found_map(call("min", Q, 0.0)).apply(rows)
    (grad,) = torch.autograd.grad(found.sum(), rows)
    assert torch.equal(grad, torch.full_like(rows, 0.5))


def test_a_step_gives_no_gradient():
    rows = torch.randn(1, 1, 2, 9, requires_grad=True)
    found = found_map(call("sign", Q)).apply(rows)
    (grad,) = torch.autograd.grad(found.sum(), rows)
    assert torch.equal(grad, torch.zeros_like(rows))


def test_parts_of_rows_and_shared_heads_are_read_where_they_lie():
    whole = torch.randn(2, 1, 40, 12)
    rows = whole[:, :, 3:30].expand(2, 4, 27, 12)
    turned = torch.randn(2, 12, 3, 27).transpose(1, 3)
    for part in (rows, turned):
        exact = torch.nn.functional.elu(part) + 1
        torch.testing.assert_close(found_map(ELU).apply(part), exact)


@pytest.mark.parametrize("node", [Q, call("add", Q, K), call("mul", Q, n.Index("i")), n.Const(1.0)])
def test_what_reads_more_than_one_number_is_no_map(node):
    assert find_row_map(node) is None


def test_a_number_that_no_lane_holds_is_no_map():
    assert find_row_map(call("add", Q, n.Const(2**40))) is None


@pytest.mark.parametrize("where", ["compiler", "library"])
def test_nothing_is_mapped_where_nothing_can_be_built(where, monkeypatch):
    def fail(*_):
        raise UnsupportedError("it does not compile")

    if where == "compiler":
        monkeypatch.setattr(rowmap, "find_compiler", lambda: "there is no compiler")
    else:
        monkeypatch.setattr(rowmap, "load_library", fail)
    assert not RowMap(ELU, Q).can_map(torch.zeros(1, 1, 1, 4))
    assert not RowMap(ELU, Q).can_map(torch.zeros(1, 1, 1, 4, dtype=torch.int64))
