"""Check that no output depends on a later token."""

from typing import Any

import torch

from regard.hf.check.padded import SIDES, padded, real_tokens
from regard.hf.check.report import Row, Worst
from regard.hf.check.subject import Stream, Subject, difference

NAMES = ("causality",)


def check_causality(subject: Subject) -> list[Row]:
    """Change the tokens from some place on, and compare the outputs before it.

    With a mask of ones, without one (implementations then rely on `is_causal`), and with padding.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    worst = Worst()
    with torch.no_grad():
        for stream in subject.streams:
            if not stream.causal:
                continue
            for told, changes in _ways(subject, stream):
                _compare(subject, stream, told, changes, worst)
    return [worst.row(name, subject.tolerance, "the model says that every token sees all others")]


def _ways(subject: Subject, stream: Stream) -> list[tuple[str, dict[str, Any]]]:
    ways: list[tuple[str, dict[str, Any]]] = [("", {})]
    if stream.mask is not None:
        ways.append((", without a mask", {stream.mask: None}))
        for side in SIDES:
            mask = real_tokens(subject, stream, side)
            ways.append((f", padded on the {side}", padded(subject, stream, mask)))
    return ways


def _compare(
    subject: Subject, stream: Stream, told: str, changes: dict[str, Any], worst: Worst
) -> None:
    ids = subject.inputs[stream.ids]
    mask = changes.get(stream.mask or "")
    before = subject.outputs(stream, **changes)
    length = ids.shape[1]
    for place in (1, length // 2, length - 1):
        other = ids.clone()
        other[:, place:] = subject.words(ids, place)[:, place:]
        after = subject.outputs(stream, **changes, **{stream.ids: other})
        # What a padded token says is nobody's concern.
        seen = torch.ones_like(ids) if mask is None else mask
        kept = seen[:, :place].bool()
        figure = difference(after[:, :place][kept], before[:, :place][kept])
        worst.add(figure, f"{stream.ids}: tokens before {place} change with tokens from it{told}")
