"""What is observed of the weights: sums over a tile's keys or queries, and a row's largest weights.

Leaves to others: which sums (`passes/statistics`), the sweeps (`forward`, `backward`).
"""

from typing import Protocol

import torch
from torch import Tensor

from regard.backends.tiled.kernel import Kernel
from regard.backends.tiled.thresholds import Swept, whole_rows
from regard.backends.values import layout
from regard.backends.values.evaluate import Evaluator, places_in
from regard.ir import nodes as n
from regard.ir.observed import parse
from regard.passes.lower import Lowered
from regard.passes.statistics import Statistic, columns_hole


class Watched(Swept, Protocol):
    """What is read of a sweep whose weights are observed."""

    grads: dict[str, Tensor]

    def see(self, at: Evaluator) -> None:
        """Put every term's "seen" into an evaluator's holes."""
        ...


def summed_statistics(lowered: Lowered, later: bool) -> list[Statistic]:
    """Return the statistics that are sums.

    Args:
        lowered: The program.
        later: Whether those that read others are meant, or those that do not.

    Returns:
        Statistics.
    """
    sums = (one for one in lowered.statistics if "k" not in one.axes)
    return [one for one in sums if one.reads_others == later]


def sum_in_tile(one: Statistic, at: Evaluator) -> Tensor:
    """Return what a tile adds to a statistic, 5-D.

    Args:
        one: The statistic.
        at: The tile's evaluator.

    Returns:
        The sum over the tile's keys, or over its queries.
    """
    return at(n.Reduce(one.body, "i" if one.axes == "bhj" else "j"))


def put_columns(kernel: Kernel, at: Evaluator) -> None:
    """Put the columns of a tile's keys into its holes: 1 at a key's class.

    Args:
        kernel: The compiled program.
        at: The tile's evaluator.
    """
    for one in kernel.lowered.statistics:
        asked = parse(one.name)
        if asked.kind == "classes":
            assert asked.feature is not None
            kind = layout.load_leaf(asked.feature, at.bound, at.tile)
            classes = torch.arange(asked.size, device=kind.device)
            at.holes[columns_hole(one.name).name] = (kind == classes).to(at.bound.compute_dtype)


def put_received(sweep: Watched, at: Evaluator) -> None:
    """Put what a tile's weights receive by themselves into its holes, in a gradient.

    Args:
        sweep: The call.
        at: The tile's evaluator, with the row values of its query rows.
    """
    rows, keys = slice(at.tile.i0, at.tile.i1), slice(at.tile.j0, at.tile.j1)
    for name, grad in sweep.grads.items():
        asked = parse(name)
        if asked.kind == "weights":
            at.holes["gw"] = grad[:, :, rows, keys].unsqueeze(-1)
        elif asked.kind == "received":
            at.holes["g:received"] = grad[:, :, None, keys, None]
        elif asked.kind == "top":
            places = places_in(at.tile, at.holes[f"keys:{asked.size}"])
            shape = (*places.shape[:3], at.sizes["j"] + 1, 1)
            spread = grad.new_zeros(shape).scatter_(3, places, grad[:, :, rows, :, None])
            at.holes[f"g:{name}"] = spread[:, :, :, :-1]


def rank_weights(sweep: Watched, i0: int, i1: int, rows: dict[str, Tensor]) -> dict[str, Tensor]:
    """Find the largest weights of a range of query rows, and their keys.

    Args:
        sweep: The call.
        i0: The first query row.
        i1: The row after the last.
        rows: The row values of the range, to which the keys are added.

    Returns:
        Weights and keys by the names of what is observed, (B, H, rows, k).
    """
    found: dict[str, Tensor] = {}
    lowered = sweep.kernel.lowered

    def admitted(at: Evaluator) -> Tensor:
        sweep.see(at)
        return at.condition(lowered.seen)

    for one in lowered.statistics:
        if "k" not in one.axes:
            continue
        k = parse(one.name).size
        parts = []
        for _, weights in whole_rows(sweep, i0, i1, rows, one.weight, admitted):
            parts.append(largest(weights.squeeze(-1), k))
        values, keys = (torch.cat(part, 2) for part in zip(*parts, strict=True))
        found |= {one.name: values, f"keys:{k}": keys}
        rows[f"keys:{k}"] = keys.unsqueeze(-1)
    return found


def largest(weights: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest numbers of each row, the lower key first among equals.

    Args:
        weights: (..., M), -inf where there is none.
        k: How many.

    Returns:
        The numbers, 0 where there are fewer; and their keys, -1 there.
    """
    weights = torch.nn.functional.pad(weights, (0, max(0, k - weights.shape[-1])), value=-torch.inf)
    ordered = weights.sort(dim=-1, descending=True, stable=True)
    values, keys = ordered.values[..., :k], ordered.indices[..., :k]
    none = values == -torch.inf
    return values.masked_fill(none, 0), keys.masked_fill(none, -1)
