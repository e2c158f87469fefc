"""How a call runs: its sweeps, its blocks, and its expressions counted over the blocks it visits.

Leaves to others: the plan (`caller`), how long it takes (`ops/predict`).
"""

from dataclasses import replace

import torch

from regard.backends.base import BlockPlan, Facts
from regard.backends.cpu.caller import is_one_block, is_serial, joint_blocks
from regard.backends.cpu.kernel import Kernel
from regard.backends.cpu.keysweep import KeySweep
from regard.backends.cpu.module import KEY_BLOCK, KEY_STEP, QUERY_BLOCK, QUERY_STEP, Module
from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.cpu.slots import channel_gradient
from regard.backends.values.blocks import EMPTY, MIXED
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.types import axes_of
from regard.passes.count_work import Work, count_scalars
from regard.passes.split_pairs import COSTLY, ChannelSum, Dot, Input

# Beside its expressions, a pair of a term is read, compared with the row's largest and kept.
_PER_TERM = 3.0
# An adjoint is added to a row's, a key's or a table's sum.
_PER_SUM = {"query": 1.0, "number": 1.0, "key": 2.0, "diagonal": 3.0, "pair": 1.0}
_PER_TABLE = 10.0


# What each sweep gives, by its name.
SWEEPS = {
    "count": "how many keys each row sees",
    "choice": "the keys of the largest scores of each row",
    "threshold": "the threshold of each row",
    "forward": "row sums and output at once",
    "decode": "row sums and output at once; keys and values are read where they lie",
    "sums": "row sums",
    "spread": "the output, from weights that read row sums",
    "later": "observed sums that read row values",
    "received": "what each key received",
    "top": "the largest weights of each row",
    "inverses": "what normalisers receive",
    "backward": "what every input receives",
}


def find_facts(kernel: Kernel, bound: Bound) -> Facts:
    """Find how a call runs.

    Args:
        kernel: The compiled program.
        bound: The call; numbers do not matter but where a mask reads them.

    Returns:
        The facts.
    """
    plan = _plan(kernel, bound)
    return Facts(
        work=_count_work(kernel, bound, plan),
        sweeps=tuple(SWEEPS[one.what] for one in kernel.sweeps(bound.queries, bound.keys)),
        tile=kernel.tile,
        shifted=kernel.lowered.shifted,
        plan=plan,
    )


def _plan(kernel: Kernel, bound: Bound) -> BlockPlan | None:
    if not kernel.conditions or is_one_block(bound):
        return None
    return BlockPlan(joint_blocks(kernel.conditions, bound), QUERY_STEP, KEY_STEP)


def _count_work(kernel: Kernel, bound: Bound, plan: BlockPlan | None) -> Work:
    """Count what a call costs, and its gradient if one is wanted."""
    pairs, mixed, tiles = _visited(kernel, bound, plan)
    total = Work(calls=1.0, gradients=float(bool(kernel.wanted)))
    for module in kernel.sweeps(bound.queries, bound.keys):
        at_pair, masks = _at_pair(module, bound)
        total += at_pair.times(pairs) + masks.times(mixed)
        total += Work(bytes=_bytes(module, bound), pieces=tiles)
        total += _tabulating(module, bound)
    if is_serial(bound):
        threads = torch.get_num_threads()
        moved = replace(total, products=0.0, functions=0.0, operations=0.0)
        total = total.times(threads) + moved.times(1 - threads)
    return total


