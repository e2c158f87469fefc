"""Attention functions and mask functions that are wrong, each in one way, and one that is right."""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

NAME = "planted"


@dataclass(frozen=True)
class Bug:
    """A wrong implementation.

    Attributes:
        model: The tiny model it is planted in.
        finds: The check that must fail.
        spares: A check that must not, since the bug is not its matter.
        attend: The attention function.
        mask: The mask function, or None to register none.
    """

    model: str
    finds: str
    attend: Any
    mask: Any
    spares: str = "batch independence"


@contextlib.contextmanager
def registered(attend, mask):
    """Register both functions for a while."""
    AttentionInterface.register(NAME, attend)
    if mask is not None:
        AttentionMaskInterface.register(NAME, mask)
    try:
        yield NAME
    finally:
        del AttentionInterface._global_mapping[NAME]
        AttentionMaskInterface._global_mapping.pop(NAME, None)


def whole_mask(**options):
    """The right mask, always made."""
    return sdpa_mask(
        **{**options, "allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
    )


def repeated(rows, heads):
    return rows.repeat_interleave(heads // rows.shape[1], dim=1)


def tiled(rows, heads):
    return rows.repeat(1, heads // rows.shape[1], 1, 1)


def hide(scores, mask, bias):
    """The right way: biased scores are left out of the sum where they are hidden."""
    biased = scores if bias is None else scores + bias
    if mask is None:
        return biased
    return biased.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else biased + mask


def softmax(scores):
    """Softmax over the keys seen; zeros for rows that see nothing."""
    top = scores.amax(-1, keepdim=True).detach().clamp_min(torch.finfo(scores.dtype).min)
    powers = (scores - top).exp()
    return powers / powers.sum(-1, keepdim=True).clamp_min(1e-30)


def dense(
    *, grouped=repeated, hidden=hide, normal=softmax, drop=None, sinks=lambda s: s, after=None
):
    """Return an attention function of parts, each of which may be wrong."""

    def attend(module, query, key, value, attention_mask, *, scaling=None, dropout=0.0, **options):
        heads = query.shape[1]
        keys, values = grouped(key, heads), grouped(value, heads)
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        mask = attention_mask
        scores = hidden(query @ keys.mT * scaling, mask, options.get("position_bias"))
        sink = options.get("s_aux")
        if sink is None:
            weights = normal(scores)
        else:
            column = sinks(sink).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            weights = normal(torch.cat([scores, column.to(scores)], -1))[..., :-1]
        if dropout:
            weights = (drop or torch.nn.functional.dropout)(weights, dropout)
        output = weights @ values
        if after is not None:
            output = after(output, values, mask)
        return output.transpose(1, 2).contiguous(), None

    return attend


RIGHT = dense()


def multiplied(module, query, key, value, attention_mask, *, scaling=None, **options):
    """Weights of all keys, hidden ones then set to zero."""
    heads = query.shape[1]
    weights = (query @ repeated(key, heads).mT * scaling).softmax(-1) * attention_mask
    return (weights @ repeated(value, heads)).transpose(1, 2).contiguous(), None


def blind_decoding(module, query, key, value, attention_mask, **options):
    """One query sees every key there is room for."""
    mask = None if query.shape[2] == 1 else attention_mask
    return RIGHT(module, query, key, value, mask, **options)


def wider(more):
    """Return a function that makes its own window, and counts wrong."""

    def attend(module, query, key, value, attention_mask, **options):
        window, length = options.get("sliding_window"), key.shape[2]
        i = torch.arange(query.shape[2])[:, None] + length - query.shape[2]
        j = torch.arange(length)
        mask = (j <= i) & (i - j < window + more)
        if attention_mask is not None:
            # Padding is kept, as the mask's last row has it.
            mask = mask & attention_mask.any(2, keepdim=True)
        return RIGHT(module, query, key, value, mask, **options)

    return attend


def upper_left(module, query, key, value, attention_mask, **options):
    """Causality counted from the first key, wherever the queries are."""
    mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool).tril()
    return RIGHT(module, query, key, value, mask, **options)


def causal_if_padded(**options):
    """A mask that is causal whenever there is padding, whatever the model asks for."""
    mask = whole_mask(**options)
    padding = options.get("attention_mask")
    if padding is None or padding.all():
        return mask
    return mask & torch.ones(mask.shape[2:], dtype=torch.bool).tril()


def right_lengths(**options):
    """A mask that takes the number of real tokens for the place of the last one."""
    padding = options.pop("attention_mask", None)
    mask = whole_mask(**options)
    if padding is None:
        return mask
    lengths = padding.sum(-1)[:, None, None, None]
    return mask & (torch.arange(mask.shape[3]) < lengths)


class DrawnTwice(torch.autograd.Function):
    """Dropout whose backward draws again."""

    @staticmethod
    def forward(ctx, weights, rate):
        ctx.rate = rate
        return weights * (torch.rand_like(weights) > rate) / (1 - rate)

    @staticmethod
    def backward(ctx, slope):
        return slope * (torch.rand_like(slope) > ctx.rate) / (1 - ctx.rate), None


def finite_then_bias(scores, mask, bias):
    """Hidden scores get a large negative number, and the bias comes after."""
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e4)
    return scores if bias is None else scores + bias


def smallest(scores, mask, bias):
    """A row that sees nothing weighs all keys alike."""
    biased = scores if bias is None else scores + bias
    return biased.masked_fill(~mask, torch.finfo(scores.dtype).min)


def leaks(output, values, mask):
    """The mean of all values, taken away again: only the gradient knows."""
    mean = values.mean(2, keepdim=True)
    return output + mean - mean.detach()


BUGS = {
    "mask dropped: no mask function of that name": Bug("llama", "causality", RIGHT, None),
    "mask dropped: an encoder's padding": Bug("bert", "right padding", RIGHT, None),
    "mask dropped: the name is unknown": Bug("llama", "interface", RIGHT, None),
    "mask multiplied after softmax": Bug("llama", "causality", multiplied, whole_mask),
    "no mask is not causal": Bug("llama", "causality", RIGHT, sdpa_mask, "padded cache"),
    "bidirectional is causal under padding": Bug(
        "bert", "both directions", RIGHT, causal_if_padded
    ),
    "hidden rows are NaN": Bug(
        "bert", "empty rows", dense(normal=lambda s: s.softmax(-1)), whole_mask, "right padding"
    ),
    "hidden rows are NaN, after padding on the left": Bug(
        "llama", "empty rows", dense(normal=lambda s: s.softmax(-1)), whole_mask, "causality"
    ),
    "hidden rows are uniform": Bug(
        "bert", "empty rows", dense(hidden=smallest), whole_mask, "right padding"
    ),
    "hidden rows are uniform, in a decoder": Bug(
        "llama", "empty rows", dense(hidden=smallest), whole_mask, "causality"
    ),
    "unfilled keys of a static cache": Bug(
        "llama", "static cache", blind_decoding, whole_mask, "dynamic cache"
    ),
    "a window of one key more": Bug("mistral", "window edges", wider(1), whole_mask, "causality"),
    "a window of one key less": Bug("mistral", "window edges", wider(-1), whole_mask, "causality"),
    "causal from the wrong corner": Bug(
        "llama", "chunked prefill", upper_left, whole_mask, "causality"
    ),
    "padding is on the right": Bug("llama", "left padding", RIGHT, right_lengths, "right padding"),
    "padding is on the right, in an encoder": Bug(
        "bert", "left padding", RIGHT, right_lengths, "right padding"
    ),
    "dropout drawn again in backward": Bug(
        "llama", "dropout", dense(drop=DrawnTwice.apply), whole_mask, "eager gradients"
    ),
    "bias after the mask": Bug(
        "t5", "mask strength", dense(hidden=finite_then_bias), whole_mask, "causality"
    ),
    "scores after the mask": Bug(
        "llama", "mask strength", dense(hidden=finite_then_bias), whole_mask, "causality"
    ),
    "gradient from the future": Bug(
        "llama", "gradient leakage", dense(after=leaks), whole_mask, "causality"
    ),
    "gradient from padding": Bug(
        "bert", "gradient leakage", dense(after=leaks), whole_mask, "right padding"
    ),
    "key heads in another order": Bug(
        "mistral", "grouped heads", dense(grouped=tiled), whole_mask, "causality"
    ),
    "a head's sink is another's": Bug(
        "gpt_oss", "grouped heads", dense(sinks=lambda sink: sink.roll(1)), whole_mask, "causality"
    ),
}
"""The bug classes, one or more implementations of each."""
