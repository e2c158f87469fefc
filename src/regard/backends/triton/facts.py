"""How a call runs: its sweeps and its blocks.

Leaves to others: running it (`caller`).
"""

import torch

from regard.backends.base import BlockPlan, Facts
from regard.backends.cpu.facts import SWEEPS
from regard.backends.cpu.kernel import Kernel
from regard.backends.triton.caller import job_of, padded_width
from regard.backends.triton.module import TritonModule
from regard.backends.triton.tune import known_tiles
from regard.backends.values.blocks import MIXED, classify_blocks
from regard.ir.bound import Bound


def find_facts(kernel: Kernel, bound: Bound) -> Facts:
    """Find how a call runs.

    Args:
        kernel: The compiled program.
        bound: The call; numbers do not matter but where a mask reads them.

    Returns:
        The facts; nobody counts what a kernel costs on a GPU.
    """
    widest = max(padded_width(bound.tensors[name].shape[-1]) for name in "qkv")
    last = kernel.forward[-1]
    assert isinstance(last, TritonModule)
    job = job_of(bound, "rows", widest, bool(last.sweep.split.sums))
    tiles = known_tiles(last, job, bound.q.device)
    plan = None
    if kernel.conditions:
        found = [classify_blocks(x, bound, tiles.rows, tiles.keys) for x in kernel.conditions]
        codes = found[0]
        for one in found[1:]:
            codes = torch.where(codes == one, codes, MIXED)
        plan = BlockPlan(codes.to(torch.int8), tiles.rows, tiles.keys)
    return Facts(
        sweeps=tuple(SWEEPS[one.what] for one in kernel.sweeps(bound.queries, bound.keys)),
        tile=(tiles.rows, tiles.keys),
        shifted=kernel.lowered.shifted,
        plan=plan,
    )
