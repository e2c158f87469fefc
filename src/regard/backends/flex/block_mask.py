"""The blocks that FlexAttention visits, from those that every backend is told.

Leaves to others: which blocks are full or empty (`values/blocks`), the mask_mod (`write`).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regard.backends.values.blocks import FULL, MIXED, classify_blocks
from regard.backends.values.remember import Memory
from regard.ir import nodes as n
from regard.ir.bound import Bound

# What FlexAttention's kernels take for granted.
SIZE = 128

_made = Memory()


def make_block_mask(term: n.Softmax, bound: Bound, mask_mod: Callable[..., Tensor]) -> Any:
    """Return a BlockMask of a call.

    Args:
        term: The softmax.
        bound: The call.
        mask_mod: Its condition.

    Returns:
        The BlockMask; what it visits is kept for like calls.
    """
    from torch.nn.attention.flex_attention import BlockMask

    codes = classify_blocks(term.where, bound, SIZE, SIZE)
    whole = bound.queries % SIZE == 0, bound.keys % SIZE == 0
    listed = _made.of_same((whole,), (codes,), lambda: _listed(codes, whole))
    mixed, full = listed.unbind(0)
    return BlockMask.from_kv_blocks(
        mixed[..., 0].contiguous(), mixed[..., 1:].contiguous(),
        full[..., 0].contiguous(), full[..., 1:].contiguous(),
        BLOCK_SIZE=SIZE, mask_mod=mask_mod, seq_lengths=(bound.queries, bound.keys),
    )  # fmt: skip


def _listed(codes: Tensor, whole: tuple[bool, bool]) -> Tensor:
    """Return how many blocks of each row are mixed, and which, those first; and the same of full.

    Returns:
        int32 (2, B or 1, H or 1, blocks of queries, 1 + blocks of keys).
    """
    codes = codes.clone()
    # A block that reaches beyond the last row or key is masked.
    for dim, fits in zip((2, 3), whole, strict=True):
        if not fits:
            last = codes.select(dim, -1)
            last[last == FULL] = MIXED
    found = []
    for code in (MIXED, FULL):
        here = codes == code
        order = (~here).to(torch.int8).argsort(dim=-1, stable=True)
        found.append(torch.cat([here.sum(-1, keepdim=True), order], -1))
    return torch.stack(found).to(torch.int32)
