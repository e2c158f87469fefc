"""The scalar operators on tensors, with the derivatives the language gives them.

The table `regard.ir.operators` names the torch function of each; this module holds the few that
need more than that name. Torch's own derivatives are already those of the language where they are
a choice: abs and relu are 0 at 0, ties of minimum and maximum share equally.
"""

import torch
from torch import Tensor
from torch.nn import functional

from regard.ir.operators import OPERATORS


def apply(op: str, args: list[Tensor], dtype: torch.dtype) -> Tensor:
    """Apply a scalar operator at every point.

    Args:
        op: Its name in `OPERATORS`.
        args: Tensors that broadcast together, bool, int64 or floating.
        dtype: What integers become where the result is not an integer.

    Returns:
        The result; the widest floating dtype among the arguments is kept.
    """
    operator = OPERATORS[op]
    if operator.takes == "number":
        args = [_number(arg) for arg in args]
    if operator.gives == "float" and not any(arg.is_floating_point() for arg in args):
        args = [arg.to(dtype) for arg in args]
    return _DEFINED[op](*args) if op in _DEFINED else getattr(torch, operator.torch)(*args)


def _number(value: Tensor) -> Tensor:
    return value.to(torch.int64) if value.dtype == torch.bool else value


def _floor_divide(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or b.is_floating_point():
        return torch.floor_divide(a.detach(), b.detach())
    # A kernel cannot raise: x // 0 is 0 and x % 0 is x, so x = b · (x // b) + x % b always holds.
    return torch.where(b == 0, 0, torch.floor_divide(a, b.masked_fill(b == 0, 1)))


def _remainder(a: Tensor, b: Tensor) -> Tensor:
    if a.is_floating_point() or b.is_floating_point():
        return torch.remainder(a, b)
    return torch.where(b == 0, a, torch.remainder(a, b.masked_fill(b == 0, 1)))


def _where(condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    if not (a.dtype == b.dtype == torch.bool):
        a, b = _number(a), _number(b)
    return torch.where(condition.to(torch.bool), a, b)


_DEFINED = {
    "floor": lambda x: torch.floor(x).to(torch.int64),
    "floordiv": _floor_divide,
    "mod": _remainder,
    "where": _where,
    # logaddexp(x, 0) says the same, but its second derivative is NaN at x far below 0.
    "softplus": lambda x: -functional.logsigmoid(-x),
}
