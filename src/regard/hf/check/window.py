"""Check the edges of a window: the furthest key it holds is read, the next one is not."""

from typing import Any

import torch
from torch import Tensor

from regard.hf.check.calls import Call, reads
from regard.hf.check.report import FAILED, PASSED, SKIPPED, Row
from regard.hf.check.subject import Subject

NAMES = ("window edges",)


def check_window(subject: Subject) -> list[Row]:
    """Look which keys each query of a layer with a window reads.

    A causal window or chunk must be the one that the configuration states; another is compared with
    that of eager attention.

    Args:
        subject: The model.

    Returns:
        One row; its figure counts wrong pairs.
    """
    (name,) = NAMES
    own = {call.path: call for call in subject.own_calls}
    compared, why = 0, "no layer has a window"
    for call in subject.calls():
        window = _window(call)
        if window is None or not call.is_square:
            continue
        length = call.query.shape[2]
        if window >= length:
            why = f"the window of {window} keys is longer than the sequence of {length}"
            continue
        expected = _stated(call, window)
        if expected is None:
            if subject.is_eager or call.path not in own:
                continue
            expected = reads(own[call.path])
        wrong = reads(call) != expected
        compared += 1
        if wrong.any():
            _, i, j = (int(number) for number in wrong.nonzero()[0])
            does = "does not read" if expected.expand_as(wrong)[0, i, j] else "reads"
            where = f"{call.path}: query {i} {does} key {j}; the window is {window}"
            return [Row(name, FAILED, float(wrong.sum()), 0.0, where)]
    if not compared:
        return [Row(name, SKIPPED, where=why)]
    return [Row(name, PASSED, 0.0, 0.0, f"{compared} layers")]


def _kind(call: Call) -> str | None:
    config = getattr(call.module, "config", None)
    kinds, number = getattr(config, "layer_types", None), getattr(call.module, "layer_idx", None)
    return kinds[number] if kinds and number is not None and number < len(kinds) else None


def _window(call: Call) -> int | None:
    """Return how many keys a layer's window holds; None if it has none."""
    config: Any = getattr(call.module, "config", None)
    kind = _kind(call)
    if kind == "chunked_attention":
        return getattr(config, "attention_chunk_size", None)
    if kind not in (None, "sliding_attention"):
        return None
    given = call.options.get("sliding_window")
    window = getattr(config, "sliding_window", None) if given is None and kind else given
    return window if isinstance(window, int) else None


def _stated(call: Call, window: int) -> Tensor | None:
    """Return which pairs a causal window or chunk holds, bool (1, N, M); None if not causal."""
    if not call.is_causal:
        return None
    i = torch.arange(call.query.shape[2], device=call.query.device)[:, None]
    j = i.T
    near = i // window == j // window if _kind(call) == "chunked_attention" else i - j < window
    return ((j <= i) & near)[None]
