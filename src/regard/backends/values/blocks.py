"""Whether a program's `where` admits none, all or some pairs of a block, without evaluating pairs.

A block is a range of query rows times a range of key rows. What one row or the distance i - j
decides is known from its values (`functions`), all else by interval arithmetic (`intervals`). Many
blocks are planned from coarse to fine, and what is then undecided is cut up (`refine`). What is
said is sound: a block that is not known to be empty or full is mixed. Leaves to others: using it.
"""

from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from regard.backends.values.condition import Condition, prepare_condition
from regard.backends.values.intervals import LARGEST_WHOLE
from regard.backends.values.leaves import Blocks, Leaves, Rows, distances, position_starts
from regard.backends.values.refine import EMPTY, FULL, MIXED, codes_of, refine
from regard.backends.values.remember import Memory
from regard.ir import nodes as n
from regard.ir.bound import Bound

__all__ = ["EMPTY", "FULL", "MIXED", "classify_blocks"]

# So many blocks along each side are looked at together first, where there are more than so many.
_COARSE, _FEW_BLOCKS = 8, 1 << 15
# Up to so many query rows a plan serves all of so many steps of decoding.
_STEP_ROWS, _STEPS = 8, 64
# Below so many pairs a kernel is done before its mixed blocks have been looked into.
LEAST_PAIRS = 1 << 24
# So many numbers of data are compared with those of an earlier call, rather than planned anew.
_MOST_READ = 1 << 20
_same, _equal = Memory(), Memory()


