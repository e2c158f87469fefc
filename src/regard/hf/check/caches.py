"""Check that a sequence read in parts, by a cache, is what it is when read at once."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache, StaticCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_outputs import BaseModelOutput

from regard.hf.check.padded import counts_positions, padded, positions, real_tokens
from regard.hf.check.report import SKIPPED, Row, Worst
from regard.hf.check.subject import Stream, Subject, difference
from regard.hf.check.tiny import takes

NAMES = ("dynamic cache", "static cache", "sliding cache", "chunked prefill", "padded cache")
# Keys a static cache has room for beyond those it gets: attended to, they would show.
_ROOM = 5


def check_caches(subject: Subject) -> list[Row]:
    """Compare outputs of the whole sequence with those of its parts.

    Token by token with a growing cache, with one of fixed size and with one that forgets what left
    the window; in chunks; and token by token with padding on the left.

    Args:
        subject: The model.

    Returns:
        Five rows.
    """
    streams = [stream for stream in subject.streams if stream.causal]
    if not streams or not takes(subject.model, "past_key_values"):
        return [Row(name, SKIPPED, where="the model keeps no keys") for name in NAMES]
    stream = streams[-1]
    length = subject.inputs[stream.ids].shape[1]
    ones, chunks = [1] * length, _chunks(length)
    layers = _own(subject, length).layers
    slides = any(isinstance(layer, DynamicSlidingWindowLayer) for layer in layers)
    # A cache of no configuration keeps every key; only the model's own keeps states of other kinds.
    whole = slides and all(isinstance(layer, DynamicLayer) for layer in layers)
    growing = _whole if whole else _own
    ways: list[tuple[str, Callable[..., Any] | None, Sequence[int], bool]] = [
        ("dynamic cache", growing, ones, False),
        ("static cache", _fixed, ones, False),
        ("sliding cache", _own if slides else None, ones, False),
        ("chunked prefill", growing, chunks, False),
        ("padded cache", growing, [length // 2, *[1] * (length - length // 2)], True),
    ]
    return [_row(subject, stream, name, make, sizes, hides) for name, make, sizes, hides in ways]


def _chunks(length: int) -> list[int]:
    """Return sizes of chunks: of many tokens, then of fewer, each after the first sees a past."""
    first = length // 2
    second = (length - first) // 2
    return [size for size in (first, second, length - first - second) if size]


def _row(
    subject: Subject, stream: Stream, name: str, make: Callable[..., Any] | None,
    sizes: Sequence[int], hides: bool,
) -> Row:  # fmt: skip
    if make is None:
        return Row(name, SKIPPED, where="no layer has a sliding window")
    own = stream.mask is not None and (stream.ids != "input_ids" or counts_positions(subject))
    if hides and not own:
        return Row(name, SKIPPED, where="the model takes no mask with positions of its own")
    mask = real_tokens(subject, stream, "left") if hides else None
    worst = Worst()
    with torch.no_grad():
        expected = subject.outputs(
            stream, **({} if mask is None else padded(subject, stream, mask))
        )
        found = _in_parts(subject, stream, make, sizes, mask)
    start = 0
    for size in sizes:
        here = slice(start, start + size)
        real = torch.ones_like(expected[:, here, 0]) if mask is None else mask[:, here]
        kept = real.bool()
        figure = difference(found[:, here][kept], expected[:, here][kept])
        worst.add(
            figure, f"{stream.ids}: tokens {start} to {start + size - 1} of {expected.shape[1]}"
        )
        start += size
    # Figures of parts are shares of the part's own numbers, which may be small.
    return worst.row(name, 2 * subject.tolerance)


def _in_parts(
    subject: Subject, stream: Stream, make: Callable[..., Any], sizes: Sequence[int],
    mask: Tensor | None,
) -> Tensor:  # fmt: skip
    """Return the outputs of a sequence that is given in parts."""
    ids = subject.inputs[stream.ids]
    given: dict[str, Any] = {name: value for name, value in subject.inputs.items()}
    given.pop(stream.mask or "", None)
    decodes = stream.ids != "input_ids"
    if decodes:
        source = subject.run().encoder_last_hidden_state
        given = {key: given[key] for key in given if key == "attention_mask"}
        given["encoder_outputs"] = BaseModelOutput(last_hidden_state=source)
        cache = EncoderDecoderCache(
            make(subject, ids.shape[1]), make(subject, source.shape[1], True)
        )
    else:
        cache = make(subject, ids.shape[1])
    left_out = dict.fromkeys(subject.inputs)
    found, start = [], 0
    for size in sizes:
        stop = start + size
        call = {**left_out, **given, stream.ids: ids[:, start:stop]}
        if mask is not None:
            call[stream.mask or ""] = mask[:, :stop]
            if not decodes:
                call["position_ids"] = positions(mask)[:, start:stop]
        found.append(subject.outputs(stream, **call, past_key_values=cache, use_cache=True))
        start = stop
    return torch.cat(found, 1)


def _config(subject: Subject, crosses: bool) -> Any:
    """Return the configuration a cache is made by; keys of the source leave no window."""
    config = subject.model.config.get_text_config(decoder=True)
    if crosses:
        config = copy.deepcopy(config)
        config.layer_types = config.sliding_window = None
    return config


def _own(subject: Subject, length: int, crosses: bool = False) -> DynamicCache:
    return DynamicCache(config=_config(subject, crosses))


def _whole(subject: Subject, length: int, crosses: bool = False) -> DynamicCache:
    return DynamicCache()


def _fixed(subject: Subject, length: int, crosses: bool = False) -> StaticCache:
    room = 0 if crosses else _ROOM
    return StaticCache(config=_config(subject, crosses), max_cache_len=length + room)
