"""Check that hidden keys stay hidden, however large scores and biases are.

Scores that are hidden by a large negative number, rather than by leaving them out, come back when a
bias added after the mask, or the scores themselves, are larger still.
"""

from typing import Any

import torch
from torch import Tensor

from regard.hf.check.calls import Call, other_rows, reads
from regard.hf.check.padded import padded, real_tokens
from regard.hf.check.report import SKIPPED, Row, Worst
from regard.hf.check.subject import Subject, difference

NAMES = ("mask strength",)
# More than the finite numbers that implementations hide scores with, but for the smallest there is.
_LARGE = 1e5


def check_strength(subject: Subject) -> list[Row]:
    """Run attention functions with scores and biases 100 000 times as large.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    if subject.model.dtype not in (torch.float32, torch.float64):
        return [Row(name, SKIPPED, where=f"{subject.model.dtype} has no room for large scores")]
    changes: dict[str, Any] = {}
    for stream in subject.streams:
        if stream.mask is not None:
            changes |= padded(subject, stream, real_tokens(subject, stream, "right"))
    worst = Worst()
    for call in subject.calls(**changes):
        _check_call(call, worst)
    return [worst.row(name, subject.tolerance, "no key is hidden from any query")]


def _check_call(call: Call, worst: Worst) -> None:
    seen = reads(call)
    # Rows that see nothing may give anything; there "empty rows" looks.
    hidden = ~seen & seen.any(-1, keepdim=True)
    if not hidden.any():
        return
    large: dict[str, Any] = {"query": call.query * _LARGE}
    bias = call.options.get("position_bias")
    if isinstance(bias, Tensor):
        large["position_bias"] = bias + _LARGE * hidden[:, None].to(bias.dtype)
    with torch.no_grad():
        before = call.run(**large)
        for j in range(call.key.shape[2]):
            rows = hidden[:, :, j]
            if rows.any():
                other = other_rows(call.value, (slice(None), slice(None), j))
                after = call.run(**large, value=other)
                figure = difference(after[rows], before[rows])
                worst.add(figure, f"{call.path}: key {j} comes back where it is hidden")
