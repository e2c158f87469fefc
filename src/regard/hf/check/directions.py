"""Check that tokens of a model that says so see later tokens too, with and without padding."""

from typing import Any

import torch

from regard.hf.check.padded import SIDES, padded, real_tokens
from regard.hf.check.report import FAILED, PASSED, SKIPPED, Row
from regard.hf.check.subject import Stream, Subject, difference

NAMES = ("both directions",)


def check_directions(subject: Subject) -> list[Row]:
    """Change one token, and look for a change of the output of the token before it.

    Args:
        subject: The model.

    Returns:
        One row; its figure is the smallest change, which must exceed the tolerance.
    """
    (name,) = NAMES
    found: list[tuple[float, str]] = []
    with torch.no_grad():
        for stream in subject.streams:
            if stream.causal:
                continue
            found.append((_change(subject, stream, {}), f"{stream.ids}, without padding"))
            for side in SIDES if stream.mask is not None else ():
                changes = padded(subject, stream, real_tokens(subject, stream, side))
                found.append((_change(subject, stream, changes), f"{stream.ids}, {side} padding"))
    if not found:
        return [Row(name, SKIPPED, where="the model is causal, or reads no tokens")]
    figure, where = min(found)
    if figure > subject.tolerance:
        return [Row(name, PASSED, figure, subject.tolerance, "more is better")]
    told = f"{where}: a token's output does not change with the token after it"
    return [Row(name, FAILED, figure, subject.tolerance, told)]


def _change(subject: Subject, stream: Stream, changes: dict[str, Any]) -> float:
    ids = subject.inputs[stream.ids]
    # Real tokens on both sides, whichever side the padding is on.
    place = ids.shape[1] // 2
    other = ids.clone()
    other[:, place + 1] = subject.words(ids, 3)[:, place + 1]
    before = subject.outputs(stream, **changes)[:, place]
    after = subject.outputs(stream, **changes, **{stream.ids: other})[:, place]
    return min(difference(after[row], before[row]) for row in range(len(ids)))
