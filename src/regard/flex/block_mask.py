"""A BlockMask beside the tensors of a call: whether it fits, and whether its blocks matter.

Leaves to others: what blocks mean (`blocks`), tracing its mask_mod (`remember`).
"""

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from regard.errors import InputError
from regard.flex.blocks import BlockTable, blocks_of, is_endless, says_nothing_new
from regard.flex.remember import FlexProgram, find_program
from regard.flex.tracing import Origin
from regard.ir import nodes as n
from regard.ops.bind import Options
from regard.ops.prepare import prepare

# What is known of a BlockMask: for what, and its blocks if they may say more than its mask_mod.
_known: WeakKeyDictionary[Any, tuple[tuple, BlockTable | None]] = WeakKeyDictionary()


def check_block_mask(block_mask: Any, query: Tensor, key: Tensor) -> None:
    """Check that a BlockMask is one, and is for these rows.

    Args:
        block_mask: What was given.
        query: Queries.
        key: Keys.

    Raises:
        InputError: If it does not fit.
    """
    if not hasattr(block_mask, "kv_num_blocks") or not hasattr(block_mask, "mask_mod"):
        raise InputError(
            f"block_mask must be a BlockMask, not {type(block_mask).__name__}; "
            "create_block_mask makes one of a mask_mod"
        )
    if getattr(block_mask.mask_mod, "__name__", "") == "_sliced_mask_mod_error":
        raise InputError(
            "block_mask was sliced, and slicing forgets its mask_mod; "
            "set block_mask.mask_mod to one for the rows that are left"
        )
    if block_mask.kv_num_blocks.device != query.device:
        raise InputError(
            f"block_mask is on {block_mask.kv_num_blocks.device}, query is on {query.device}"
        )
    if is_endless(block_mask):
        return
    found, wanted = tuple(block_mask.seq_lengths), (query.shape[2], key.shape[2])
    if found != wanted:
        raise InputError(
            f"block_mask is for {found[0]} queries and {found[1]} keys; found {wanted[0]} and "
            f"{wanted[1]}: make one for these lengths, or crop it with block_mask._adjust{wanted}"
        )
    for name, size, sizes in zip(
        ("batch rows", "heads"), block_mask.kv_num_blocks.shape[:2], query.shape[:2], strict=True
    ):
        if size not in (1, sizes):
            raise InputError(f"block_mask is for {size} {name}; query has {sizes}")
    rows = block_mask.kv_num_blocks.shape[-1] * block_mask.BLOCK_SIZE[0]
    if rows < query.shape[2]:
        raise InputError(f"block_mask lists blocks for {rows} queries; query has {query.shape[2]}")


def table_of(
    block_mask: Any, query: Tensor, key: Tensor, value: Tensor, origin: Origin
) -> BlockTable | None:
    """Return the blocks of a BlockMask if they may say more than its mask_mod.

    Args:
        block_mask: The BlockMask.
        query: Queries.
        key: Keys.
        value: Values.
        origin: What the call says beside its functions.

    Returns:
        Its blocks; None where its mask_mod is known to say the same alone.
    """
    if is_endless(block_mask):
        return None
    found = find_program(None, block_mask.mask_mod, origin)
    listed = (block_mask.kv_num_blocks, block_mask.kv_indices, block_mask.full_kv_num_blocks)
    state = (
        found.program,
        origin.sizes,
        tuple(map(_version, (*listed, block_mask.full_kv_indices, *found.inputs.values()))),
    )
    if block_mask not in _known or _known[block_mask][0] != state:
        _known[block_mask] = state, _checked_table(block_mask, found, (query, key, value))
    return _known[block_mask][1]


def _version(tensor: Tensor | None) -> tuple | None:
    """Return what changes when a tensor is written to."""
    if tensor is None or tensor.is_inference():
        return None
    return tensor.data_ptr(), tensor._version


def _checked_table(
    block_mask: Any, found: FlexProgram, rows: tuple[Tensor, Tensor, Tensor]
) -> BlockTable | None:
    # Not as inference tensors, because a later call that is trained may be given the same.
    with torch.inference_mode(False), torch.no_grad():
        table = blocks_of(block_mask)
    weights = found.program.root.weights
    assert isinstance(weights, n.Softmax)
    _, bound = prepare(found.program, *rows, dict(found.inputs), Options())
    return None if says_nothing_new(table, weights.where, bound) else table
