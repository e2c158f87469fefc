"""How a call runs: its tiles, and torch's operators counted over the tiles that are visited.

Leaves to others: how long it takes (`ops/predict`).
"""

from collections.abc import Iterable
from dataclasses import replace

import torch

from regard.backends.base import BlockPlan, Facts
from regard.backends.tiled.kernel import Kernel, plan_tiles
from regard.backends.values.blocks import EMPTY, MIXED
from regard.backends.values.evaluate import product_of
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.types import axes_of
from regard.passes.count_work import Work, count_scalar
from regard.passes.split_pairs import row_kind

# Whether a score is above -inf, and whether the pair is seen as well.
_PER_SCORE = 2.0
_COSTING = (n.Call, n.Gather, n.Keep, n.Running)


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
        tile=kernel.tile,
        tile_heads=bound.batch * bound.heads,
        shifted=kernel.lowered.shifted,
        plan=plan,
    )


def _plan(kernel: Kernel, bound: Bound) -> BlockPlan | None:
    """Return the tiles, mixed unless all terms say the same of one."""
    found = plan_tiles(kernel, bound, kernel.tile[0])
    if found is None or all(term.where is None for term in kernel.lowered.terms):
        return None
    codes = torch.tensor(found, dtype=torch.int8)
    joint = torch.where((codes == codes[0]).all(0), codes[0], MIXED)
    return BlockPlan(joint[None, None].to(torch.int8), *kernel.tile)


def _count_work(kernel: Kernel, bound: Bound, plan: BlockPlan | None) -> Work:
    """Count what a call costs, and its gradient if one is wanted."""
    lowered = kernel.lowered
    tiles = -(-bound.queries // kernel.tile[0]) * -(-bound.keys // kernel.tile[1])
    share = 1.0
    if plan is not None:
        tiles = int((plan.codes != EMPTY).sum())
        share = tiles / max(1, plan.codes.numel())
    sums = [exponent for term in lowered.terms for exponent in term.exponents]
    sums += kernel.row_sums.values()
    masks = [term.where for term in lowered.terms if term.where is not None]
    single = bound.keys <= kernel.tile[1]
    running = [x for x in n.walk(*sums, kernel.summed) if isinstance(x, n.Running)]
    sweeps = (
        [[*sums, *masks, kernel.summed]] if single else [[*sums, *masks], [*masks, kernel.summed]]
    )
    if running and not single:
        # What tiles carry over is found by sweeps of its own.
        sweeps.append([node.body for node in running])
    if kernel.wanted:
        if not lowered.single and kernel.adjoints.inverses:
            sweeps.append([*masks, *kernel.adjoints.inverses.values()])
        sweeps.append([*masks, *kernel.adjoints.pairs.expressions()])
    pairs = share * bound.batch * bound.heads * bound.queries * bound.keys
    total = Work(calls=1.0, gradients=float(bool(kernel.wanted)))
    for roots in sweeps:
        scores = sum(term.score is not None for term in lowered.terms)
        at_pair = _at_pair(roots, bound) + Work(operations=_PER_SCORE * scores)
        total += replace(at_pair, pieces=0.0).times(pairs) + Work(pieces=at_pair.pieces * tiles)
    return total


def _at_pair(roots: Iterable[n.Node], bound: Bound) -> Work:
    """Return what expressions cost at a pair, with an operator for each node as pieces."""
    total = Work()
    done: set[n.Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in done:
            continue
        done.add(node)
        total += _cost(node, bound)
        if isinstance(node, n.Reduce):
            factors, mask = product_of(node.body)
            stack += factors if mask is None else [*factors, mask]
        else:
            stack += n.children(node)
    return total


def _cost(node: n.Node, bound: Bound) -> Work:
    if isinstance(node, n.Reduce):
        factors, _ = product_of(node.body)
        axes = {axis for factor in factors for axis in axes_of(factor)}
        if not {"i", "j"} <= axes:
            return Work()
        size = _channels(node, bound) if "c" in axes else 1
        multiplied = len({axes_of(factor) for factor in factors}) > 1
        done = Work(products=size) if multiplied else Work(operations=size)
        return done + Work(pieces=1.0)
    if row_kind(node) is not None or not isinstance(node, _COSTING):
        return Work()
    one, axes = count_scalar(node), axes_of(node)
    size = _channels(node, bound) if "c" in axes else 1.0
    # What is alike in all heads or batch rows is computed once.
    size /= (1 if "h" in axes else bound.heads) * (1 if "b" in axes else bound.batch)
    return one.times(size) + Work(pieces=1.0)


def _channels(node: n.Node, bound: Bound) -> int:
    """Return how many channels an expression has, from the rows it is made of."""
    rows = [x for x in n.walk(node) if isinstance(x, n.Vector) and x.name in bound.tensors]
    return max((bound.tensors[row.name].shape[-1] for row in rows), default=bound.q.shape[-1])
