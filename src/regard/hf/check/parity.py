"""Check that outputs and gradients are those of the model's eager attention."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from regard.hf.check.batch import numbers
from regard.hf.check.padded import SIDES, padded, real_tokens
from regard.hf.check.report import SKIPPED, Row, Worst
from regard.hf.check.subject import EAGER, Subject, difference, token_output

NAMES = ("eager outputs", "eager gradients")


def check_parity(subject: Subject) -> list[Row]:
    """Compare outputs, and the gradients of all weights, with those of eager attention.

    Args:
        subject: The model.

    Returns:
        A row for outputs and one for gradients.
    """
    if subject.is_eager or subject.has_mode:
        why = "eager attention itself" if subject.is_eager else "programs of a mode differ from it"
        return [Row(name, SKIPPED, where=why) for name in NAMES]
    outputs, gradients = Worst(), Worst()
    for told, changes in _ways(subject):
        found, slopes = _run(subject, changes)
        if not found:
            continue
        with subject.using(EAGER):
            expected, own_slopes = _run(subject, changes)
        for key, value in expected.items():
            outputs.add(difference(found[key], value), f"output '{key}', {told}")
        # Small gradients come of cancellation: each counts as a share of the largest of all.
        own_slopes = {key: one for key, one in own_slopes.items() if one.numel()}
        largest = max((float(one.abs().max()) for one in own_slopes.values()), default=1.0)
        for key, value in own_slopes.items():
            off = (slopes.get(key, torch.zeros_like(value)) - value).abs().max()
            gradients.add(float(off) / max(largest, 1e-30), f"weight '{key}', {told}")
    first, second = NAMES
    return [outputs.row(first, subject.tolerance), gradients.row(second, 5 * subject.tolerance)]


def _ways(subject: Subject) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "without padding", {}
    if subject.pictures:
        yield "with a picture", subject.pictures
    for stream in subject.streams:
        for side in SIDES if stream.mask is not None else ():
            mask = real_tokens(subject, stream, side)
            yield f"{stream.ids} padded on the {side}", padded(subject, stream, mask)


def _run(subject: Subject, changes: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a model's outputs, of real tokens alone, and the gradients of its weights."""
    weights = {key: one for key, one in subject.model.named_parameters() if one.requires_grad}
    found = subject.run(**changes)
    outputs = numbers(found)
    for stream in subject.streams:
        mask = changes.get(stream.mask or "")
        if mask is not None and not mask.all():
            told = token_output(found, stream, mask.shape[1])
            # What else there is may have been read off a padded position.
            outputs = {} if told is None else {stream.ids: told[mask.bool()]}
    drawn = torch.Generator().manual_seed(8)
    total = sum(
        (value * torch.randn(value.shape, generator=drawn).to(value)).sum()
        for value in outputs.values()
        if value.requires_grad
    )
    slopes: dict[str, Tensor] = {}
    if isinstance(total, Tensor):
        found_slopes = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        slopes = {
            key: one for key, one in zip(weights, found_slopes, strict=True) if one is not None
        }
    return {key: value.detach() for key, value in outputs.items()}, slopes
