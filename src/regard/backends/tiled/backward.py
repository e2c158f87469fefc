"""The adjoint sweeps: for each range of query rows, what every leaf receives.

Scores are computed again from the row values that forward kept. Tiles are visited in a fixed
order, so gradients are the same in every run. Leaves to others: the expressions (`passes/adjoint`).
"""

from itertools import groupby

import torch
from torch import Tensor

from regard.backends.tiled.forward import Saved, Sweep, query_exists
from regard.backends.tiled.kernel import Kernel
from regard.backends.values.normalisers import spent_by_normalisers
from regard.backends.values.totals import Totals
from regard.ir import nodes as n
from regard.ir.bound import Bound


def run_backward(
    kernel: Kernel, bound: Bound, saved: Saved, grads: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Compute the gradients of a call.

    Args:
        kernel: The compiled program.
        bound: The call.
        saved: From `run_forward`.
        grads: The adjoint of each output, by name, in computing dtype.

    Returns:
        The gradients of the wanted tensors, by name.
    """
    # The ranges are those of forward, whose row values these are.
    sweep = Sweep(kernel, bound, saved[0, "summed"].shape[2])
    sweep.weights_grad = grads.get("weights")
    totals = Totals(kernel.request.wanted, bound)
    i1 = 0
    for _, ranges in groupby(saved.items(), key=lambda item: item[0][0]):
        kept = {name: value for (_, name), value in ranges}
        i0, i1 = i1, i1 + kept["summed"].shape[2]
        query: dict = {}
        rows = {**sweep.call_holes, **kept}
        summed = rows["summed"]
        rows["do"] = _summed_adjoint(sweep, i0, i1, rows, grads["output"], totals, query)
        _normaliser_adjoints(sweep, i0, i1, rows, grads, summed, query)
        _row_adjoints(sweep, i0, i1, rows, grads, totals, query)
        for at in sweep.tiles(i0, i1, {}, query, added=True):
            at.holes.update(rows)
            sweep.see(at)
            totals.add(kernel.adjoints.pairs, at)
    return totals.finished()


def _rows_of(grad: Tensor, i0: int, i1: int) -> Tensor:
    """Place rows of (B, H, N) or (B, H, N, E) as a 5-D value."""
    rows = grad[:, :, i0:i1]
    return rows.unsqueeze(3) if rows.dim() == 4 else rows[..., None, None]


def _summed_adjoint(
    sweep: Sweep, i0: int, i1: int, rows: dict, grad: Tensor, totals: Totals, query: dict
) -> Tensor:
    """Return what the summed row receives, and give `finish`'s leaves their gradient."""
    received = _rows_of(grad, i0, i1)
    finish = sweep.kernel.adjoints.finish
    if finish is None:
        return received
    at = sweep.row(i0, i1, {**rows, "grad": received}, query)
    totals.add(finish, at)
    summed = finish.dense.get(n.SUMMED)
    return (
        torch.zeros_like(rows["summed"])
        if summed is None
        else at.real(summed).expand_as(rows["summed"])
    )


def _normaliser_adjoints(
    sweep: Sweep, i0: int, i1: int, rows: dict, grads: dict, summed: Tensor, query: dict
) -> None:
    """Find gd, r times what each term's r receives, and gl, what a thresholded row sum receives."""
    lowered = sweep.kernel.lowered
    inverses = sweep.kernel.adjoints.inverses
    if lowered.single and "weights" not in grads and inverses:
        # The weights are linear in r, so r · gr = Σ_j w_ij (do · v_j) = do · summed row.
        rows[f"gd:{lowered.terms[0].name}"] = (rows["do"] * summed).sum(-1, keepdim=True)
        return
    for name in inverses:
        rows[name] = torch.zeros_like(summed[..., :1])
    for at in sweep.tiles(i0, i1, {}, query) if inverses else ():
        at.holes.update(rows)
        sweep.see(at)
        for name, value in inverses.items():
            rows[name] = rows[name] + at.real(value)
    rows |= spent_by_normalisers(lowered, rows)


def _row_adjoints(
    sweep: Sweep, i0: int, i1: int, rows: dict, grads: dict, totals: Totals, query: dict
) -> None:
    """Find what row sums receive, and give the leaves of sinks and normalisers their gradient."""
    kernel = sweep.kernel
    at = sweep.row(i0, i1, dict(rows), query)
    for name in kernel.lowered.rows:
        received = _rows_of(grads[name], i0, i1)
        exists = query_exists(at)
        at.holes[f"g:{name}"] = received if exists is None else torch.where(exists, received, 0.0)
    for term in kernel.lowered.terms:
        # A term whose weights reach nothing that has a gradient still has row sums to
        # differentiate.
        for letter in ("gd", "gl"):
            at.holes.setdefault(f"{letter}:{term.name}", at.real(n.Const(0.0)))
    gradient = kernel.adjoints.rows
    totals.add(gradient, at)
    for term in kernel.lowered.terms:
        for name in term.sums:
            value = gradient.dense.get(n.Hole(name, "bhi"))
            rows["g" + name] = at.real(n.Const(0.0)) if value is None else at.real(value)