def classify_blocks(condition: n.Node | None, bound: Bound, rows: int, keys: int) -> Tensor:
    """Tell for every block whether the pairs in it are admitted.

    Lengths count as part of the condition: pairs of absent rows are not admitted, and a block that
    holds absent and existing rows is never full. That the last block may reach beyond N or M does
    not matter: it stands for the rows there are. Where that is quicker, a block at the edge of what
    is admitted may be called mixed though it is not: in calls of few pairs, and in decoding.

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
        if _is_worth_refining(bound) or (condition is not None and _reads_lengths(condition)):
            return _planned(condition, bound, rows, keys)
        whole = replace(bound, query_lengths=None, key_lengths=None)
        return _where_rows_exist(classify_blocks(condition, whole, rows, keys), bound, rows, keys)
    if condition is not None and prepare_condition(condition).data:
        return _planned(condition, bound, rows, keys)
    key = (condition, rows, keys, bound.q.shape, bound.first_head, bound.total_heads, bound.seed)
    positions = bound.query_positions, bound.key_positions
    return _same.of_same(key, positions, lambda: _planned(condition, bound, rows, keys))


def _planned(condition: n.Node | None, bound: Bound, rows: int, keys: int) -> Tensor:
    """Return the plan, an earlier one if all the condition depends on is as it was."""
    prepared = None if condition is None else prepare_condition(condition)
    if bound.q.device.type != "cpu" or (prepared is not None and prepared.pairwise):
        return _plan(condition, bound, rows, keys)
    starts = position_starts(bound.query_positions), position_starts(bound.key_positions)
    key = [condition, rows, keys, bound.batch, bound.heads, bound.q.shape[3]]
    key += [bound.first_head, bound.total_heads, bound.seed is None]
    few = 0 < bound.queries <= min(rows, _STEP_ROWS) and bound.query_lengths is None
    if few and bound.keys and (prepared is None or prepared.steady):
        if starts[0] is not None and starts[1] is not None:
            return _planned_steps(condition, bound, keys, key, starts[0], starts[1])
    key += starts
    key += [bound.queries, bound.keys]
    for lengths in (bound.query_lengths, bound.key_lengths):
        key.append(None if lengths is None else tuple(lengths.tolist()))
    read = [bound.tensors[name] for name in prepared.data] if prepared is not None else []
    if sum(tensor.numel() for tensor in read) > _MOST_READ:
        return _plan(condition, bound, rows, keys)
    read += [
        positions
        for start, positions in zip(
            starts, (bound.query_positions, bound.key_positions), strict=True
        )
        if start is None
    ]
    return _equal.of_equal(tuple(key), tuple(read), lambda: _plan(condition, bound, rows, keys))


def _plan(
    condition: n.Node | None, bound: Bound, rows: int, keys: int, more_keys: int = 0
) -> Tensor:
    # Not as inference tensors, because a later call that is trained may be given the same.
    with torch.inference_mode(False), torch.no_grad():
        device = bound.q.device
        grid = Blocks(_cut(bound.queries, rows, device), _cut(bound.keys, keys, device))
        size = grid.size
        if 0 in size:
            return torch.zeros((1, 1, *size), dtype=torch.int8, device=device)
        prepared = None if condition is None else _prepared(condition, bound)
        coarse = size[0] * size[1] > _FEW_BLOCKS and not (prepared and prepared.pairwise)
        leaves = Leaves(prepared, bound, rows, keys, more_keys)
        codes = _from_coarse(leaves, grid) if coarse else codes_of(leaves, grid)
        codes = codes.contiguous()
        if not leaves.exact and _is_worth_refining(bound):
            refine(leaves, codes, grid)
        return codes


def _is_worth_refining(bound: Bound) -> bool:
    return bound.batch * bound.heads * bound.queries * bound.keys >= LEAST_PAIRS


@lru_cache(maxsize=1024)
def _reads_lengths(condition: n.Node) -> bool:
    return any(n.Index(name) in n.walk(condition) for name in ("queries", "keys"))


def _where_rows_exist(codes: Tensor, bound: Bound, rows: int, keys: int) -> Tensor:
    """Return what codes of a call without lengths become in one that has some."""
    with torch.inference_mode(False), torch.no_grad():
        for lengths, count, size, shape in (
            (bound.query_lengths, bound.queries, rows, (1, 1, -1, 1)),
            (bound.key_lengths, bound.keys, keys, (1, 1, 1, -1)),
        ):
            if lengths is not None:
                first, last = (end.view(shape) for end in _cut(count, size, lengths.device))
                lengths = lengths.view(-1, 1, 1, 1)
                codes = torch.where(last < lengths, codes, codes.sign() * MIXED)
                codes = torch.where(first < lengths, codes, EMPTY)
        return codes.contiguous()


def _prepared(condition: n.Node, bound: Bound) -> Condition:
    """Return the condition made ready, with functions of i - j if these are not too many values."""
    least, most = distances(bound)
    few = most - least <= 4 * (bound.queries + bound.keys) + 1024
    return prepare_condition(condition, few and max(abs(least), abs(most)) < LARGEST_WHOLE)


def _cut(count: int, size: int, device: torch.device) -> Rows:
    """Return the rows of each block of a side."""
    first = torch.arange(0, count, size, device=device)
    return Rows(first, (first + (size - 1)).clamp(max=count - 1))


def _from_coarse(leaves: Leaves, grid: Blocks) -> Tensor:
    """Return codes of the grid, looking only at blocks of what is mixed in a coarser one."""
    found = codes_of(leaves, Blocks(_joined(grid.queries), _joined(grid.keys)))
    mixed = (found == MIXED).flatten(0, 1).any(0)
    if 2 * int(mixed.sum()) > mixed.numel():
        return codes_of(leaves, grid)
    x, y = grid.size
    codes = found.repeat_interleave(_COARSE, 2)[:, :, :x].repeat_interleave(_COARSE, 3)[..., :y]
    within = torch.arange(_COARSE, device=mixed.device)
    i, j = mixed.nonzero(as_tuple=True)
    if not i.numel():
        return codes
    # What would lie beyond the last block is the last block, once more.
    i = (i.view(-1, 1, 1) * _COARSE + within.view(1, -1, 1)).clamp(max=x - 1)
    j = (j.view(-1, 1, 1) * _COARSE + within).clamp(max=y - 1)
    i, j = (side.expand(-1, _COARSE, _COARSE).flatten() for side in (i, j))
    codes = codes.flatten(2)
    codes.index_copy_(2, i * y + j, codes_of(leaves, grid._replace(at=(i, j))).squeeze(3))
    return codes.unflatten(2, (x, y))


def _joined(rows: Rows) -> Rows:
    """Return ranges of so many ranges."""
    first = rows.first[::_COARSE]
    return Rows(first, torch.cat([first[1:] - 1, rows.last[-1:]]))


# ── Steps of decoding ────────────────────────────────────────────────────────────────────────
def _planned_steps(
    condition: n.Node | None,
    bound: Bound,
    keys: int,
    key: list,
    query_starts: tuple[int, ...],
    key_starts: tuple[int, ...],
) -> Tensor:
    """Return what holds at whatever step of a run of steps the query rows are.

    Offsets and lengths are rounded down to where the run begins. The plan is one of all query rows
    that its steps have, and of keys up to the end of the last block.
    """
    offsets = tuple(start // _STEPS * _STEPS for start in query_starts)
    rows, count = bound.queries + _STEPS - 1, -(-bound.keys // keys) * keys
    lengths = bound.key_lengths
    if lengths is not None:
        lengths = tuple(length // _STEPS * _STEPS for length in lengths.tolist())

    def make() -> Tensor:
        k = bound.tensors["k"][:, :, :1].expand(-1, -1, count, -1)
        steps = replace(
            bound,
            tensors={"q": bound.q[:, :, :1].expand(-1, -1, rows, -1), "k": k},
            query_positions=torch.tensor(offsets).view(-1, 1) + torch.arange(rows),
            key_positions=torch.tensor(key_starts).view(-1, 1) + torch.arange(count),
            key_lengths=None if lengths is None else torch.tensor(lengths),
        )
        return _plan(condition, steps, rows, keys, 0 if lengths is None else _STEPS - 1)

    key += [bound.queries, count, offsets, key_starts, lengths]
    return _equal.of_equal(tuple(key), (), make)
