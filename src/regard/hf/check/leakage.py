"""Check that no gradient reaches a token that the output may not depend on.

An output may keep to the past while its gradient does not, where a backward pass is written apart
from its forward pass.
"""

from typing import Any

import torch
from torch import Tensor

from regard.hf.check.padded import SIDES, padded, real_tokens
from regard.hf.check.report import Row, Worst
from regard.hf.check.subject import Stream, Subject, embedded

NAMES = ("gradient leakage",)


def check_leakage(subject: Subject) -> list[Row]:
    """Take the gradient of outputs by the embedded tokens, and look at later and padded ones.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    worst = Worst()
    for stream in subject.streams:
        length = subject.inputs[stream.ids].shape[1]
        if stream.causal:
            for place in (1, length // 2, length - 1):
                hidden = torch.zeros_like(subject.inputs[stream.ids], dtype=torch.bool)
                hidden[:, place:] = True
                where = f"{stream.ids}: outputs before token {place}, tokens from it"
                _look(subject, stream, {}, ~hidden, hidden, where, worst)
        for side in SIDES if stream.mask is not None else ():
            mask = real_tokens(subject, stream, side)
            where = f"{stream.ids}: outputs of real tokens, padding on the {side}"
            changes = padded(subject, stream, mask)
            _look(subject, stream, changes, mask.bool(), mask == 0, where, worst)
    return [worst.row(name, subject.tolerance, "the model reads no tokens")]


def _look(
    subject: Subject, stream: Stream, changes: dict[str, Any],
    outputs: Tensor, hidden: Tensor, where: str, worst: Worst,
) -> None:  # fmt: skip
    """Add the largest gradient of some outputs by hidden tokens, as a share of the largest one."""
    with embedded(subject.model, subject.inputs[stream.ids]) as leaves:
        found = subject.outputs(stream, **changes)
    if not leaves:
        return
    drawn = torch.Generator(device=found.device).manual_seed(7)
    weights = torch.randn(found.shape, generator=drawn, device=found.device, dtype=torch.float32)
    total = (found * weights.to(found.dtype))[outputs].sum()
    for gradient in torch.autograd.grad(total, leaves):
        largest = gradient.abs().max().clamp_min(1e-30)
        worst.add(float(gradient[hidden].abs().max() / largest), where)
