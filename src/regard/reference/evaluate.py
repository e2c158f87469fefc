"""The meaning of a program: its output and what is observed, for one call."""

from collections.abc import Sequence

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.reference.context import Context
from regard.reference.interpret import Interpreter
from regard.reference.observe import observe as observe_one
from regard.reference.rows import sum_rows
from regard.reference.terms import Weights
from regard.reference.weights import Algebra
from regard.reference.widths import Widths


def evaluate(root: n.Output, bound: Bound, observe: Sequence[str] = ()) -> dict[str, Tensor]:
    """Evaluate a program by the definition of the language.

    Every result is differentiable, more than once, with respect to every floating tensor of the
    call. Memory grows with B · H · N · M · max(D, E).

    Args:
        root: A verified program.
        bound: The inputs of the call, checked.
        observe: What to return beside the output, by the names of `ir/observed`.

    Returns:
        "output" (B, H, N, E) and the observed values, in the call's compute dtype.
    """
    context = Context(bound, Widths(bound.tensors))
    # Autocast would narrow the products of rg.project.
    with torch.autocast(bound.q.device.type, enabled=False):
        algebra = Algebra(context)
        found = {"output": _sum_values(root, algebra.evaluate(root.weights), context)}
        for name in observe:
            found[name] = observe_one(root, name, algebra, context)
    floating = {name for name, value in found.items() if value.is_floating_point()}
    return {
        name: value.to(context.dtype) if name in floating else value
        for name, value in found.items()
    }


def _sum_values(root: n.Output, weights: Weights, context: Context) -> Tensor:
    points = context.points(weights.mask)
    rows, row = points.onto("bhi")
    width = context.widths.need(root.values)
    values = Interpreter(context, points).at_float(root.values, width)
    weight = weights.at(points)[:, None]
    summed = sum_rows(weight * values, row, rows.count)
    if root.finish is not None:
        context.widths.declare(n.SUMMED, width)
        finished = context.widths.need(root.finish)
        summed = Interpreter(context, rows, given={n.SUMMED: summed}).at(root.finish, finished)
    # Rows that see nothing were never listed, so they are 0 whatever `finish` makes of 0.
    return rows.scatter(context.as_float(summed))
