"""What a condition reads, as intervals: at single rows, over blocks of pairs, at single pairs.

Values are (B or 1, H or 1, x, y), an element per block. Leaves to others: which blocks there are,
and what follows for them (`blocks`, `refine`).
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor

from regard.backends.values import layout
from regard.backends.values.condition import DISTANCE, Along, Condition, Function
from regard.backends.values.functions import Counted, Searched, extremes, look_up, pick
from regard.backends.values.intervals import (
    Interval,
    Range,
    Truth,
    apply,
    number,
    truth,
    whole_points,
    whole_range,
)
from regard.backends.values.remember import Memory
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.types import index_axes, type_of

# Up to here a table is counted, or searched range by range; a larger one is known as a whole.
_LARGEST_COUNTED, _LARGEST_SEARCHED = 1 << 22, 1 << 20
Read = Callable[[n.Node], Interval]


class Rows(NamedTuple):
    """Ranges of the rows of one side.

    Attributes:
        first: The first row of each, (S,).
        last: The last row of each.
    """

    first: Tensor
    last: Tensor


class Blocks(NamedTuple):
    """Blocks of pairs: ranges of query rows times ranges of key rows.

    Attributes:
        queries: Ranges of query rows.
        keys: Ranges of key rows.
        at: Which range of queries and which of keys each block of a list has, (W,) each; None
            where every one meets every one, in a grid.
    """

    queries: Rows
    keys: Rows
    at: tuple[Tensor, Tensor] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """How many blocks there are, (x, y) of a grid or (W, 1) of a list."""
        if self.at is not None:
            return self.at[0].numel(), 1
        return self.queries.first.numel(), self.keys.first.numel()

    def of_queries(self, values: Tensor) -> Tensor:
        """Return values of ranges of queries, (B or 1, H or 1, S), block by block."""
        return (values if self.at is None else pick(values, self.at[0])).unsqueeze(3)

    def of_keys(self, values: Tensor) -> Tensor:
        """Return values of ranges of keys, (B or 1, H or 1, S), block by block."""
        return values.unsqueeze(2) if self.at is None else pick(values, self.at[1]).unsqueeze(3)

    def slab(self, start: int, end: int) -> "Blocks":
        """Return some of the blocks, by x."""
        if self.at is not None:
            return self._replace(at=(self.at[0][start:end], self.at[1][start:end]))
        return self._replace(queries=Rows(*(rows[start:end] for rows in self.queries)))


def evaluate(order: tuple[n.Node, ...], read: Read, gather: Callable) -> Interval:
    """Return the interval of the last of some nodes, each of which comes after what it reads."""
    values: dict[n.Node, Interval] = {}
    for node in order:
        if isinstance(node, n.Call):
            values[node] = apply(node.op, [values[arg] for arg in node.args])
        elif isinstance(node, n.Gather):
            values[node] = gather(node.array, [values[index] for index in node.indices])
        else:
            values[node] = read(node)
    return values[order[-1]]


class Leaves:
    """Reads a condition's leaves in one call, and keeps what serves all blocks.

    Args:
        condition: The condition, with its functions cut out; None always holds.
        bound: The call.
        rows: How many query rows the blocks of the plan have.
        keys: How many key rows they have.
        more_keys: How many keys more than `key_lengths` says there may be.
    """

    def __init__(
        self,
        condition: Condition | None,
        bound: Bound,
        rows: int,
        keys: int,
        more_keys: int = 0,
    ) -> None:
        self.condition, self.bound, self.more_keys = condition, bound, more_keys
        self.rows, self.keys, self.device = rows, keys, bound.q.device
        self.counts = {"query": bound.queries, "key": bound.keys}
        self._functions: dict[n.Node, Counted | Searched] = {}
        self._tables: dict[n.Array, Counted | Searched] = {}
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}
        starts = position_starts(bound.query_positions), position_starts(bound.key_positions)
        self.starts = {"query": starts[0], "key": starts[1]}
        functions = condition.functions if condition else {}
        if any(function.along == "distance" for function in functions.values()):
            self.places = {
                side: Searched(_points(positions[:, None]))  # type: ignore[arg-type]
                for side, positions in (
                    ("query", bound.query_positions),
                    ("key", bound.key_positions),
                )
            }
        for hole, function in functions.items():
            self._functions[hole] = extremes(self._values(function))

    @property
    def exact(self) -> bool:
        """Whether blocks need no closer look: all that is to be said of them is said."""
        if self.condition is None:
            return self.more_keys == 0
        function = self.condition.single
        if function is None or self.bound.query_lengths is not None:
            return False
        reached = function.along != "distance" or None not in self.starts.values()
        values = self._functions[self.condition.order[-1]]
        known = isinstance(values, Counted) and values.same
        return known and reached and self.bound.key_lengths is None

    def periods(self, side: Along) -> tuple[int, tuple[int, ...]]:
        """Return the first position of a side, and at whose multiples something begins anew."""
        starts = self.starts[side]
        if self.condition is None or starts is None:
            return 0, ()
        return starts[0], self.condition.periods[side]

    def known(self, blocks: Blocks) -> Truth:
        """Return whether the pairs of blocks are admitted, (B or 1, H or 1, x, y)."""
        found = Truth(*2 * [torch.ones((1, 1, 1, 1), dtype=torch.bool, device=self.device)])
        if self.condition is not None:
            read = partial(self._at_blocks, blocks=blocks)
            found = truth(evaluate(self.condition.order, read, self._gather))
        for lengths, more, rows, place in (
            (self.bound.query_lengths, 0, blocks.queries, blocks.of_queries),
            (self.bound.key_lengths, self.more_keys, blocks.keys, blocks.of_keys),
        ):
            if lengths is not None:
                lengths = lengths.view(-1, 1, 1)
                must, may = place(rows.last < lengths), place(rows.first < lengths + more)
                found = Truth(found.must & must, found.may & may)
        return found

    # ── Functions, value by value ─────────────────────────────────────────────────────────────
    def _values(self, function: Function) -> Interval:
        """Return all values of a function, (B or 1, H or 1, L)."""
        if function.along == "distance":
            first, last = distances(self.bound)
            self.first_distance = first
            distance = _points(torch.arange(first, last + 1, device=self.device).view(1, 1, -1, 1))
            read = partial(self._at_distances, distance=distance)
        else:
            read = partial(self._at_rows, side=function.along)
        value = evaluate(function.order, read, self._gather)
        count = -1 if function.along == "distance" else self.counts[function.along]
        first, second = (end.squeeze(-1).expand(-1, -1, count) for end in value[:2])
        if isinstance(value, Truth):
            return Truth(first, first if value.must is value.may else second)
        return Range(first, first if value.lo is value.hi else second, value.whole)

    def _at_distances(self, node: n.Node, distance: Interval) -> Interval:
        return distance if node is DISTANCE else self._shared(node)

    def _at_rows(self, node: n.Node, side: Along) -> Interval:
        """Return a leaf at every row of a side, along dimension 2."""
        bound = self.bound
        match node:
            case n.Index(name="i" | "j"):
                positions = bound.query_positions if side == "query" else bound.key_positions
                return _points(positions[:, None, :, None])
            case n.Index(name="row_i" | "row_j"):
                rows = torch.arange(self.counts[side], device=self.device)
                return _points(rows.view(1, 1, -1, 1))
            case n.Feature():
                data = layout.spread_heads(bound.tensors[node.name], bound)
                return _points(data.unsqueeze(-1))
        return self._shared(node)

    # ── Leaves of blocks ──────────────────────────────────────────────────────────────────────
    def _at_blocks(self, node: n.Node, blocks: Blocks) -> Interval:
        match node:
            case n.Hole() if node in self._functions:
                return self._function(node, blocks)
            case n.PairInput():
                return self._pair_input(node.name, blocks)
        return self._shared(node)

    def _function(self, hole: n.Node, blocks: Blocks) -> Interval:
        assert self.condition is not None
        values, along = self._functions[hole], self.condition.functions[hole].along
        if isinstance(values, Counted) and along == "distance":
            return values.within([self._distance_ends(blocks)])
        rows = blocks.queries if along == "query" else blocks.keys
        place = blocks.of_queries if along == "query" else blocks.of_keys
        first = rows.first.view(1, 1, -1)
        last = first if rows.last is rows.first else rows.last.view(1, 1, -1)
        if isinstance(values, Counted):
            found = values.within([(first, last)])
            return Truth(place(found.must), place(found.may))
        found = values.within(first, last)
        lo = place(found.lo)
        return Range(lo, lo if found.hi is found.lo else place(found.hi), found.whole)

    def _distance_ends(self, blocks: Blocks) -> tuple[Tensor, Tensor]:
        i, j = (
            self.places[side].within(*(end.view(1, 1, -1) for end in rows))
            for side, rows in (("query", blocks.queries), ("key", blocks.keys))
        )
        first = blocks.of_queries(i.lo.long() - self.first_distance)
        last = blocks.of_queries(i.hi.long() - self.first_distance)
        return first - blocks.of_keys(j.hi.long()), last - blocks.of_keys(j.lo.long())

    def _pair_input(self, name: str, blocks: Blocks) -> Interval:
        data = self.bound.tensors[name]
        if blocks.queries.first is blocks.queries.last:
            assert blocks.at is not None
            i, j = blocks.queries.first[blocks.at[0]], blocks.keys.first[blocks.at[1]]
            return _points(data[:, :, i, j, None])
        if name not in self._pairs:
            lo, hi = _ends(data, 2, self.rows)
            self._pairs[name] = _ends(lo, 3, self.keys)[0], _ends(hi, 3, self.keys)[1]
        # Parts of a block of the plan are known as the whole block is.
        i, j = blocks.queries.first // self.rows, blocks.keys.first // self.keys
        if blocks.at is not None:
            i, j = i[blocks.at[0]], j[blocks.at[1], None]
        i = i[:, None]
        return _interval(*(end[:, :, i, j] for end in self._pairs[name]))

    def _shared(self, node: n.Node) -> Interval:
        """Return what is the same at all pairs of a head, a draw, or what is unknown."""
        match node:
            case n.Const():
                return _constant(node.value, type(node.value), self.device)
            case n.Index():
                return self._of_call(node.name)
            case n.Scalar():
                return _points(self.bound.tensors[node.name].reshape(1, 1, 1, 1))
            case n.Array() if not index_axes(node):
                return _points(layout.load_array(node, self.bound).squeeze(-1))
            case n.Keep() if self.bound.seed is None:
                return _constant(True, bool, self.device)
            case n.Hole() | n.Keep() | n.Array():
                return _unknown(type_of(node).kind, self.device)
        raise AssertionError(f"no rule reads {type(node).__name__}")

    def _of_call(self, name: str) -> Interval:
        bound = self.bound
        if name == "head":
            heads = torch.arange(bound.heads, device=self.device) + bound.first_head
            return _points(heads.view(1, -1, 1, 1))
        if name == "batch":
            return _points(torch.arange(bound.batch, device=self.device).view(-1, 1, 1, 1))
        lengths = {"queries": bound.query_lengths, "keys": bound.key_lengths}.get(name)
        if lengths is not None:
            return _points(lengths.view(-1, 1, 1, 1))
        sizes = {
            "queries": bound.queries,
            "keys": bound.keys,
            "heads": bound.total_heads or bound.heads,
        }
        return _constant(sizes.get(name, bound.q.shape[-1]), int, self.device)

    # ── Tables ────────────────────────────────────────────────────────────────────────────────
    def _gather(self, array: n.Array, indices: list[Interval]) -> Interval:
        """Return the interval of a table's elements within ranges of its indices.

        Args:
            array: The table or parameter, without channels.
            indices: One per index axis; clipped to its range.

        Returns:
            The interval; of truth values, along one axis and at single places the smallest.
        """
        data = layout.own_heads(array, self.bound)
        data = data.movedim(array.per.index("head"), 0) if "head" in array.per else data[None]
        data = data[None]
        if data.numel() == 0:
            return _unknown(type_of(array).kind, self.device)
        ends = [_places(x, size) for x, size in zip(indices, data.shape[2:], strict=True)]
        if data.dtype == torch.bool and data.numel() <= _LARGEST_COUNTED:
            return self._table(array, data).within(ends)  # type: ignore[arg-type]
        if data.dim() == 3 and data.numel() <= _LARGEST_SEARCHED:
            return self._table(array, data).within(*ends[0])  # type: ignore[arg-type]
        lo, hi = (end.view(1, -1, 1, 1) for end in torch.aminmax(data[0].flatten(1), dim=1))
        one = torch.ones((), dtype=torch.bool, device=self.device)
        for first, last in ends:
            one = one & (first == last)
        at = look_up(data, *(first for first, _ in ends))
        return _interval(torch.where(one, at, lo), torch.where(one, at, hi))

    def _table(self, array: n.Array, data: Tensor) -> Counted | Searched:
        if array not in self._tables:
            self._tables[array] = extremes(_points(data))
        return self._tables[array]


# ── Positions ────────────────────────────────────────────────────────────────────────────────
def distances(bound: Bound) -> tuple[int, int]:
    """Return the least and the largest i - j of a call."""
    i, j = (torch.aminmax(x) for x in (bound.query_positions, bound.key_positions))
    return int(i.min - j.max), int(i.max - j.min)


def position_starts(positions: Tensor) -> tuple[int, ...] | None:
    """Return the first position of each batch row, if positions follow one another.

    Args:
        positions: (B or 1, N).

    Returns:
        The starts, or None.
    """
    if positions.shape[1] > 1:
        # Part of a row of positions that follow one another is one, too.
        base, whole = positions._base, positions
        if base is not None and base.dim() == 1 and positions.shape[0] == positions.stride(1) == 1:
            whole = base
        if not _rising.of_same((), (whole,), lambda: _rises(whole)):
            return None
    return tuple(positions.select(1, 0).tolist()) if positions.shape[1] else ()


def _rises(positions: Tensor) -> Tensor:
    return (positions[..., 1:] - positions[..., :-1] == 1).all()


_rising = Memory()


# ── Places in tables ─────────────────────────────────────────────────────────────────────────
def _places(index: Interval, size: int) -> tuple[Tensor, Tensor]:
    """Return the first and last place an index reads, the whole table where it is unknown."""
    lo, hi, whole = number(index)
    if not whole:
        lo, hi = torch.full_like(lo, torch.nan), torch.full_like(hi, torch.nan)
    lo, hi = lo.nan_to_num(nan=0.0), hi.nan_to_num(nan=float(size))
    return lo.clamp(0, size - 1).long(), hi.clamp(0, size - 1).long()


# ── Intervals of data ────────────────────────────────────────────────────────────────────────
@lru_cache(maxsize=1024)
def _constant(value: bool | int | float, kind: type, device: torch.device) -> Interval:
    """Return a constant; `kind` keeps 1, 1.0 and True apart."""
    exact = torch.full((1, 1, 1, 1), value, dtype=torch.float64, device=device)
    if kind is bool:
        return Truth(exact > 0, exact > 0)
    if kind is int:
        return whole_range(exact, exact)
    # It is computed with in float32 or in float64.
    single = exact.float().double()
    return Range(torch.minimum(exact, single), torch.maximum(exact, single), False)


def _unknown(kind: str, device: torch.device) -> Interval:
    if kind == "bool":
        may = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device)
        return Truth(~may, may)
    nothing = torch.full((1, 1, 1, 1), torch.nan, dtype=torch.float64, device=device)
    return Range(nothing, nothing, kind == "int")


def _points(value: Tensor) -> Interval:
    """Return data whose every element is known."""
    if value.dtype == torch.bool:
        return Truth(value, value)
    if value.dtype.is_floating_point:
        value = value.double()
        return Range(value, value, False)
    return whole_points(value)


def _interval(lo: Tensor, hi: Tensor) -> Interval:
    """Return what lies between two tensors of data."""
    if lo.dtype == torch.bool:
        return Truth(lo, hi)
    if lo.dtype.is_floating_point:
        # Where one end is NaN so is the other: torch's extremes pass it on.
        return Range(lo.double(), hi.double(), False)
    return whole_range(lo, hi)


def _ends(data: Tensor, dim: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the least and largest element of each run of so many along a dimension."""
    count = data.shape[dim]
    if count <= size:
        lo, hi = torch.aminmax(data, dim=dim, keepdim=True)
        return lo, hi
    full = count // size * size
    lo, hi = torch.aminmax(data.narrow(dim, 0, full).unflatten(dim, (-1, size)), dim=dim + 1)
    if full == count:
        return lo, hi
    rest = torch.aminmax(data.narrow(dim, full, count - full), dim=dim, keepdim=True)
    return torch.cat([lo, rest[0]], dim), torch.cat([hi, rest[1]], dim)
