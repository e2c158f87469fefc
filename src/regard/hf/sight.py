"""What a call of attention may see, from whatever mask arrived: a program, a tensor, or none.

Leaves to others: masks made from a model's mask function (`masks`).
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regard.errors import InputError, UnsupportedError
from regard.hf.masks import PREFIX, Mask
from regard.hf.own import MASK_BIAS, where
from regard.ir import nodes as n

_GIVEN = PREFIX + "given"
_CAUSAL = n.Call("le", (n.Index("j"), n.Index("i")))
_VISIBLE = n.PairInput(_GIVEN)
_VISIBLE_KEY = n.Feature("key", _GIVEN)
# exp(-50) is 2e-22: less of any weight than float32 can add to another. Swin hides by -100.
_HIDDEN = -50.0
_NOT_HIDDEN = n.Call("gt", (n.PairInput(MASK_BIAS), n.Const(_HIDDEN)))


class Sight(NamedTuple):
    """What a call may see.

    Attributes:
        condition: What must hold for a pair; None where all are seen.
        inputs: What the condition reads, by name.
        bias: Numbers that the mask adds to scores, (B or 1, H or 1, N, M), or None.
        query_offset: The position of the first query; None where the mask does not tell.
        key_offset: The position of the first key.
        key_lengths: Up to which key each batch row sees anything, (B,), or None.
    """

    condition: n.Node | None = None
    inputs: dict[str, Tensor] = {}  # noqa: RUF012
    bias: Tensor | None = None
    query_offset: int | None = None
    key_offset: int = 0
    key_lengths: Tensor | None = None


def sight_of(
    module: nn.Module, query: Tensor, key: Tensor, mask: Any, is_causal: bool | None
) -> Sight:
    """Return what a call may see.

    Args:
        module: The attention module that calls.
        query: (B, H, N, D).
        key: (B, G, M, D).
        mask: What arrived as its mask.
        is_causal: What the model passed under that name.

    Returns:
        What it may see.

    Raises:
        InputError: If a mask is missing, or does not fit.
        UnsupportedError: If it is none that can be combined with a program.
    """
    if isinstance(mask, Mask):
        shape = mask.options
        if shape["q_length"] == query.shape[2] and shape["kv_length"] == key.shape[2]:
            return Sight(
                mask.condition, mask.inputs, None, mask.query_offset, mask.key_offset,
                mask.key_lengths,
            )  # fmt: skip
        mask = mask.dense()
    if mask is None:
        return _without_mask(module, query, key, is_causal)
    return _given(module, query, key, mask)


def _without_mask(module: nn.Module, query: Tensor, key: Tensor, is_causal: bool | None) -> Sight:
    rows, keys = query.shape[2], key.shape[2]
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    if not causal or rows == 1:
        return Sight()
    if is_causal and rows == keys:
        return Sight(_CAUSAL, query_offset=0)
    raise InputError(
        f"{where(module)} is causal and got no mask; "
        "is attn_implementation 'regard' set on the whole model?"
    )


def _given(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor) -> Sight:
    """Return what a tensor shows: truth values, or numbers that are added to scores."""
    mask = _fitted(module, query, key, mask)
    if mask.dtype != torch.bool:
        bias = mask if mask.is_floating_point() else mask.to(query.dtype)
        bias = bias.expand(-1, -1, query.shape[2], -1)
        return Sight(_NOT_HIDDEN, {MASK_BIAS: bias}, bias)
    if mask.shape[2] == 1:
        return Sight(_VISIBLE_KEY, {_GIVEN: mask[:, :, 0]})
    return Sight(_VISIBLE, {_GIVEN: mask})


def _fitted(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor) -> Tensor:
    """Return a mask of four axes for the rows and keys of a call."""
    batch, heads, rows, keys = *query.shape[:3], key.shape[2]
    found = tuple(mask.shape)
    if len(found) == 4 and found[3] > keys:
        # Masks of a cache's whole capacity; models cut them like this.
        mask = mask[..., :keys]
    fits = len(found) == 4 and found[0] in (1, batch) and found[1] in (1, heads)
    if not fits or found[2] not in (1, rows) or found[3] < keys:
        raise UnsupportedError(
            f"{where(module)} got a mask of shape {found}; "
            f"expected ({batch} or 1, {heads} or 1, {rows} or 1, {keys})"
        )
    return mask


def seen_keys(sight: Sight, query: Tensor, key: Tensor) -> Tensor | None:
    """Return up to which key each batch row sees anything.

    Args:
        sight: What the call may see.
        query: (B, H, N, D).
        key: (B, G, M, D).

    Returns:
        (B,), or None for all keys.
    """
    given = sight.inputs.get(_GIVEN)
    if given is None and sight.bias is not None:
        given = sight.bias > _HIDDEN
    if given is None:
        return sight.key_lengths
    visible = given if given.dim() == 4 else given[:, :, None]
    return last_seen(visible).expand(query.shape[0])


def last_seen(mask: Tensor) -> Tensor:
    """Return up to which key each row of a dense mask (B, H, N, M) sees anything, (B,)."""
    numbers = torch.arange(1, mask.shape[3] + 1, device=mask.device)
    return (mask.any(dim=(1, 2)) * numbers).amax(1)


def offset_of(sight: Sight, query: Tensor, key: Tensor) -> int:
    """Return the position of the first query of a causal module whose mask does not tell it.

    The keys of a cache of fixed size are more than the tokens there are, but a causal query sees
    itself last.

    Args:
        sight: What the call may see.
        query: (B, H, N, D).
        key: (B, G, M, D).

    Returns:
        The position.
    """
    most = key.shape[2] - query.shape[2]
    given = sight.inputs.get(_GIVEN)
    if given is not None and given.dim() == 3 and query.shape[2] == 1:
        given = given[:, :, None]
    if given is None or given.dim() == 3:
        return most
    return min(most, max(0, int(last_seen(given[:, :, :1]).max()) - 1))
