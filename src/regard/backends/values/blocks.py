"""Whether a program's `where` admits none, all or some pairs of a block, without evaluating pairs.

A block is a range of query rows times a range of key rows. Leaves become the least and largest
value in each block; everything above them is interval arithmetic (`intervals`). What is said is
sound: a block that is not known to be empty or full is mixed. It is exact for windows, prefixes
and sorted features at contiguous positions. Leaves to others: using it.
"""

import itertools
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from regard.backends.values import layout
from regard.backends.values.intervals import (
    Interval,
    Range,
    Truth,
    apply,
    number,
    truth,
    whole_range,
)
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.types import index_axes, type_of
from regard.passes.build import add, call, mul

EMPTY, FULL, MIXED = 0, 1, 2

# Up to here a table is searched range by range; a larger one is known as a whole.
_LARGEST_TABLE = 1 << 16
_REMEMBERED = 256
_remembered: dict[tuple, tuple[list[tuple[weakref.ref, int]], Any]] = {}
Found = TypeVar("Found")


def classify_blocks(condition: n.Node | None, bound: Bound, rows: int, keys: int) -> Tensor:
    """Tell for every block whether the pairs in it are admitted.

    Lengths count as part of the condition: pairs of absent rows are not admitted, and a block that
    holds absent and existing rows is never full. That the last block may reach beyond N or M does
    not matter: it stands for the rows there are.

    Args:
        condition: A condition over pairs; None always holds.
        bound: The call.
        rows: How many query rows a block has.
        keys: How many key rows a block has.

    Returns:
        int8 (B or 1, H or 1, ceil(N / rows), ceil(M / keys)) of EMPTY, FULL and MIXED, contiguous.
        It may be kept and given again, so nobody may write to it.
    """
    if bound.query_lengths is not None or bound.key_lengths is not None:
        return _classify(condition, bound, rows, keys)
    if condition is not None and not _plan(condition).positional:
        return _classify(condition, bound, rows, keys)
    key = (condition, rows, keys, bound.q.shape, bound.first_head, bound.total_heads)
    positions = bound.query_positions, bound.key_positions
    return _remember(key, positions, lambda: _classify(condition, bound, rows, keys))


def _remember(key: tuple, tensors: tuple[Tensor, ...], make: Callable[[], Found]) -> Found:
    """Return what was made of these very tensors before, or make it."""
    key = (key, *map(id, tensors))
    found = _remembered.get(key)
    if found is not None and _same(found[0], tensors):
        return found[1]
    made = make()
    if len(_remembered) >= _REMEMBERED:
        _remembered.clear()
    _remembered[key] = [(weakref.ref(tensor), _version(tensor)) for tensor in tensors], made
    return made


def _same(seen: list[tuple[weakref.ref, int]], tensors: tuple[Tensor, ...]) -> bool:
    """Tell whether tensors are those seen: an id is given again, and a tensor may be written to."""
    for (ref, version), tensor in zip(seen, tensors, strict=True):
        if ref() is not tensor or _version(tensor) != version:
            return False
    return True


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _classify(condition: n.Node | None, bound: Bound, rows: int, keys: int) -> Tensor:
    # Not as inference tensors, because a later call that is trained may be given the same.
    with torch.inference_mode(False), torch.no_grad():
        leaves = _Leaves(bound, rows, keys)
        if 0 in leaves.size:
            return torch.zeros((1, 1, *leaves.size), dtype=torch.int8, device=leaves.device)
        found = leaves.always if condition is None else _evaluate(_plan(condition), leaves)
        for exists in leaves.existing():
            found = Truth(found.must & exists.must, found.may & exists.may)
        codes = 2 * found.may.to(torch.int8) - found.must.to(torch.int8)
        return codes.expand(codes.shape[0], codes.shape[1], *leaves.size).contiguous()


# ── Preparing a condition ────────────────────────────────────────────────────────────────────
class _Plan(NamedTuple):
    """A condition made ready: its nodes in order, and whether they read no data but positions."""

    order: tuple[n.Node, ...]
    positional: bool


_READ = (n.Const, n.Index, n.Feature, n.Array, n.Scalar, n.PairInput, n.Call, n.Gather, n.Keep)
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
Form = tuple[int, int, int]


