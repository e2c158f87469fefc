"""Run a call by the best backend that accepts its numbers, inside one autograd Function.

Leaves to others: choosing (`plan`), the surface (`attend`).
"""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from regard.backends.base import Backend, Declined, Failed
from regard.backends.measured.budget import budget_seconds
from regard.errors import UnsupportedError
from regard.ir.bound import Bound
from regard.ir.observed import FIXED, parse
from regard.ops.gather import gather_keys
from regard.ops.kind import Kind
from regard.ops.route import known_times, measure_times, order_by
from regard.ops.transforms import looked_through, refuse_mapped, refuse_transforms
from regard.ops.warn_of_masks import warn_of_data

Result = TypeVar("Result")


def run(kind: Kind, bound: Bound) -> dict[str, Tensor]:
    """Run the best candidate that accepts the call's numbers.

    Args:
        kind: The kind of call.
        bound: The call.

    Returns:
        The outputs by name; "output" in q's dtype.

    Raises:
        UnsupportedError: If the only candidate declines the numbers, or inside torch.vmap.
    """
    declined = refused = ""
    if looked_through():
        refused = refuse_transforms(bound.tensors.values())
    else:
        if not kind.has_run:
            kind.has_run = True
            warn_of_data(kind.request, bound)
        kind, bound = gather_keys(kind, bound)
    order = kind.plan.candidates if refused else _order(kind, bound)
    for name in order:
        try:
            if refused and not kind.kernel(name)[0].differentiable:
                raise Declined(refused)
            found = _run_on(name, kind, bound)
        except Declined as reason:
            declined = f"backend '{name}' declined this call: {reason}"
            if isinstance(reason, Failed) and name != order[-1]:
                _warn(f"programs run on another backend, slower: {reason}")
            continue
        if found["output"].dtype != kind.request.dtype:
            found = {**found, "output": found["output"].to(kind.request.dtype)}
        return found
    raise UnsupportedError(declined)


def _run_on(name: str, kind: Kind, bound: Bound) -> dict[str, Tensor]:
    """Run one backend, and its own gradient later if torch does not see through it."""
    backend, kernel = kind.kernel(name)
    if kind.wanted and not backend.differentiable:
        wanted = [bound.tensors[one] for one in kind.wanted]
        outputs = _Attend.apply((kind, backend, kernel, bound), *wanted)
        return dict(zip(kind.outputs, outputs, strict=True))
    return in_own_precision(kind, backend.forward, kernel, bound)[0]


def _order(kind: Kind, bound: Bound) -> tuple[str, ...]:
    """Return the backends in the order in which they are tried, measured on GPUs if asked for."""
    if kind.order is None:
        given = kind.request, kind.plan.candidates, bound.q.device
        measure_times(*given, lambda name: partial(_try_on, name, kind, bound), budget_seconds())
        kind.order = order_by(known_times(*given), kind.plan.candidates)
    return kind.order


def _try_on(name: str, kind: Kind, bound: Bound) -> None:
    """Run a call on one backend, with its gradient if one is wanted, and drop what comes out."""
    leaves = {one: bound.tensors[one].detach().requires_grad_() for one in kind.wanted}
    found = _run_on(name, kind, bound.with_tensors(leaves))["output"]
    if leaves:
        torch.autograd.grad(found, list(leaves.values()), torch.ones_like(found), allow_unused=True)


def _warn(text: str) -> None:
    """Say something once."""
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, stacklevel=4)


_warned: set[str] = set()


def in_own_precision(kind: Kind, call: Callable[..., Result], *given: Any) -> Result:
    """Call without autocast, which would make scores narrower than float32.

    Args:
        kind: The kind of call, which says on what device.
        call: A backend's forward or backward.
        *given: What it is called with.

    Returns:
        What it returns.
    """
    device = kind.request.device
    # Entering the context takes as long as half a warm call.
    if not torch.is_autocast_enabled(device):
        return call(*given)
    with torch.autocast(device, enabled=False):
        return call(*given)


class _Attend(torch.autograd.Function):
    """Calls a backend's forward and backward."""

    @staticmethod
    def forward(ctx: Any, call: tuple[Kind, Backend, Any, Bound], *tensors: Tensor):
        kind, backend, kernel, bound = call
        found, kept = in_own_precision(kind, backend.forward, kernel, bound)
        # Saved by torch, which notices a change in place; one of the outputs, kept elsewhere, would
        # keep the graph that keeps it.
        ctx.save_for_backward(*tensors, *kept.values())
        ctx.kept = tuple(kept)
        ctx.call = (kind, backend, kernel, bound.without(kind.wanted))
        if kind.request.observe:
            # A sum that nothing is made of costs nothing in backward.
            ctx.set_materialize_grads(False)
            fixed = [found[name] for name in kind.request.observe if parse(name).kind in FIXED]
            ctx.mark_non_differentiable(*fixed)
            ctx.shape = found["output"].shape
        return tuple([found[name] for name in kind.outputs])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None):
        refuse_mapped([grad for grad in grads if grad is not None])
        kind, backend, kernel, rest = ctx.call
        saved, given = ctx.saved_tensors, len(kind.wanted)
        bound = rest.with_tensors(dict(zip(kind.wanted, saved[:given], strict=True)))
        kept = dict(zip(ctx.kept, saved[given:], strict=True))
        received = {name: x for name, x in zip(kind.outputs, grads, strict=True) if x is not None}
        if "output" not in received:
            zeros = torch.zeros(ctx.shape, dtype=bound.compute_dtype, device=bound.q.device)
            received["output"] = zeros
        recorded = torch.is_grad_enabled()
        try:
            with torch.no_grad() if recorded else nullcontext():
                found = in_own_precision(kind, backend.backward, kernel, bound, kept, received)
        except Declined as reason:
            raise UnsupportedError(
                f"backend '{backend.name}' declined the gradients of this call: {reason}; "
                'backend="tiled" computes them without its kernels'
            ) from None
        results = tuple(found[name] for name in kind.wanted)
        if recorded:
            results = _Once.apply(backend.name, saved[0], *results)
        return (None, *results)


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
