"""Scalar operators: values, integer rules and the derivatives the language chooses."""

import math

import pytest
import torch

from regard.ir.operators import OPERATORS
from regard.reference.scalars import apply
from tests.reference.builders import close

DOUBLE = torch.float64


def numbers(*values, dtype=DOUBLE):
    return torch.tensor([values], dtype=dtype)


def value(op, *args):
    return apply(op, list(args), DOUBLE)


def slopes(op, *args):
    leaves = [arg.clone().requires_grad_() for arg in args]
    return torch.autograd.grad(value(op, *leaves).sum(), leaves, allow_unused=True)


@pytest.mark.parametrize("op", [name for name, row in OPERATORS.items() if row.gives == "float"])
def test_integers_become_the_compute_dtype_where_the_result_is_a_float(op):
    args = [numbers(1, 2, dtype=torch.int64)] * OPERATORS[op].arity
    assert value(op, *args).dtype == DOUBLE
    close(value(op, *args), value(op, *(arg.double() for arg in args)))
    assert apply(op, args, torch.float32).dtype == torch.float32


@pytest.mark.parametrize("op", [name for name, row in OPERATORS.items() if row.takes == "number"])
def test_truth_values_count_as_zero_and_one(op):
    booleans = torch.tensor([[True, True]])
    args = [booleans] * OPERATORS[op].arity
    expected = value(op, *(arg.long() for arg in args))
    assert torch.equal(value(op, *args), expected) and value(op, *args).dtype == expected.dtype


@pytest.mark.parametrize("op", OPERATORS)
def test_the_kind_of_the_result_is_that_of_the_table(op):
    row = OPERATORS[op]
    if row.takes == "number":
        args = [numbers(1.5, 2.5)] * row.arity
    else:
        args = [torch.tensor([[True, False]])] * row.arity
    dtype = value(op, *args).dtype
    expected = {"bool": torch.bool, "int": torch.int64, "float": DOUBLE, "join": args[0].dtype}
    assert dtype == expected[row.gives]


def test_division_and_remainder_floor():
    a, b = numbers(7, -7, 7, -7), numbers(2, 2, -2, -2)
    for x, y in ((a, b), (a.long(), b.long())):
        close(value("floordiv", x, y).double(), [3.0, -4.0, -4.0, 3.0])
        close(value("mod", x, y).double(), [1.0, 1.0, -1.0, -1.0])
    close(value("floor", numbers(-1.5, 1.5)).double(), [-2.0, 1.0])


def test_integers_divided_by_zero_leave_themselves():
    a, b = numbers(5, -5, dtype=torch.int64), numbers(0, 0, dtype=torch.int64)
    close(value("floordiv", a, b).double(), 0.0)
    assert torch.equal(value("mod", a, b), a)


def test_floordiv_and_floor_have_no_derivative_and_the_remainder_has_one():
    x = numbers(5.5, -5.5).requires_grad_()
    assert not value("floordiv", x, numbers(2.0, 2.0)).requires_grad
    assert not value("floor", x).requires_grad
    close(slopes("mod", x.detach(), numbers(2.0, 2.0))[0], 1.0)


def test_abs_and_relu_are_flat_at_zero():
    close(slopes("abs", numbers(-1, 0, 1))[0], [-1.0, 0.0, 1.0])
    close(slopes("relu", numbers(-1, 0, 1))[0], [0.0, 0.0, 1.0])
    close(slopes("sign", numbers(-1, 0, 1))[0], 0.0)


@pytest.mark.parametrize("op", ["min", "max"])
def test_ties_share_equally(op):
    one, other = slopes(op, numbers(1, 2, 2), numbers(2, 2, 1))
    close(one + other, 1.0)
    close(one[:, 1], 0.5)


def test_where_keeps_the_chosen_branch_alone():
    condition = torch.tensor([[True, False]])
    one, other = numbers(1, 2).requires_grad_(), numbers(3, 4).requires_grad_()
    chosen = apply("where", [condition, one, other], DOUBLE)
    close(chosen.detach(), [1.0, 4.0])
    close(torch.autograd.grad(chosen.sum(), one)[0], [1.0, 0.0])
    both = apply("where", [condition, condition, ~condition], DOUBLE)
    assert both.dtype == torch.bool and both.all()
    mixed = apply("where", [condition, condition, one.detach()], DOUBLE)
    close(mixed, [1.0, 2.0])


def test_softplus_is_exact_far_from_zero_in_all_derivatives():
    x = numbers(-800, -20, 0, 20, 800).requires_grad_()
    found = value("softplus", x)
    close(found.detach(), [0.0, math.exp(-20), math.log(2), 20 + math.exp(-20), 800], atol=1e-16)
    (slope,) = torch.autograd.grad(found.sum(), x, create_graph=True)
    close(slope.detach(), x.detach().sigmoid())
    (curve,) = torch.autograd.grad(slope.sum(), x)
    sigmoid = x.detach().sigmoid()
    close(curve, sigmoid * (1 - sigmoid))


def test_widest_float_wins():
    wide, narrow = numbers(0.1), numbers(0.1, dtype=torch.float32)
    for op in ("add", "div", "max", "mod", "floordiv", "pow"):
        assert apply(op, [narrow, wide], torch.float32).dtype == DOUBLE
    assert apply("add", [narrow, numbers(1, dtype=torch.int64)], DOUBLE).dtype == torch.float32