@lru_cache(maxsize=1024)
def _plan(condition: n.Node) -> _Plan:
    order = tuple(n.walk(n.rewrite(condition, _Simplifier())))
    positional = all(isinstance(node, n.Const | n.Index | n.Call | n.Hole) for node in order)
    return _Plan(order, positional)


class _Simplifier:
    """Hides what no interval is known of, and meets each position once in what is linear in them.

    Before: sum(q) > 0; i - j <= i + 3.
    After: a hole > 0; -1·j - 3 <= 0, whose interval is exact.
    """

    def __init__(self) -> None:
        self.forms: dict[n.Node, Form | None] = {}

    def __call__(self, node: n.Node) -> n.Node:
        kind = type_of(node)
        if not isinstance(node, _READ) or "c" in kind.axes:
            return n.Hole("unknown", kind.axes, kind.kind)
        form = self._form(node)
        if isinstance(node, n.Call) and len(node.args) == 2:
            a, b = (self.forms.get(arg) for arg in node.args)
            if a is not None and b is not None and ((a[0] and b[0]) or (a[1] and b[1])):
                if node.op in _COMPARISONS:
                    return call(node.op, self._written(_sum(a, b, -1)), 0)
                node = node if form is None else self._written(form)
        self.forms[node] = form
        return node

    def _form(self, node: n.Node) -> Form | None:
        """Return (ci, cj, c) if a node is ci·i + cj·j + c."""
        if isinstance(node, n.Const) and type(node.value) is int:
            return 0, 0, node.value
        if isinstance(node, n.Index) and node.name in ("i", "j"):
            return int(node.name == "i"), int(node.name == "j"), 0
        if not isinstance(node, n.Call) or node.op not in ("add", "sub", "neg", "mul"):
            return None
        forms = [self.forms.get(arg) for arg in node.args]
        a, b = forms[0], forms[-1]
        if a is None or b is None:
            return None
        if node.op != "mul":
            zero = (0, 0, 0)
            return _sum(zero, a, -1) if node.op == "neg" else _sum(a, b, 1 - 2 * (node.op == "sub"))
        factor, other = (a, b) if a[:2] == (0, 0) else (b, a)
        return _sum((0, 0, 0), other, factor[2]) if factor[:2] == (0, 0) else None

    def _written(self, form: Form) -> n.Node:
        terms = [mul(n.Const(c), n.Index(name)) for c, name in zip(form, "ij", strict=False)]
        made = add(add(*terms), n.Const(form[2]))
        self.forms[made] = form
        return made


def _sum(a: Form, b: Form, times: int) -> Form:
    return a[0] + times * b[0], a[1] + times * b[1], a[2] + times * b[2]


def _evaluate(plan: _Plan, leaves: "_Leaves") -> Truth:
    values: dict[n.Node, Interval] = {}
    for node in plan.order:
        if isinstance(node, n.Call):
            values[node] = apply(node.op, [values[arg] for arg in node.args])
        elif isinstance(node, n.Gather):
            values[node] = leaves.gather(node.array, [values[index] for index in node.indices])
        else:
            values[node] = leaves.read(node)
    return truth(values[plan.order[-1]])


