"""The forward sweeps: row sums with a running maximum, then weights and the summed row.

For each range of query rows: one sweep over the key ranges finds m and the row sums of every term,
a second one adds weights · values. With a single key range both share every value. Tiles that no
term sees are skipped; `where` is not asked in those that it admits wholly.
Leaves to others: expressions (`evaluate`), the choice of ranges (`kernel`).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from regard.backends.tiled.kernel import Kernel, key_ranges, plan_tiles, query_ranges
from regard.backends.tiled.running import Carries
from regard.backends.tiled.thresholds import choose_columns, find_thresholds
from regard.backends.tiled.watch import (
    put_columns,
    put_received,
    rank_weights,
    sum_in_tile,
    summed_statistics,
)
from regard.backends.values.blocks import EMPTY, MIXED
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.observed import parse
from regard.passes.lower import LoweredTerm

# What backward needs, by the number of a range of query rows and a name.
Saved = dict[tuple[int, str], Tensor]


class Sweep:
    """One pass over a call's tiles, with what is shared between them.

    Args:
        kernel: The compiled program.
        bound: The call.
        rows: Query rows of a tile.
    """

    def __init__(self, kernel: Kernel, bound: Bound, rows: int) -> None:
        self.kernel, self.bound, self.rows = kernel, bound, rows
        self.plans = plan_tiles(kernel, bound, rows)
        self.grads: dict[str, Tensor] = {}
        self.key_caches: dict[int, dict] = {}
        self.carries = Carries(kernel, bound, rows, self.visit, self.see)
        self.call_holes: dict[str, Tensor] = {}
        for name, node in kernel.key_maxima.items():
            # It may read those before it.
            self.call_holes[name] = self._key_max(node.rows)

    def tiles(
        self,
        i0: int,
        i1: int,
        holes: dict[str, Tensor],
        query: dict,
        hidden: bool = False,
        added: bool = False,
    ) -> Iterator[Evaluator]:
        """Yield an evaluator for each key range, keeping what key rows allow to keep.

        Args:
            i0: The first query row.
            i1: The row after the last.
            holes: Values of holes.
            query: Values kept for these query rows.
            hidden: Whether tiles that no term sees are visited too; at least one tile always is.
            added: Whether tiles that running sums add up are visited too.

        Yields:
            Evaluators.
        """
        ranges = list(key_ranges(self.kernel, self.bound))
        if self.plans is not None and not hidden:
            seen = zip(*(plan[i0 // self.rows] for plan in self.plans), strict=True)
            more = self.carries.adding(i0) if added else ()
            some = [at for at, codes in zip(ranges, seen, strict=True) if any(codes) or at in more]
            ranges = some or ranges[:1]
        yield from self.visit(i0, i1, ranges, holes, query)

    def visit(
        self,
        i0: int,
        i1: int,
        ranges: list[tuple[int, int]],
        holes: dict[str, Tensor],
        query: dict,
    ) -> Iterator[Evaluator]:
        """Yield an evaluator for each of some key ranges.

        Args:
            i0: The first query row.
            i1: The row after the last.
            ranges: The key ranges.
            holes: Values of holes.
            query: Values kept for these query rows.

        Yields:
            Evaluators.
        """
        for j0, j1 in ranges:
            cache = Cache(query, self.key_caches.setdefault(j0, {}), {})
            at = Evaluator(self.bound, Tile(i0, i1, j0, j1), holes, cache)
            at.carry = self.carries
            yield at

    def admitted(self, at: Evaluator, which: int) -> Tensor:
        """Return whether pairs of a tile exist and a term's `where` admits them, (.., i, j, 1)."""
        code, term, tile = MIXED, self.kernel.lowered.terms[which], at.tile
        if self.plans is not None:
            code = self.plans[which][tile.i0 // self.rows][tile.j0 // self.kernel.tile[1]]
        shape = (1, 1, at.sizes["i"], at.sizes["j"], 1)
        one = torch.full((1, 1, 1, 1, 1), code != EMPTY, device=at.bound.q.device).expand(shape)
        if code != MIXED:
            return one
        exists = at.exists()
        found = one if exists is None else one & exists
        return found if term.where is None else found & at.condition(term.where)

    def see(self, at: Evaluator) -> None:
        """Put every term's "seen" into the evaluator's holes for this tile.

        What observed weights are multiplied with, and in a gradient receive, is put there too.
        """
        put_columns(self.kernel, at)
        put_received(self, at)
        for which, term in enumerate(self.kernel.lowered.terms):
            seen = self.admitted(at, which)
            if term.score is not None:
                seen = seen & (at.real(term.score) != -torch.inf)
            at.holes[f"seen:{term.name}"] = seen

    def row(self, i0: int, i1: int, holes: dict[str, Tensor], query: dict) -> Evaluator:
        """Return an evaluator for row expressions, which read no key."""
        return Evaluator(self.bound, Tile(i0, i1, 0, 0), holes, Cache(query, {}, {}))

    def _key_max(self, rows: n.Node) -> Tensor:
        best = None
        for j0, j1 in key_ranges(self.kernel, self.bound):
            at = Evaluator(
                self.bound,
                Tile(0, 0, j0, j1),
                self.call_holes,
                Cache({}, self.key_caches.setdefault(j0, {}), {}),
            )
            value = at.real(rows)
            present = key_exists(at)
            # A key that is NaN or infinite may be hidden; it must not decide for the others.
            counted = value.isfinite() if present is None else value.isfinite() & present
            top = torch.where(counted, value, -torch.inf).amax(3, keepdim=True)
            best = top if best is None else torch.maximum(best, top)
        assert best is not None
        return finite_shift(best)


def key_exists(at: Evaluator) -> Tensor | None:
    """Return whether the tile's key rows exist, (B, 1, 1, keys, 1), or None if all do."""
    lengths = at.bound.key_lengths
    return None if lengths is None else at.index("row_j") < lengths.view(-1, 1, 1, 1, 1)


def query_exists(at: Evaluator) -> Tensor | None:
    """Return whether the tile's query rows exist, (B, 1, rows, 1, 1), or None if all do."""
    lengths = at.bound.query_lengths
    return None if lengths is None else at.index("row_i") < lengths.view(-1, 1, 1, 1, 1)


def count_visible(sweep: Sweep, i0: int, i1: int, rows: dict[str, Tensor], query: dict) -> None:
    """Count the keys each counted term's `where` admits."""
    for which, term in enumerate(sweep.kernel.lowered.terms):
        if not term.counted:
            continue
        total: Tensor | int = 0
        for at in sweep.tiles(i0, i1, dict(rows), query):
            total = total + sweep.admitted(at, which).sum(3, keepdim=True)
        assert isinstance(total, Tensor)
        rows[f"n:{term.name}"] = total


def _raise_maximum(at: Evaluator, term: LoweredTerm, rows: dict[str, Tensor]) -> None:
    """Raise m to this tile's largest exponent and rescale the row sums found so far."""
    name, seen = f"m:{term.name}", at.holes[f"seen:{term.name}"]
    before = rows[name]
    top = before
    for exponent in term.exponents:
        value = torch.where(seen, at.real(exponent).detach(), -torch.inf)
        top = torch.maximum(top, value.amax(3, keepdim=True))
    if term.sums.keys() <= rows.keys():
        # A row that saw nothing yet has sums of 0, whatever it moves by.
        moved = torch.where((before == top) | (before == -torch.inf), 0.0, before - top)
        if f"x:{term.name}" in term.sums:
            rows[f"x:{term.name}"] = rows[f"x:{term.name}"] + moved * rows[f"s:{term.name}"]
        for total in term.sums:
            rows[total] = rows[total] * moved.exp()
    rows[name] = top
    at.holes[name] = finite_shift(top)


def finite_shift(m: Tensor) -> Tensor:
    """Return m, or 0 for a row that sees nothing."""
    return torch.where(m == -torch.inf, 0.0, m)


def _start(term: LoweredTerm, at: Evaluator) -> Tensor:
    """Return m before any key: the sink, 0 where constants take part, else -inf."""
    shape = (at.bound.batch, at.bound.heads, at.sizes["i"], 1, 1)
    device, dtype = at.bound.q.device, at.bound.compute_dtype
    if term.sink is not None:
        return at.real(term.sink).detach().expand(shape)
    return torch.full(shape, 0.0 if term.floor_zero else -torch.inf, dtype=dtype, device=device)


def sum_rows(
    sweep: Sweep, i0: int, i1: int, query: dict
) -> tuple[dict[str, Tensor], Evaluator | None]:
    """Find every term's m, row sums and r in a range of query rows.

    Args:
        sweep: The call.
        i0: The first query row.
        i1: The row after the last.
        query: Values kept for these query rows.

    Returns:
        The row holes, and the tile's evaluator if there is a single one (its values still hold).
    """
    lowered = sweep.kernel.lowered
    rows: dict[str, Tensor] = dict(sweep.call_holes)
    choose_columns(sweep, i0, i1, rows)
    count_visible(sweep, i0, i1, rows, query)
    find_thresholds(sweep, i0, i1, rows)
    start = sweep.row(i0, i1, rows, query)
    for term in lowered.terms:
        if term.exponents:
            rows[f"m:{term.name}"] = _start(term, start)
    only = None
    for at in sweep.tiles(i0, i1, {}, query):
        at.holes.update(rows)
        sweep.see(at)
        for term in lowered.terms:
            if term.exponents:
                _raise_maximum(at, term, rows)
            for name in term.sums:
                part = at(sweep.kernel.row_sums[name])
                rows[name] = rows[name] + part if name in rows else part
        if sweep.kernel.finish:
            found = at.condition(lowered.seen).any(3, keepdim=True)
            rows["alive"] = rows["alive"] | found if "alive" in rows else found
        only = at
    _finish_rows(sweep, i0, i1, rows, query)
    single = len(list(key_ranges(sweep.kernel, sweep.bound))) == 1
    return rows, only if single else None


def _finish_rows(sweep: Sweep, i0: int, i1: int, rows: dict[str, Tensor], query: dict) -> None:
    for term in sweep.kernel.lowered.terms:
        if term.exponents:
            top = rows[f"m:{term.name}"]
            rows[f"top:{term.name}"], rows[f"m:{term.name}"] = top, finite_shift(top)
    at = sweep.row(i0, i1, rows, query)
    exists = query_exists(at)
    for term in sweep.kernel.lowered.terms:
        if term.inverse is not None:
            # A row that does not exist may have a sink or offset of NaN, which must not spread.
            r = at.real(term.inverse)
            r = r if exists is None else torch.where(exists, r, 0.0)
            shape = (sweep.bound.batch, sweep.bound.heads, i1 - i0, 1, 1)
            rows[f"r:{term.name}"] = r.expand(shape)


def observed_rows(
    sweep: Sweep, i0: int, i1: int, rows: dict[str, Tensor], query: dict
) -> dict[str, Tensor]:
    """Return the observed values of softmax rows of a range of query rows, (B, H, rows)."""
    found = {}
    at = sweep.row(i0, i1, rows, query)
    exists = query_exists(at)
    for name, expression in sweep.kernel.lowered.rows.items():
        what, _, term = name.partition(":")
        value = rows[f"top:{term}"] if what == "max" else at.real(expression)
        if exists is not None:
            value = torch.where(exists, value, -torch.inf if what in ("lse", "max") else 0.0)
        found[name] = value.expand(sweep.bound.batch, sweep.bound.heads, i1 - i0, 1, 1)[..., 0, 0]
    return found


def sum_values(
    sweep: Sweep, i0: int, i1: int, rows: dict[str, Tensor], only: Evaluator | None, query: dict
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add up a range of query rows: the summed row, and what is observed of the weights.

    Args:
        sweep: The call.
        i0: The first query row.
        i1: The row after the last.
        rows: Row values of the range, to which observed sums are added.
        only: The evaluator of the one tile, if there is one.
        query: Values kept for these query rows.

    Returns:
        The summed row, (B, H, rows, 1, E); and what is observed, (B, H, rows) or (B, H, rows, C),
        and what keys received, (B, H, M).
    """
    total = None
    tiles = [only] if only is not None else sweep.tiles(i0, i1, {}, query)
    sums = _Sums(sweep, i0, i1, later=False)
    for at in tiles:
        at.holes.update(rows)
        if at is not only:
            sweep.see(at)
        part = at(sweep.kernel.summed)
        total = part if total is None else total + part
        sums.add(at)
    assert total is not None
    found = sums.finish(rows)
    later = _Sums(sweep, i0, i1, later=True)
    if later.statistics:
        for at in sweep.tiles(i0, i1, {}, query):
            at.holes.update(rows)
            sweep.see(at)
            later.add(at)
        found |= later.finish(rows)
    shape = (sweep.bound.batch, sweep.bound.heads, i1 - i0, 1, total.shape[-1])
    return total.expand(shape), found


class _Sums:
    """Adds up what is observed of a range of query rows."""

    def __init__(self, sweep: Sweep, i0: int, i1: int, later: bool) -> None:
        self.statistics = summed_statistics(sweep.kernel.lowered, later)
        self._sweep, self._rows = sweep, i1 - i0
        self._totals: dict[str, Tensor] = {}

    def add(self, at: Evaluator) -> None:
        """Add a tile."""
        bound = at.bound
        for one in self.statistics:
            part = sum_in_tile(one, at)
            if one.axes == "bhj":
                shape = (bound.batch, bound.heads, bound.keys)
                total = self._totals.setdefault(one.name, part.new_zeros(shape))
                total[:, :, at.tile.j0 : at.tile.j1] += part[:, :, 0, :, 0]
            else:
                before = self._totals.get(one.name)
                self._totals[one.name] = part if before is None else before + part

    def finish(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what was observed, and keep what varies along query rows among their values."""
        found, bound = {}, self._sweep.bound
        for one in self.statistics:
            total = self._totals[one.name]
            if one.axes != "bhj":
                total = total.expand(bound.batch, bound.heads, self._rows, 1, total.shape[-1])
                rows[one.hole.name] = total
                total = total[:, :, :, 0] if "c" in one.axes else total[..., 0, 0]
            found[one.name] = total
        return found


def run_forward(kernel: Kernel, bound: Bound) -> tuple[dict[str, Tensor], Saved]:
    """Run a program.

    Args:
        kernel: The compiled program.
        bound: The call.

    Returns:
        The outputs by name, and what `run_backward` needs: row values and the summed row.
    """
    sweep = Sweep(kernel, bound, kernel.tile[0])
    parts: list[dict[str, Tensor]] = []
    saved: Saved = {}
    for part, (i0, i1) in enumerate(query_ranges(kernel, bound)):
        query: dict = {}
        rows, only = sum_rows(sweep, i0, i1, query)
        summed, watched = sum_values(sweep, i0, i1, rows, only, query)
        output = summed if kernel.finish is None else _finished(sweep, i0, i1, rows, summed, query)
        watched |= rank_weights(sweep, i0, i1, rows) | observed_rows(sweep, i0, i1, rows, query)
        found = {"output": output.squeeze(3), **watched}
        if kernel.dense_weights:
            found["weights"] = _dense_weights(sweep, i0, i1, rows, query)
        parts.append(found)
        kept = {name: value for name, value in rows.items() if name not in sweep.call_holes}
        saved |= {(part, name): value for name, value in kept.items()} | {(part, "summed"): summed}
    outputs = {name: _joined(name, [found[name] for found in parts]) for name in parts[0]}
    return outputs, saved


def _joined(name: str, parts: list[Tensor]) -> Tensor:
    """Return what ranges of query rows give: one behind the other, or added up for their keys."""
    if parse(name).axes != "bhj":
        return torch.cat(parts, dim=2)
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def _finished(sweep: Sweep, i0: int, i1: int, rows: dict, summed: Tensor, query: dict) -> Tensor:
    at = sweep.row(i0, i1, {**rows, "summed": summed}, query)
    assert sweep.kernel.finish is not None
    alive = rows["alive"]
    return torch.where(alive, at.real(sweep.kernel.finish), 0.0).expand(*summed.shape[:4], -1)


def _dense_weights(sweep: Sweep, i0: int, i1: int, rows: dict, query: dict) -> Tensor:
    blocks = []
    for at in sweep.tiles(i0, i1, {}, query, hidden=True):
        at.holes.update(rows)
        sweep.see(at)
        shape = (sweep.bound.batch, sweep.bound.heads, at.sizes["i"], at.sizes["j"])
        blocks.append(at.real(sweep.kernel.lowered.clean_weights).squeeze(-1).expand(shape))
    return torch.cat(blocks, dim=3)