def _visited(kernel: Kernel, bound: Bound, plan: BlockPlan | None) -> tuple[float, float, float]:
    """Return numbers over all heads: pairs computed, those whose masks are asked, and tiles."""
    heads = bound.batch * bound.heads
    rows, keys = bound.queries, bound.keys
    whole = float(heads * rows * keys)
    tiles = heads * -(-rows // QUERY_BLOCK) * -(-keys // KEY_BLOCK)
    if plan is None:
        return whole, whole if kernel.conditions else 0.0, tiles
    codes = plan.codes
    size = min(QUERY_STEP, rows) * min(KEY_STEP, keys)
    each = heads / (codes.shape[0] * codes.shape[1])
    seen, mixed = int((codes != EMPTY).sum()), int((codes == MIXED).sum())
    share = seen / max(1, codes.numel())
    return min(whole, each * seen * size), min(whole, each * mixed * size), tiles * share


def _at_pair(module: Module, bound: Bound) -> tuple[Work, Work]:
    """Return what a sweep costs at a pair, and what its masks cost where they are asked."""
    sweep = module.sweep
    split = sweep.split
    roots = _roots(sweep)
    cost = count_scalars(roots)
    wheres = [one.where for one in sweep.seen.values() if one.where is not None]
    # What masks share with the rest is counted once.
    both = count_scalars([*roots, *wheres])
    masks = both + cost.times(-1.0)
    masks += Work(operations=float(len(wheres)))
    for dot in split.dots.values():
        cost += Work(products=_products(sweep, dot, bound))
    for one in split.sums.values():
        cost += _channels(sweep, one).times(_width(one.inputs[0], bound))
    if isinstance(sweep, RowSweep):
        numerators = [term for term in sweep.terms if term.kept]
        cost += Work(functions=len(numerators), operations=_PER_TERM * len(sweep.seen))
        cost += Work(operations=_PER_TABLE * len(sweep.histograms))
        if sweep.values is not None:
            cost += Work(products=len(sweep.components) * _width(sweep.values, bound))
    else:
        cost += Work(operations=_sums(sweep))
    return cost, masks


def _roots(sweep: RowSweep | KeySweep) -> list[n.Node]:
    if isinstance(sweep, RowSweep):
        roots = [exponent for term in sweep.terms for exponent in term.exponents]
        roots += [node for one in sweep.histograms for node in (one.index, one.pair)]
        return [*roots, *(x.pair for x in sweep.sums), *(x.pair for x in sweep.components)]
    roots = [*sweep.scores.values(), *sweep.numbers.values()]
    roots += [value for _, _, value in sweep.tables]
    return roots if sweep.weights is None else [*roots, sweep.weights]


def _sums(sweep: KeySweep) -> float:
    places = [one.kind for one in sweep.numbers]
    added = sum(_PER_SUM.get(place, 1.0) for place in places)
    return added + len(sweep.scores) + _PER_TABLE * len(sweep.tables)


def _products(sweep: RowSweep | KeySweep, dot: Dot, bound: Bound) -> float:
    """Return the multiply-adds of a dot at a pair: its own, and those its rows receive."""
    width = _width(dot.right, bound)
    if isinstance(sweep, RowSweep):
        return width
    if dot is sweep.value:
        return width * (1 + (dot.right in sweep.wanted))
    if dot.hole not in sweep.scores:
        return width
    return width * (1 + (dot.left in sweep.wanted) + (dot.right in sweep.wanted))


def _channels(sweep: RowSweep | KeySweep, one: ChannelSum) -> Work:
    """Return what a channel sum costs at one channel of a pair."""
    forward = count_scalars([one.body]) + Work(operations=1.0)
    if isinstance(sweep, RowSweep) or one.hole not in sweep.scores:
        return forward
    wanted = {item.hole for item in one.inputs if item in sweep.wanted}
    found = [value for hole, value in channel_gradient(one).items() if hole in wanted]

    def kept(node: n.Node) -> bool:
        return isinstance(node, n.Call) and node.op in COSTLY

    again = [node for node in n.walk(one.body) if kept(node)]
    # A sum is read, added to and written; what is kept is written and read.
    return forward + count_scalars(found, kept) + Work(operations=3 * len(found) + 2 * len(again))


def _width(item: Input, bound: Bound) -> int:
    """Return how many channels a row has, from the rows it is made of."""
    rows = [x for x in n.walk(item.node) if isinstance(x, n.Vector | n.Array) and "c" in axes_of(x)]
    if not rows:
        return bound.tensors["v"].shape[-1]
    return max(bound.tensors[row.name].shape[-1] for row in rows if row.name in bound.tensors)


def _tabulating(module: Module, bound: Bound) -> Work:
    """Return what products of rows with tables of which pairs choose cost, outside the sweep."""
    heads, total = bound.batch * bound.heads, Work()
    sides = {"query_table": bound.queries, "key_table": bound.keys}
    found = [(item.node.matrix, sides[item.kind], _width(item, bound))
             for item in module.inputs if isinstance(item.node, n.Unproject)
             and item.kind in sides]  # fmt: skip
    times = 3.0
    if isinstance(module.sweep, RowSweep):
        width, times = bound.tensors["v"].shape[-1], 1.0
        found += [(one.table, bound.queries, width) for one in module.sweep.histograms]
    for table, rows, width in found:
        numbers = float(heads * rows * bound.tensors[table.name].shape[-2])
        size = bound.compute_dtype.itemsize
        total += Work(products=times * numbers * width, bytes=2 * times * numbers * size)
    return total


def _bytes(module: Module, bound: Bound) -> float:
    """Return how much a sweep reads and writes: rows once, and dense pair inputs once."""
    heads, groups = bound.batch * bound.heads, bound.batch * bound.groups
    size, total = bound.q.element_size(), 0.0
    for item in module.inputs:
        sides = {"query_row": (heads, bound.queries), "key_row": (groups, bound.keys)}
        if item.kind in sides:
            count, rows = sides[item.kind]
            moved = count * rows * _width(item, bound) * size
            total += 2 * moved if isinstance(module.sweep, KeySweep) else moved
        elif item.kind == "pair" and isinstance(item.node, n.PairInput):
            total += bound.tensors[item.node.name].numel() * size
    if isinstance(module.sweep, RowSweep) and module.sweep.components:
        total += heads * bound.queries * bound.tensors["v"].shape[-1] * size
    return total
