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
from regard.passes.adjoint import Adjoints


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
    sweep.grads = grads
    adjoints = kernel.adjoints_of(frozenset(grads))
    totals = Totals(kernel.request.wanted, bound)
    i1 = 0
    for _, ranges in groupby(saved.items(), key=lambda item: item[0][0]):
        kept = {name: value for (_, name), value in ranges}
        i0, i1 = i1, i1 + kept["summed"].shape[2]
        query: dict = {}
        rows = {**sweep.call_holes, **kept}
        summed = rows["summed"]
        rows["do"] = _summed_adjoint(sweep, i0, i1, rows, adjoints, totals, query)
        _statistic_adjoints(sweep, i0, i1, rows)
        _normaliser_adjoints(sweep, i0, i1, rows, adjoints, summed, query)
        _row_adjoints(sweep, i0, i1, rows, adjoints, totals, query)
        for at in sweep.tiles(i0, i1, {}, query, added=True):
            at.holes.update(rows)
            sweep.see(at)
            totals.add(adjoints.pairs, at)
    return totals.finished()


def _rows_of(grad: Tensor, i0: int, i1: int) -> Tensor:
    """Place rows of (B, H, N) or (B, H, N, E) as a 5-D value."""
    rows = grad[:, :, i0:i1]
    return rows.unsqueeze(3) if rows.dim() == 4 else rows[..., None, None]


def _summed_adjoint(
    sweep: Sweep, i0: int, i1: int, rows: dict, adjoints: Adjoints, totals: Totals, query: dict
) -> Tensor:
    """Return what the summed row receives, and give `finish`'s leaves their gradient."""
    received = _rows_of(sweep.grads["output"], i0, i1)
    finish = adjoints.finish
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


def _statistic_adjoints(sweep: Sweep, i0: int, i1: int, rows: dict) -> None:
    """Put what observed sums of these query rows receive among the row values."""
    for one in sweep.kernel.lowered.statistics:
        if one.name in sweep.grads and "i" in one.axes and "k" not in one.axes:
            rows[one.adjoint.name] = _rows_of(sweep.grads[one.name], i0, i1)


def _normaliser_adjoints(
    sweep: Sweep, i0: int, i1: int, rows: dict, adjoints: Adjoints, summed: Tensor, query: dict
) -> None:
    """Find gd, r times what each term's r receives, and gl, what a thresholded row sum receives."""
    lowered = sweep.kernel.lowered
    inverses = adjoints.inverses
    watched = [one for one in lowered.statistics if one.name in sweep.grads]
    known = all(one.linear and one.axes in ("bhi", "bhic") for one in watched)
    if lowered.single and known and "weights" not in sweep.grads and inverses:
        # The weights are linear in r, so r · gr = Σ_j w_ij (do · v_j) = do · summed row.
        gd = (rows["do"] * summed).sum(-1, keepdim=True)
        for one in watched:
            part = rows[one.adjoint.name] * rows[one.hole.name]
            gd = gd + part.sum(-1, keepdim=True)
        rows[f"gd:{lowered.terms[0].name}"] = gd
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
    sweep: Sweep, i0: int, i1: int, rows: dict, adjoints: Adjoints, totals: Totals, query: dict
) -> None:
    """Find what row sums receive, and give the leaves of sinks and normalisers their gradient."""
    kernel = sweep.kernel
    at = sweep.row(i0, i1, dict(rows), query)
    for name in kernel.lowered.rows:
        if name not in sweep.grads:
            at.holes[f"g:{name}"] = at.real(n.Const(0.0))
            continue
        received = _rows_of(sweep.grads[name], i0, i1)
        exists = query_exists(at)
        at.holes[f"g:{name}"] = received if exists is None else torch.where(exists, received, 0.0)
    for term in kernel.lowered.terms:
        # A term whose weights reach nothing that has a gradient still has row sums to
        # differentiate.
        for letter in ("gd", "gl"):
            at.holes.setdefault(f"{letter}:{term.name}", at.real(n.Const(0.0)))
    gradient = adjoints.rows
    totals.add(gradient, at)
    for term in kernel.lowered.terms:
        for name in term.sums:
            value = gradient.dense.get(n.Hole(name, "bhi"))
            rows["g" + name] = at.real(n.Const(0.0)) if value is None else at.real(value)
