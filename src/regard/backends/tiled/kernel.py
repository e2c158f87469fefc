"""What the tiled backend compiles: a program as sweeps, its adjoint sweeps, and the size of a tile.

Leaves to others: running it (`forward`, `backward`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property

import torch

from regard.backends.base import Request
from regard.backends.values.blocks import MIXED, classify_blocks
from regard.backends.values.evaluate import product_of
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.program import Leaf
from regard.ir.types import axes_of
from regard.passes.adjoint import Adjoints, derive_adjoints
from regard.passes.build import mul, select
from regard.passes.lower import Lowered, lower

# Numbers in one pair-level value of a tile: 4 MB in float32, about one core's share of cache.
TILE_NUMBERS = 1 << 20
# The same where a value holds channels at every pair: tiles have fewer rows then.
CHANNEL_TILE_NUMBERS = 1 << 20
LEAST_ROWS, MOST_KEYS = 16, 512
_forced: ContextVar[tuple[int, int] | None] = ContextVar("forced tile", default=None)


@contextmanager
def force_tile(rows: int, keys: int) -> Iterator[None]:
    """Run in tiles of this size until the block ends, for tests and measurements.

    Args:
        rows: Query rows of a tile.
        keys: Key rows of a tile.

    Yields:
        Nothing; a backward after the block keeps the query rows and chooses key rows itself.
    """
    token = _forced.set((rows, keys))
    try:
        yield
    finally:
        _forced.reset(token)


@dataclass(frozen=True)
class Kernel:
    """A compiled program.

    Attributes:
        request: What was asked for.
        lowered: The program as sweeps.
        wanted: The leaves whose gradient is asked for.
        key_maxima: `max_over_keys` nodes by the name of the hole that stands for each.
        dense_weights: Whether the dense weights are returned.
        derived: Adjoint sweeps by what receives something.
    """

    request: Request
    lowered: Lowered
    wanted: tuple[n.Node, ...]
    key_maxima: dict[str, n.KeyMax]
    dense_weights: bool
    derived: dict[frozenset[str], Adjoints] = field(default_factory=dict)

    @property
    def finish(self) -> n.Node | None:
        """The row expression applied to the summed row."""
        return self.lowered.finish

    @cached_property
    def row_sums(self) -> dict[str, n.Node]:
        """Each term's row sums over a tile, by hole name."""
        return {
            name: n.Reduce(body, "j") for t in self.lowered.terms for name, body in t.sums.items()
        }

    @cached_property
    def summed(self) -> n.Node:
        """The sum of weights · values over a tile's keys."""
        weighted = mul(self.lowered.weights, self.lowered.values)
        return n.Reduce(select(self.lowered.seen, weighted), "j")

    @cached_property
    def adjoints(self) -> Adjoints:
        """The adjoint sweeps if nothing that is observed receives anything."""
        return self.adjoints_of(frozenset())

    def adjoints_of(self, received: frozenset[str]) -> Adjoints:
        """Return the adjoint sweeps, derived when first needed.

        Args:
            received: What is observed and receives something, by name.

        Returns:
            The sweeps.
        """
        if received not in self.derived:
            watched = tuple(one for one in self.lowered.statistics if one.name in received)
            dense = "weights" in received
            self.derived[received] = derive_adjoints(
                self.lowered, self.wanted, dense, watched=watched
            )
        return self.derived[received]

    @property
    def tile(self) -> tuple[int, int]:
        """How many query rows and key rows a tile has."""
        return _forced.get() or self.fitting_tile

    @cached_property
    def fitting_tile(self) -> tuple[int, int]:
        """The size of a tile whose values fit the memory they are meant for."""
        request = self.request
        channels = request.pair_channels if _has_pair_channels(self) else 0
        budget = CHANNEL_TILE_NUMBERS if channels else TILE_NUMBERS
        pairs = max(1, budget // (request.batch * request.heads * max(1, channels)))
        keys = min(request.keys, MOST_KEYS, max(LEAST_ROWS, pairs // LEAST_ROWS))
        return max(LEAST_ROWS, pairs // max(1, keys)), max(1, keys)


def _has_pair_channels(kernel: Kernel) -> bool:
    """Tell whether some value must hold channels at every pair of a tile."""
    roots = [kernel.lowered.weights, n.Reduce(kernel.lowered.values, "j")]
    for node in n.walk(*roots):
        if isinstance(node, n.Reduce):
            factors, _ = product_of(node.body)
            if any(set("ijc") <= set(axes_of(factor)) for factor in factors):
                return True
    return False


def compile_kernel(request: Request) -> Kernel:
    """Compile a program for a kind of call.

    Args:
        request: The kind of call.

    Returns:
        The kernel.

    Raises:
        UnsupportedError: If the program needs a sweep this backend does not have.
    """
    maxima: dict[str, n.KeyMax] = {}

    def change(node: n.Node) -> n.Node | None:
        if not isinstance(node, n.KeyMax):
            return None
        hole = n.Hole(f"keymax:{len(maxima)}", axes_of(node))
        maxima[hole.name] = node
        return hole

    root = n.rewrite(request.root, change)
    assert isinstance(root, n.Output)
    lowered = lower(root, request.observe, request.seeded)
    # A parameter may be called like a position or a term, which have no gradient.
    leaves = (node for node in n.walk(root) if isinstance(node, Leaf))
    wanted = tuple(leaf for leaf in leaves if leaf.name in request.wanted)
    return Kernel(request, lowered, wanted, maxima, "weights" in request.observe)


def query_ranges(kernel: Kernel, bound: Bound) -> Iterator[tuple[int, int]]:
    """Yield the ranges of query rows, at least one."""
    size = kernel.tile[0]
    for i0 in range(0, max(1, bound.queries), size):
        yield i0, min(bound.queries, i0 + size)


def key_ranges(kernel: Kernel, bound: Bound) -> Iterator[tuple[int, int]]:
    """Yield the ranges of key rows, at least one."""
    size = kernel.tile[1]
    for j0 in range(0, max(1, bound.keys), size):
        yield j0, min(bound.keys, j0 + size)


def plan_tiles(kernel: Kernel, bound: Bound, rows: int) -> list[list[list[int]]] | None:
    """Return what each term's `where` says of every tile, or None if there is a single one.

    Args:
        kernel: The kernel.
        bound: The call.
        rows: Query rows of a tile.

    Returns:
        By term, query range and key range: EMPTY, FULL or MIXED for all batch rows and heads.
    """
    keys = kernel.tile[1]
    if (bound.queries <= rows and bound.keys <= keys) or not (bound.queries and bound.keys):
        return None
    plans = []
    for term in kernel.lowered.terms:
        found = classify_blocks(term.where, bound, rows, keys).flatten(0, 1)
        plans.append(torch.where((found == found[0]).all(0), found[0], MIXED).tolist())
    return plans
