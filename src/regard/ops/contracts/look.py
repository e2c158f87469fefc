"""Looking at small calls: outputs, weights and seen pairs by the reference, and what differs.

Leaves to others: which calls, and what is changed in them (`search_regions`, `search_changes`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ops.contracts.counterexample import Counterexample
from regard.reference.context import Context
from regard.reference.evaluate import evaluate
from regard.reference.weights import Algebra
from regard.reference.widths import Widths

# Larger differences are no rounding in float64; smaller ones are not looked into.
_RELATIVE, _ABSOLUTE = 1e-5, 1e-7


def output_of(root: n.Output, bound: Bound) -> Tensor:
    """Return the output of a call, (B, H, N, E), without gradient."""
    with torch.no_grad():
        return evaluate(root, bound)["output"]


def weights_of(root: n.Output, bound: Bound) -> Tensor:
    """Return the weights of a call, (B, H, N, M)."""
    with torch.no_grad():
        return evaluate(root, bound, ["weights"])["weights"]


def seen_in(root: n.Output, bound: Bound) -> Tensor:
    """Return which pairs the weights of a call see, bool (B, H, N, M)."""
    with torch.no_grad():
        return Algebra(Context(bound, Widths(bound.tensors))).evaluate(root.weights).mask


def differs(a: Tensor, b: Tensor) -> Tensor:
    """Return where numbers differ by more than rounding; NaN equals NaN."""
    return ~torch.isclose(a, b, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True)


@dataclass(frozen=True)
class Place:
    """Where in a call a contract broke.

    Attributes:
        batch: The batch row.
        head: The head.
        row: The query row.
        key: The key row, or None.
    """

    batch: int
    head: int
    row: int
    key: int | None = None


def first_place(mask: Tensor) -> Place | None:
    """Return the first place at which a mask over (B, H, N) or (B, H, N, M) holds."""
    found = mask.nonzero()
    return Place(*found[0].tolist()) if len(found) else None


def show(
    root: n.Output,
    bound: Bound,
    place: Place,
    change: str,
    before: object,
    after: object,
    note: str = "",
) -> Counterexample:
    """Return a counterexample for a person to read.

    Args:
        root: The program.
        bound: The call, before the change.
        place: Where the contract broke.
        change: What was done to the call.
        before: What was found without the change.
        after: What was found with it.
        note: What else is worth knowing.

    Returns:
        The counterexample.
    """
    queries, keys = bound.query_positions[0].tolist(), bound.key_positions[0].tolist()
    seen = seen_in(root, bound)[place.batch, place.head].tolist()
    return Counterexample(
        query=queries[place.row],
        key=None if place.key is None else keys[place.key],
        head=place.head,
        change=change,
        before=_shown(before),
        after=_shown(after),
        query_positions=tuple(queries),
        key_positions=tuple(keys),
        seen=tuple(map(tuple, seen)),
        note=note,
    )


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def differing(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Return the first two numbers of two rows that differ."""
    at = int(differs(a, b).nonzero()[0, 0])
    return a[at].item(), b[at].item()
