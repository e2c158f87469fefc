"""A BlockMask beside the tensors of a call: whether it fits, and whether its blocks matter.

Leaves to others: what blocks mean (`blocks`), tracing its mask_mod (`remember`).
"""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor

from regard.errors import InputError
from regard.flex.blocks import BlockTable, blocks_of, is_endless, says_nothing_new
from regard.flex.remember import FlexProgram, find_program
from regard.flex.tracing import Origin
from regard.ir import nodes as n
from regard.ops.bind import Options
from regard.ops.prepare import prepare

# Up to so many numbers of a tensor are copied, so that later ones can be compared with them.
_MOST_COPIED = 1 << 20


class _Known(NamedTuple):
    """What is known of a BlockMask: for what, and its blocks if they say more than its mask_mod."""

    asked: tuple
    numbers: list["_Numbers"]
    table: BlockTable | None


_known: WeakKeyDictionary[Any, _Known] = WeakKeyDictionary()


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
    listed = [block_mask.kv_num_blocks, block_mask.kv_indices]
    full = [block_mask.full_kv_num_blocks, block_mask.full_kv_indices]
    listed += [tensor for tensor in full if tensor is not None]
    asked, tensors = (found.program, origin.sizes, len(listed)), [*listed, *found.inputs.values()]
    known = _known.get(block_mask)
    same = known is not None and known.asked == asked
    if known is None or not (same and all(map(_Numbers.are_those_of, known.numbers, tensors))):
        table = _checked_table(block_mask, found, (query, key, value))
        known = _known[block_mask] = _Known(asked, list(map(_Numbers, tensors)), table)
    return known.table


class _Numbers:
    """What a tensor held when it was looked at.

    Args:
        tensor: The tensor.
    """

    def __init__(self, tensor: Tensor) -> None:
        self._tensor, self._version = ref(tensor), _version(tensor)
        few = tensor.device.type == "cpu" and tensor.numel() <= _MOST_COPIED
        self._copy = tensor.detach().clone() if few else None

    def are_those_of(self, tensor: Tensor) -> bool:
        """Return whether a tensor is known to hold the same."""
        if self._copy is not None:
            # An address comes back with other numbers, and not all that writes is counted.
            alike = (tensor.dtype, tensor.device) == (self._copy.dtype, self._copy.device)
            return alike and torch.equal(tensor, self._copy)
        version = _version(tensor)
        return version is not None and self._tensor() is tensor and self._version == version


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


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
