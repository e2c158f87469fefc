"""What a BlockMask hides beside what its mask_mod says.

FlexAttention's kernels visit the blocks that a BlockMask lists: a pair outside of them is hidden,
and mask_mod is not asked in full blocks. (Its eager code ignores the blocks; where the two differ,
the kernels are the meaning.) A BlockMask that create_block_mask made says with its blocks what its
mask_mod says. That is shown for each block by the analysis that plans do; where it cannot be shown,
the blocks become a table of the program. Leaves to others: tracing mask_mod (`tracing`).
"""

import math
from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.backends.values.blocks import EMPTY, FULL, classify_blocks
from regard.errors import InputError
from regard.flex.captured import CURRENT
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.lang.trace import build

HIDDEN, ASKED, SEEN = 0, 1, 2
# A mask without blocks of its own has one block so large; torch's own number.
_ENDLESS = 1 << 30
# Up to so many rows of blocks are looked at one query at a time.
_MOST_STRIPS = 1 << 20


class BlockTable(NamedTuple):
    """Which blocks are hidden, asked about and seen.

    Attributes:
        codes: HIDDEN, ASKED or SEEN, int8 (B or 1, H or 1, query blocks, key blocks).
        size: Query rows and key rows of a block.
    """

    codes: Tensor
    size: tuple[int, int]

    @property
    def key(self) -> Hashable:
        """What the program depends on: shapes, not blocks."""
        return self.codes.shape, self.size

    def condition(self, asked: n.Node | None) -> n.Node:
        """Return the condition of the whole mask, while its mask_mod is being traced.

        Args:
            asked: The condition of its mask_mod; None always holds.

        Returns:
            The condition.
        """
        code = self._code()
        listed = build(n.Call, "gt", (code, build(n.Const, HIDDEN)))
        if asked is None:
            return listed
        full = build(n.Call, "eq", (code, build(n.Const, SEEN)))
        return build(n.Call, "or", (full, build(n.Call, "and", (listed, asked))))

    def _code(self) -> n.Node:
        """Read the code of the pair's block; all that decides its row is one index."""
        tracing = CURRENT.get()
        shape = self.codes.shape
        recipe = tracing.recipe(self.codes).then(
            ("rows of blocks",), lambda codes: codes.reshape(-1, shape[3])
        )
        row = _block("i", self.size[0])
        for size, name, below in ((shape[1], "head", shape[2]), (shape[0], "batch", shape[1:3])):
            if size > 1:
                rows = build(n.Const, math.prod(below) if isinstance(below, tuple) else below)
                start = build(n.Call, "mul", (build(n.Index, name), rows))
                row = build(n.Call, "add", (row, start))
        per = ("rows", "rows")
        array = tracing.name_input(
            "blocks", recipe, lambda name: build(n.Array, "table", name, per, None)
        )
        return build(n.Gather, array, (row, _block("j", self.size[1])))


def _block(name: str, rows: int) -> n.Node:
    return build(n.Call, "floordiv", (build(n.Index, name), build(n.Const, rows)))


def is_endless(block_mask: Any) -> bool:
    """Return whether a BlockMask is the one block that stands for no mask at all."""
    return tuple(block_mask.BLOCK_SIZE) == (_ENDLESS, _ENDLESS)


def blocks_of(block_mask: Any) -> BlockTable:
    """Return the blocks that a BlockMask lists.

    Args:
        block_mask: A BlockMask.

    Returns:
        Its blocks as a table.

    Raises:
        InputError: If it has no axes for batch and head.
    """
    if block_mask.kv_num_blocks.ndim != 3:
        raise InputError(
            f"block_mask has {block_mask.kv_num_blocks.ndim - 1} axes before its query blocks; "
            "attention takes two, (B or 1, H or 1): index it with slices"
        )
    rows, keys = block_mask.BLOCK_SIZE
    columns = -(-block_mask.seq_lengths[1] // keys)
    codes = _dense(block_mask.kv_num_blocks, block_mask.kv_indices, columns) * ASKED
    if block_mask.full_kv_num_blocks is not None:
        full = _dense(block_mask.full_kv_num_blocks, block_mask.full_kv_indices, columns)
        codes = torch.maximum(codes, full * SEEN)
    return BlockTable(codes, (rows, keys))


def _dense(counts: Tensor, places: Tensor, columns: int) -> Tensor:
    """Return int8 1 at the first `counts` places of each row, else 0."""
    listed = torch.arange(places.shape[-1], device=places.device) < counts[..., None]
    # What stands behind the listed places has no meaning; it goes to a column of its own.
    column = torch.where(listed, places, columns).long()
    found = torch.zeros((*places.shape[:-1], columns + 1), dtype=torch.int8, device=places.device)
    return found.scatter_(-1, column, 1)[..., :columns].contiguous()


def says_nothing_new(table: BlockTable, condition: n.Node | None, bound: Bound) -> bool:
    """Return whether a mask_mod is known to say alone what it says with these blocks.

    Args:
        table: The blocks.
        condition: The condition of the mask_mod; None always holds.
        bound: A call of a program with that condition.

    Returns:
        Whether no pair of a hidden block fulfils it, and every pair of a seen block does.
    """
    rows, keys = table.size
    fits = _fits(table.codes, classify_blocks(condition, bound, rows, keys))
    if bound.queries * fits.shape[3] + bound.keys * fits.shape[2] > _MOST_STRIPS:
        return bool(fits.all())
    # Where documents meet inside of a block, one of its sides is told apart row by row.
    for axis, size, strip in ((2, rows, (1, keys)), (3, keys, (rows, 1))):
        if fits.all():
            break
        codes = table.codes.repeat_interleave(size, dim=axis)
        narrow = _fits(codes, classify_blocks(condition, bound, *strip))
        fits = fits | _all_of(narrow, axis, size)
    return bool(fits.all())


def _fits(codes: Tensor, found: Tensor) -> Tensor:
    """Tell for every block whether what is found of its pairs is what its code says."""
    codes = codes[:, :, : found.shape[2], : found.shape[3]]
    return ((codes != HIDDEN) | (found == EMPTY)) & ((codes != SEEN) | (found == FULL))


def _all_of(fits: Tensor, axis: int, size: int) -> Tensor:
    """Return for every block whether all of its strips along an axis fit."""
    missing = -fits.shape[axis] % size
    padding = [0, missing, 0, 0] if axis == 3 else [0, 0, 0, missing]
    whole = torch.nn.functional.pad(fits, padding, value=True)
    return whole.unflatten(axis, (-1, size)).all(dim=axis + 1)
