"""from_flex(): a score_mod and a mask_mod as an attention program and the tensors it reads.

Leaves to others: running them on traced values (`tracing`), calls that repeat (`remember`).
"""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from regard.errors import InputError
from regard.flex.attention import origin_of
from regard.flex.block_mask import check_block_mask, table_of
from regard.flex.blocks import blocks_of, is_endless
from regard.flex.remember import FlexProgram, find_program
from regard.flex.tracing import Origin


def from_flex(
    score_mod: Callable[..., Any] | None = None,
    mask_mod: Any = None,
    *,
    scale: float | None = None,
    q: Tensor | None = None,
    k: Tensor | None = None,
) -> FlexProgram:
    """Return FlexAttention's functions as a program; they are run once, on traced values.

    Args:
        score_mod: (score, b, h, q_idx, kv_idx) -> score, or None.
        mask_mod: (b, h, q_idx, kv_idx) -> bool, a BlockMask, or None.
        scale: What products are multiplied by; 1 / √D unless given.
        q: Queries, (B, H, N, D). With q and k, captured tensors longer than the call are cut to it,
            rows of captured tensors become rows beside q and k, and blocks of a BlockMask that
            only repeat its mask_mod are left out; the program is then one for calls of these
            sizes. Numbers of them are not read.
        k: Keys, (B, G, M, D).

    Returns:
        The program, and the captured tensors that it reads by name.

    Raises:
        ProgramError: If a function says something that has no meaning for a pair; the message
            shows its line.
        InputError: If q and k are not given together, or a BlockMask does not fit them.
    """
    if (q is None) != (k is None):
        raise InputError("q and k tell the sizes of a call together; give both or neither")
    is_block_mask = hasattr(mask_mod, "kv_num_blocks")
    asked = mask_mod.mask_mod if is_block_mask else mask_mod
    table = None
    if q is None or k is None:
        origin = Origin(None if scale is None else float(scale))
        if is_block_mask and not is_endless(mask_mod):
            table = blocks_of(mask_mod)
    else:
        origin = origin_of(q, k, scale)
        if is_block_mask:
            check_block_mask(mask_mod, q, k)
            table = table_of(mask_mod, q, k, k, origin)
    return find_program(score_mod, asked, origin, table)
