"""What is known of the whole numbers of a pair: between which they lie, and which bits they have.

Most follows from the expression (`passes/bound_scores`); where the pair stands, and what became of
bits, is noted while a function is traced. Leaves to others: arithmetic (`elementwise`, `bits`).
"""

import contextvars
import math
from dataclasses import dataclass, field

from regard.ir import nodes as n
from regard.passes.bound_scores import Bounds, bound_of


@dataclass
class Known:
    """What one tracing knows beside what expressions say.

    Attributes:
        bounds: The least and the largest value, by node.
        bits: Of numbers that are not negative, which bits may be set, by node.
    """

    bounds: dict[n.Node, Bounds] = field(default_factory=dict)
    bits: dict[n.Node, int] = field(default_factory=dict)


KNOWN: contextvars.ContextVar[Known] = contextvars.ContextVar("flex_known")


def range_of(node: n.Node) -> Bounds:
    """Return the least and the largest value of a number; -inf and inf where nothing is known."""
    return bound_of(node, KNOWN.get().bounds)


def bits_of(node: n.Node) -> int | None:
    """Return which bits of a whole number may be set; None if it may be negative or any."""
    known = KNOWN.get().bits.get(node)
    if known is not None:
        return known
    low, high = range_of(node)
    if low < 0 or math.isinf(high):
        return None
    return int(high) if low == high else (1 << int(high).bit_length()) - 1


def note_bits(node: n.Node, bits: int) -> None:
    """Note which bits of a whole number may be set, and no others."""
    known = KNOWN.get()
    known.bits[node], known.bounds[node] = bits, (0.0, float(bits))
