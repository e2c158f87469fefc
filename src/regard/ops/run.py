"""Run a plan inside one autograd Function.

Leaves to others: choosing (`plan`), the surface (`attend`).
"""

from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from regard.backends.base import Backend, Declined
from regard.errors import UnsupportedError
from regard.ir.bound import Bound
from regard.ops.plan import Plan, compiled


def run(plan: Plan, bound: Bound) -> dict[str, Tensor]:
    """Run the best candidate that accepts the call's numbers.

    Args:
        plan: From `make_plan`.
        bound: The call.

    Returns:
        The outputs by name; "output" in q's dtype.

    Raises:
        UnsupportedError: If the only candidate declines the numbers.
    """
    declined = ""
    for name in plan.candidates:
        backend, kernel = compiled(plan.request, name)
        try:
            found = _run(backend, kernel, plan, bound)
        except Declined as reason:
            declined = f"backend '{name}' declined this call: {reason}"
            continue
        return {**found, "output": found["output"].to(bound.q.dtype)}
    raise UnsupportedError(declined)


def _run(backend: Backend, kernel: Any, plan: Plan, bound: Bound) -> dict[str, Tensor]:
    wanted = tuple(name for name in bound.tensors if name in plan.request.wanted)
    if backend.differentiable or not wanted:
        with _own_precision(bound):
            return backend.forward(kernel, bound)[0]
    names = ("output", *plan.request.observe)
    found = _Attend.apply(
        backend, kernel, bound, names, wanted, *(bound.tensors[name] for name in wanted)
    )
    return dict(zip(names, found, strict=True))


def _own_precision(bound: Bound) -> AbstractContextManager[Any]:
    """Return a context without autocast, which would make scores narrower than float32."""
    return torch.autocast(bound.q.device.type, enabled=False)


class _Attend(torch.autograd.Function):
    """Calls a backend's forward and backward."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: Backend,
        kernel: Any,
        bound: Bound,
        names: tuple,
        wanted: tuple,
        *tensors: Tensor,
    ):
        with _own_precision(bound):
            outputs, ctx.kept = backend.forward(kernel, bound)
        ctx.save_for_backward(*tensors)
        # The bound call without the saved tensors, so that changing one in place is noticed.
        rest = {name: tensor for name, tensor in bound.tensors.items() if name not in wanted}
        ctx.call = (backend, kernel, replace(bound, tensors=rest), names, wanted)
        ctx.mark_non_differentiable(*(outputs[name] for name in names if name.startswith("max:")))
        return tuple(outputs[name] for name in names)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor):
        backend, kernel, rest, names, wanted = ctx.call
        bound = rest.with_tensors(dict(zip(wanted, ctx.saved_tensors, strict=True)))
        received = {
            name: grad.to(bound.compute_dtype) for name, grad in zip(names, grads, strict=True)
        }
        with torch.no_grad(), _own_precision(bound):
            found = backend.backward(kernel, bound, ctx.kept, received)
        results = tuple(found[name] for name in wanted)
        if torch.is_grad_enabled():
            results = _Once.apply(backend.name, ctx.saved_tensors[0], *results)
        return (None, None, None, None, None, *results)


class _Once(torch.autograd.Function):
    """Stands behind a derived gradient: its own gradient would be silently incomplete."""

    @staticmethod
    def forward(ctx: Any, name: str, anchor: Tensor, *grads: Tensor):
        ctx.name = name
        return tuple(grad.view_as(grad) for grad in grads)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor):
        raise UnsupportedError(
            f"backend '{ctx.name}' gives no second derivatives; use backend=\"reference\""
        )
