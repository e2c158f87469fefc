"""What running sums carry from one tile to the next, found by a sweep of its own when first needed.

The sweep finds the row totals of each key range, in memory O(rows · key ranges); the totals of the
ranges before a tile (behind it, in reverse) are what it starts from. A running sum inside another,
or in a score that an adjoint reads, is met by that sweep and found by one of its own before.
Leaves to others: sums within a tile (`values/running`), the tiles (`forward`).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from regard.backends.tiled.kernel import Kernel, key_ranges
from regard.backends.values.blocks import EMPTY, classify_blocks
from regard.backends.values.evaluate import Evaluator
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.passes.build import substitute

# Yields evaluators of some key ranges of a range of query rows, with holes and what is kept for
# those rows.
Visit = Callable[[int, int, list[tuple[int, int]], dict[str, Tensor], dict], Iterator[Evaluator]]


class Carries:
    """The carries of one range of query rows at a time.

    Args:
        kernel: The compiled program.
        bound: The call.
        rows: Query rows of a tile.
        visit: Yields evaluators.
        see: Puts "seen" of every term into an evaluator's holes.
    """

    def __init__(
        self,
        kernel: Kernel,
        bound: Bound,
        rows: int,
        visit: Visit,
        see: Callable[[Evaluator], None],
    ) -> None:
        self._kernel, self._bound, self._rows = kernel, bound, rows
        self._visit, self._see = visit, see
        self._ranges = list(key_ranges(kernel, bound))
        lowered = kernel.lowered
        sums = [body for term in lowered.terms for body in term.sums.values()]
        order = n.walk(lowered.weights, lowered.values, *sums)
        self._forward = [node for node in order if isinstance(node, n.Running)]
        # Where a term sees a pair, its `where` admits it.
        self._admitted: dict[n.Node, n.Node] = {
            term.hole("seen"): term.where or n.Const(True) for term in lowered.terms
        }
        self._plans: dict[n.Node, list[list[bool]]] = {}
        self._found: dict[n.Running, list[Tensor]] = {}
        self._at = (-1, -1)

    def __call__(self, node: n.Running, at: Evaluator) -> Tensor | None:
        """Return what the key rows of other tiles add to a running sum in a tile.

        Args:
            node: The running sum.
            at: The tile's evaluator, with the holes that the sum reads.

        Returns:
            A 5-D value without key axis, or None if the tile has all key rows.
        """
        if len(self._ranges) == 1:
            return None
        rows = at.tile.i0, at.tile.i1
        if rows != self._at:
            self._found, self._at = {}, rows
        if node not in self._found:
            self._found[node] = self._find(node, at)
        return self._found[node][self._ranges.index((at.tile.j0, at.tile.j1))]

    def adding(self, i0: int) -> set[tuple[int, int]]:
        """Return the key ranges that running sums of the program may add up.

        Args:
            i0: The first query row.

        Returns:
            Key ranges; a gradient may reach what they hold, even if no term sees it.
        """
        return {keys for node in self._forward for keys in self._added_up(node, i0)}

    def _find(self, node: n.Running, at: Evaluator) -> list[Tensor]:
        """Return the carries of each key range."""
        i0, i1 = at.tile.i0, at.tile.i1
        # What belongs to the tile that asks is not that of the others.
        holes = {name: x for name, x in at.holes.items() if not name.startswith("seen:")}
        reads_seen = any(isinstance(x, n.Hole) and x.name[:5] == "seen:" for x in n.walk(node))
        totals: dict[int, Tensor] = {}
        for tile in self._visit(i0, i1, self._added_up(node, i0), holes, at.cache.query):
            if reads_seen:
                self._see(tile)
            totals[tile.tile.j0] = tile.added(node).sum(3, keepdim=True)
        zero = torch.zeros((1, 1, 1, 1, 1), device=at.bound.q.device, dtype=torch.int64)
        parts = [totals.get(j0, zero) for j0, _ in self._ranges]
        parts = parts[::-1] if node.reverse else parts
        carries = [zero]
        for part in parts[:-1]:
            carries.append(carries[-1] + part)
        return carries[::-1] if node.reverse else carries

    def _added_up(self, node: n.Running, i0: int) -> list[tuple[int, int]]:
        """Return the key ranges that a running sum may add up."""
        if not self._bound.queries or len(self._ranges) == 1:
            return self._ranges
        if node not in self._plans:
            where = None if node.where is None else substitute(node.where, self._admitted)
            codes = classify_blocks(where, self._bound, self._rows, self._kernel.tile[1])
            self._plans[node] = (codes.flatten(0, 1) != EMPTY).any(0).tolist()
        may = self._plans[node][i0 // self._rows]
        return [keys for keys, added in zip(self._ranges, may, strict=True) if added]
