"""The attention function and the mask function that transformers calls, under one name.

Both registries need the same name: with the attention function alone, transformers hands over no
mask at all, and causality and padding are lost without a word. Leaves to others: which module runs
what (`apply`).
"""

import threading
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

from regard.errors import InputError, UnsupportedError
from regard.lang.functions import dot
from regard.lang.pair import Pair
from regard.lang.program import program
from regard.lang.trace import Expr
from regard.lang.weights import softmax
from regard.nn.programmed import attend_in_layer, draw_seed, variants_of

NAME = "regard"
# What transformers passes beside the tensors and that changes nothing here.
_HARMLESS = {
    "position_ids",
    "cache_position",
    "output_attentions",
    "output_hidden_states",
    "use_cache",
    "return_dict",
    "past_key_values",
    "labels",
    "layer_idx",
    "num_items_in_batch",
}

# Where attention functions put (module, weights) while `observe.record_weights` is at work.
recording: ContextVar[list[tuple[nn.Module, Tensor]] | None] = ContextVar("recording", default=None)


class _Progress(threading.local):
    """How many tokens the decoder had seen whose own attention ran last in this thread."""

    tokens = 0


_progress = _Progress()


@lru_cache(maxsize=64)
def model_attention(scaling: float) -> Any:
    """Return what a model computes unless a mode says otherwise: scaled dot-product attention.

    Args:
        scaling: What dot products are multiplied by.

    Returns:
        The program.
    """

    @program
    def attention(pair: Pair) -> Expr:
        return softmax(dot(pair.q, pair.k) * scaling)

    return attention


def mask_function(*, q_offset: Any = 0, kv_offset: Any = 0, **options: Any) -> Tensor:
    """Return the mask of a forward pass, true where visible, with the position of its first query.

    Args:
        q_offset: The position of query row 0, an int or a tensor of the cache.
        kv_offset: The position of key row 0.
        **options: As transformers passes them to `sdpa_mask`.

    Returns:
        Bool (B, 1, N, M); its attribute `query_offset` is an int, `key_lengths` says up to which
        key each batch row sees anything, (B,).

    Raises:
        UnsupportedError: If the cache dropped its first keys.
    """
    if int(kv_offset):
        raise UnsupportedError(
            f"the cache starts at key {int(kv_offset)}; caches that drop keys are not supported yet"
        )
    # A cache mutates its own tensor before attention runs, so the number is read now.
    offset = int(q_offset)
    options.update(allow_is_causal_skip=False, allow_is_bidirectional_skip=False)
    mask = sdpa_mask(q_offset=offset, **options)
    assert mask is not None
    mask.query_offset = offset  # type: ignore[attr-defined]
    mask.key_lengths = _key_lengths(mask)  # type: ignore[attr-defined]
    return mask


def _key_lengths(mask: Tensor) -> Tensor:
    """Return the length of each row without padding at its end or a cache's unfilled part."""
    numbers = torch.arange(1, mask.shape[3] + 1, device=mask.device)
    return (mask.any(dim=(1, 2)) * numbers).amax(1)


def attention_function(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Run a module's programs in the place of its own attention.

    Args:
        module: The attention module that calls.
        query: (B, H, N, D).
        key: (B, G, M, D).
        value: (B, G, M, E).
        attention_mask: From `mask_function`, or None where everything is visible.
        scaling: What the model multiplies dot products by; programs scale their own scores.
        dropout: The probability of dropping a weight.
        **options: What else transformers passes; unknown ones that are set are refused.

    Returns:
        (B, N, H, E), and the weights (B, H, N, M) before dropout if `output_attentions` asks for
        them, else None.

    Raises:
        UnsupportedError: If an argument would have to be ignored.
        InputError: If the mask was lost on the way.
    """
    _refuse_unknown(module, options)
    _check_mask(module, query, attention_mask)
    offset = _offset(module, query, key, attention_mask)
    records = recording.get()
    wanted = records is not None or _wants_weights(module, options)
    common: dict[str, Any] = {"mask": attention_mask, "observe": ("weights",) if wanted else ()}
    programmed = getattr(module, "regard", None)
    if programmed is None:
        plain = model_attention(query.shape[-1] ** -0.5 if scaling is None else scaling)
        if dropout:
            common.update(dropout=dropout, seed=draw_seed())
        found = attend_in_layer(variants_of(plain), query, key, value, **common)
    else:
        lengths = getattr(attention_mask, "key_lengths", None)
        if lengths is None and attention_mask is not None:
            lengths = _key_lengths(attention_mask)
        found = programmed(
            query, key, value, dropout=dropout, query_offset=offset, key_lengths=lengths, **common
        )
    output, seen = found if wanted else (found, {})
    if records is not None:
        records.append((module, seen["weights"]))
    return output.transpose(1, 2).contiguous(), seen.get("weights")


def _wants_weights(module: nn.Module, options: dict[str, Any]) -> bool:
    config = getattr(module, "config", None)
    return bool(options.get("output_attentions") or getattr(config, "output_attentions", False))


def _refuse_unknown(module: nn.Module, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if name not in _HARMLESS and value is not None and value is not False:
            raise UnsupportedError(
                f"{type(module).__name__} passes '{name}', "
                "which re-programmed attention would have to ignore"
            )


def _check_mask(module: nn.Module, query: Tensor, mask: Tensor | None) -> None:
    """Check that a mask is one, and that none is missing."""
    kind = type(module).__name__
    if mask is None and NAME not in ALL_MASK_ATTENTION_FUNCTIONS:
        raise InputError(
            f"{kind} got no mask, because transformers knows no mask function named '{NAME}' "
            "any more; regard.hf.interface.register() puts it back"
        )
    if mask is None and getattr(module, "is_causal", False) and query.shape[2] > 1:
        raise InputError(
            f"{kind} is causal and got no mask; "
            f"is attn_implementation '{NAME}' set on the whole model?"
        )
    if mask is not None and (mask.dtype != torch.bool or mask.dim() != 4):
        raise UnsupportedError(
            f"{kind} got a mask of dtype {mask.dtype} and shape {tuple(mask.shape)}; only the "
            "model's own mask, bool (B, 1, N, M), can be combined with a program"
        )


def _offset(module: nn.Module, query: Tensor, key: Tensor, mask: Tensor | None) -> int:
    """Return the position of the first query."""
    place = getattr(module, "regard_place", None)
    if place is not None and place.role == "cross":
        # The cross mask does not know how far decoding is; the decoder's own attention, which ran
        # just before, does.
        return _progress.tokens
    offset = getattr(mask, "query_offset", None)
    if offset is None:
        offset = _offset_seen(query, key, mask) if getattr(module, "is_causal", False) else 0
    if place is not None and place.role == "decoder":
        _progress.tokens = offset
    return offset


def _offset_seen(query: Tensor, key: Tensor, mask: Tensor | None) -> int:
    """Return the position of the first query where its mask lost it, being copied or one's own.

    The keys of a static cache are more than the tokens there are, but a causal query sees itself
    last.
    """
    most = key.shape[2] - query.shape[2]
    return most if mask is None else min(most, max(0, int(_key_lengths(mask[:, :, :1]).max()) - 1))


def register() -> None:
    """Put both functions into transformers' registries."""
    AttentionInterface.register(NAME, attention_function)
    AttentionMaskInterface.register(NAME, mask_function)


register()