# ── Leaves, block by block ───────────────────────────────────────────────────────────────────
class _Leaves:
    """Reads leaves as intervals of (b, h, query blocks, key blocks), of size 1 where fixed.

    Args:
        bound: The call.
        rows: How many query rows a block has.
        keys: How many key rows a block has.
    """

    def __init__(self, bound: Bound, rows: int, keys: int) -> None:
        self.bound, self.rows, self.keys, self.device = bound, rows, keys, bound.q.device
        self.size = -(-bound.queries // rows), -(-bound.keys // keys)
        self.always = truth(_constant(True, bool, self.device))

    def existing(self) -> list[Truth]:
        """Return for each side that has lengths whether its blocks exist."""
        found = []
        for lengths, side in (
            (self.bound.query_lengths, "query"),
            (self.bound.key_lengths, "key"),
        ):
            if lengths is not None:
                first, last = self._row_numbers(side)
                lengths = lengths.view(-1, 1, 1, 1)
                found.append(Truth(last < lengths, first < lengths))
        return found

    def read(self, node: n.Node) -> Interval:
        """Return the interval of a leaf, of a draw, or of what is unknown."""
        match node:
            case n.Const():
                return _constant(node.value, type(node.value), self.device)
            case n.Index():
                return self._index(node.name)
            case n.Feature():
                return self._feature(node)
            case n.PairInput():
                lo, hi = _ends(self.bound.tensors[node.name], 2, self.rows)
                return _interval(_ends(lo, 3, self.keys)[0], _ends(hi, 3, self.keys)[1])
            case n.Scalar():
                return _point(self.bound.tensors[node.name].reshape(1, 1, 1, 1))
            case n.Array() if not index_axes(node):
                return _point(layout.load_array(node, self.bound).squeeze(-1))
            case n.Keep() if self.bound.seed is None:
                return self.always
            case n.Hole() | n.Keep() | n.Array():
                return _unknown(type_of(node).kind, self.device)
        raise AssertionError(f"no rule reads {type(node).__name__}")

    def _index(self, name: str) -> Range:
        bound = self.bound
        match name:
            case "i":
                return _positions(bound.query_positions, (-1, 1, self.size[0], 1), self.rows)
            case "j":
                return _positions(bound.key_positions, (-1, 1, 1, self.size[1]), self.keys)
            case "row_i" | "row_j":
                return whole_range(*self._row_numbers("query" if name == "row_i" else "key"))
            case "head":
                heads = torch.arange(bound.heads, device=self.device) + bound.first_head
                return _whole_point(heads.view(1, -1, 1, 1))
            case "batch":
                return _whole_point(torch.arange(bound.batch, device=self.device).view(-1, 1, 1, 1))
        lengths = {"queries": bound.query_lengths, "keys": bound.key_lengths}.get(name)
        if lengths is not None:
            return _whole_point(lengths.view(-1, 1, 1, 1))
        sizes = {
            "queries": bound.queries,
            "keys": bound.keys,
            "heads": bound.total_heads or bound.heads,
        }
        found = _constant(sizes.get(name, bound.q.shape[-1]), int, self.device)
        assert isinstance(found, Range)
        return found

    def _row_numbers(self, side: str) -> tuple[Tensor, Tensor]:
        """Return the first and last row of each block."""
        bound = self.bound
        count, size = (bound.queries, self.rows) if side == "query" else (bound.keys, self.keys)
        first = torch.arange(0, count, size, device=self.device)
        first = first.view(1, 1, -1, 1) if side == "query" else first.view(1, 1, 1, -1)
        return first, (first + (size - 1)).clamp(max=count - 1)

    def _feature(self, node: n.Feature) -> Interval:
        data = self.bound.tensors[node.name]
        lo, hi = (
            layout.spread_heads(end, self.bound)
            for end in _ends(data, 2, self.rows if node.side == "query" else self.keys)
        )
        if node.side == "query":
            return _interval(lo.unsqueeze(3), hi.unsqueeze(3))
        return _interval(lo.unsqueeze(2), hi.unsqueeze(2))

    def gather(self, array: n.Array, indices: list[Interval]) -> Interval:
        """Return the interval of a table's elements within ranges of its indices.

        Args:
            array: The table or parameter, without channels.
            indices: One per index axis; clipped to its range.

        Returns:
            The interval; exact for truth values and along one axis.
        """
        data = layout.own_heads(array, self.bound)
        data = data.movedim(array.per.index("head"), 0) if "head" in array.per else data[None]
        if data.shape[0] == 0 or data[0].numel() == 0:
            return _unknown(type_of(array).kind, self.device)
        ends = [_places(x, size) for x, size in zip(indices, data.shape[1:], strict=True)]
        small = data.numel() <= _LARGEST_TABLE
        if small and data.dtype == torch.bool:
            return _count_true(data, ends)
        if small and len(ends) == 1:
            return _search_range(data, *ends[0])
        lo, hi = torch.aminmax(data.flatten(1), dim=1)
        return _interval(lo.view(1, -1, 1, 1), hi.view(1, -1, 1, 1))


@lru_cache(maxsize=1024)
def _constant(value: bool | int | float, kind: type, device: torch.device) -> Interval:
    """Return a constant; `kind` keeps 1, 1.0 and True apart."""
    exact = torch.full((1, 1, 1, 1), value, dtype=torch.float64, device=device)
    if kind is bool:
        return Truth(exact > 0, exact > 0)
    if kind is int:
        return _whole_point(exact)
    # It is computed with in float32 or in float64.
    single = exact.float().double()
    return Range(torch.minimum(exact, single), torch.maximum(exact, single), False)


def _unknown(kind: str, device: torch.device) -> Interval:
    if kind == "bool":
        may = torch.ones((1, 1, 1, 1), dtype=torch.bool, device=device)
        return Truth(~may, may)
    nothing = torch.full((1, 1, 1, 1), torch.nan, dtype=torch.float64, device=device)
    return Range(nothing, nothing, kind == "int")


def _positions(positions: Tensor, shape: tuple[int, ...], size: int) -> Range:
    """Return the range of positions in runs of so many."""

    def make() -> Range:
        lo, hi = _ends(positions, 1, size)
        return whole_range(lo.view(shape), hi.view(shape))

    return _remember(("positions", shape, size), (positions,), make)


def _whole_point(value: Tensor) -> Range:
    return whole_range(value, value)


def _point(value: Tensor) -> Interval:
    return _interval(value, value)


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


# ── Tables ───────────────────────────────────────────────────────────────────────────────────
def _places(index: Interval, size: int) -> tuple[Tensor, Tensor]:
    """Return the first and last place an index reads, the whole table where it is unknown."""
    lo, hi, whole = number(index)
    if not whole:
        lo, hi = torch.full_like(lo, torch.nan), torch.full_like(hi, torch.nan)
    lo, hi = lo.nan_to_num(nan=0.0), hi.nan_to_num(nan=float(size))
    return lo.clamp(0, size - 1).long(), hi.clamp(0, size - 1).long()


def _heads(data: Tensor) -> Tensor:
    return torch.arange(data.shape[0], device=data.device).view(1, -1, 1, 1)


def _count_true(data: Tensor, ends: list[tuple[Tensor, Tensor]]) -> Truth:
    """Return whether all or some elements of (heads, …) are true within ranges, by prefix sums."""
    counts = data.long()
    for dim in range(1, data.dim()):
        counts = counts.cumsum(dim)
    counts = torch.nn.functional.pad(counts, (1, 0) * len(ends))
    total: Tensor | int = 0
    area: Tensor | int = 1
    for corner in itertools.product((0, 1), repeat=len(ends)):
        places = [hi + 1 if top else lo for top, (lo, hi) in zip(corner, ends, strict=True)]
        part = counts[(_heads(data), *places)]
        total = total + part if (len(ends) - sum(corner)) % 2 == 0 else total - part
    for lo, hi in ends:
        area = area * (hi - lo + 1)
    assert isinstance(total, Tensor)
    return Truth(total == area, total > 0)


def _search_range(data: Tensor, first: Tensor, last: Tensor) -> Interval:
    """Return the extremes of (heads, rows) between two places, from those of runs of 2^k."""
    lows, highs, step = [data], [data], 1
    while 2 * step <= data.shape[1]:
        # Runs that would reach beyond the end stay shorter; nobody asks for them.
        lows.append(_doubled(lows[-1], step, torch.minimum))
        highs.append(_doubled(highs[-1], step, torch.maximum))
        step *= 2
    # Two runs of the largest power of 2 that fits cover the range; frexp finds it exactly.
    level = torch.frexp((last - first + 1).double()).exponent.long() - 1
    second = last + 1 - (1 << level)
    low, high, heads = torch.stack(lows), torch.stack(highs), _heads(data)
    lo = torch.minimum(low[level, heads, first], low[level, heads, second])
    hi = torch.maximum(high[level, heads, first], high[level, heads, second])
    return _interval(lo, hi)


def _doubled(runs: Tensor, step: int, join: Any) -> Tensor:
    made = runs.clone()
    made[:, :-step] = join(runs[:, :-step], runs[:, step:])
    return made
