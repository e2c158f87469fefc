"""Which blocks of the other side each block visits, as a kernel reads it: full ones first.

Before: codes of blocks, EMPTY, FULL or MIXED.
After: for each block a row of whole numbers: how many blocks are full, how many are not empty, and
which those are, full ones first.
Leaves to others: the codes (`values/blocks`), the loops (`text`).
"""

import torch
from torch import Tensor

from regard.backends.triton.tiles import Tiles
from regard.backends.values.blocks import EMPTY, FULL, MIXED, classify_blocks
from regard.backends.values.remember import Memory
from regard.ir import nodes as n
from regard.ir.bound import Bound

_made = Memory()


def find_visits(
    conditions: tuple[n.Node | None, ...], bound: Bound, tiles: Tiles, major: str
) -> Tensor:
    """Find the blocks that each block visits.

    Args:
        conditions: When each term sees a pair; empty if all always see every one.
        bound: The call.
        tiles: The size of blocks.
        major: "i" for the key blocks of each query block, "j" for the reverse.

    Returns:
        int32 (B or 1, H or 1, blocks, 2 + blocks of the other side), kept for like calls.
    """
    sizes = tiles.rows, tiles.keys
    codes = [classify_blocks(one, bound, *sizes) for one in conditions or (None,)]
    whole = bound.queries % tiles.rows == 0, bound.keys % tiles.keys == 0
    key = (sizes, major, whole)
    return _made.of_same(key, tuple(codes), lambda: _visits(codes, whole, major))


def _visits(codes: list[Tensor], whole: tuple[bool, bool], major: str) -> Tensor:
    joint = codes[0].clone()
    for one in codes[1:]:
        joint = torch.where(joint == one, joint, MIXED)
    # A block that reaches beyond the last row or key is masked.
    for dim, fits in zip((2, 3), whole, strict=True):
        if not fits and joint.shape[dim]:
            last = joint.select(dim, -1)
            last[last == FULL] = MIXED
    joint = joint if major == "i" else joint.transpose(2, 3)
    rank = torch.where(joint == FULL, 0, torch.where(joint == MIXED, 1, 2))
    order = rank.argsort(dim=-1, stable=True)
    full = (joint == FULL).sum(-1, keepdim=True)
    total = (joint != EMPTY).sum(-1, keepdim=True)
    return torch.cat([full, total, order], -1).to(torch.int32).contiguous()
