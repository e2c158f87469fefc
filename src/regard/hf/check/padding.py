"""Check that padding never matters: not what it holds, not that it is there."""

from typing import Any

import torch
from torch import Tensor

from regard.hf.check.padded import PADDING, SIDES, counts_positions, padded, real_tokens
from regard.hf.check.report import Row, Worst
from regard.hf.check.subject import Stream, Subject, difference

NAMES = ("right padding", "left padding")


def check_padding(subject: Subject) -> list[Row]:
    """Change what padded positions hold; then compare the padded row with the row alone.

    Args:
        subject: The model.

    Returns:
        A row for padding on the right, and one for padding on the left.
    """
    rows = []
    for side in SIDES:
        worst = Worst()
        with torch.no_grad():
            for stream in subject.streams:
                if stream.mask is not None:
                    _check_side(subject, stream, side, worst)
        rows.append(worst.row(f"{side} padding", subject.tolerance, "no tokens can be padded"))
    return rows


def _check_side(subject: Subject, stream: Stream, side: str, worst: Worst) -> None:
    mask = real_tokens(subject, stream, side)
    ids, changes = subject.inputs[stream.ids], padded(subject, stream, mask)
    other = torch.where(mask.bool(), ids, subject.words(ids, 4))
    before, after = (
        subject.outputs(stream, **changes, **{stream.ids: tokens}) for tokens in (ids, other)
    )
    real = mask.bool()
    told = f"{stream.ids}: what padding holds changes real tokens"
    worst.add(difference(after[real], before[real]), told)
    if stream.output == "encoder":
        _check_decoder(subject, changes, other, worst)
    counted = stream.causal and stream.ids == "input_ids" and counts_positions(subject)
    if side == "right" or counted:
        alone = _alone(subject, stream, side, changes)
        figure = difference(before[-1][real[-1]], alone)
        worst.add(figure, f"{stream.ids}: a padded row is not what it is alone")


def _check_decoder(subject: Subject, changes: dict[str, Any], other: Tensor, worst: Worst) -> None:
    """Compare what the decoder makes of other padding of the source."""
    target = next(stream for stream in subject.streams if stream.ids != "input_ids")
    before = subject.outputs(target, **changes)
    after = subject.outputs(target, **changes, input_ids=other)
    told = "decoder_input_ids: what padding of the source holds changes the decoder"
    worst.add(difference(after, before), told)


def _alone(subject: Subject, stream: Stream, side: str, changes: dict[str, Any]) -> Tensor:
    """Return the outputs of the last row without its padding."""
    kept = slice(None, -PADDING) if side == "right" else slice(PADDING, None)
    alone: dict[str, Any] = {name: value[-1:] for name, value in subject.inputs.items()}
    alone[stream.ids] = subject.inputs[stream.ids][-1:, kept]
    for name, value in changes.items():
        alone[name] = value[-1:, kept]
    return subject.outputs(stream, **alone)[0]
