"""Check that what belongs to a head reaches that head alone, with grouped keys too."""

import torch
from torch import Tensor

from regard.hf.check.calls import Call, other_rows
from regard.hf.check.report import Row, Worst
from regard.hf.check.subject import Subject

NAMES = ("grouped heads",)


def check_heads(subject: Subject) -> list[Row]:
    """Change one key head, or one head's own numbers, and see which query heads change.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    worst = Worst()
    with torch.no_grad():
        for call in subject.calls(**subject.pictures):
            _check_call(call, worst)
    why = "the model asks transformers for no attention function"
    return [worst.row(name, subject.tolerance, why)]


def _check_call(call: Call, worst: Worst) -> None:
    before = call.run()
    heads, groups = call.query.shape[1], call.key.shape[1]
    if before.shape[2] != heads or heads % groups:
        return
    for group in range(groups):
        own = slice(group * (heads // groups), (group + 1) * (heads // groups))
        index = (slice(None), group)
        changed = call.run(key=other_rows(call.key, index), value=other_rows(call.value, index))
        _compare(before, changed, own, f"{call.path}: key head {group}", worst)
    for name, value, axis in _per_head(call, heads):
        for head in range(heads):
            other = value.clone()
            # Shifts of a whole row change no softmax, so numbers move apart.
            picked = other.select(axis, head)
            picked.add_(torch.linspace(1, 2, picked.numel(), device=value.device).view_as(picked))
            told = f"{call.path}: '{name}' of head {head}"
            after = call.run(**{name: other})
            # Eager functions may read it from the module instead; parity looks at that.
            if not torch.equal(after, before):
                _compare(before, after, slice(head, head + 1), told, worst)


def _per_head(call: Call, heads: int) -> list[tuple[str, Tensor, int]]:
    """Return arguments with numbers for each query head, and their axis of heads."""
    found = []
    for name in ("s_aux", "sinks", "position_bias"):
        value = call.options.get(name)
        if isinstance(value, Tensor):
            axis = 0 if value.dim() == 1 else 1
            if value.dim() > axis and value.shape[axis] == heads:
                found.append((name, value, axis))
    return found


def _compare(before: Tensor, after: Tensor, own: slice, told: str, worst: Worst) -> None:
    """Add how much other heads change; that its own heads do not is as bad as can be."""
    moved = (after - before).abs().amax(dim=(0, 1, 3))
    largest = before.abs().max().clamp_min(1e-30)
    inside = moved[own].clone()
    moved[own] = 0
    head = int(moved.argmax())
    worst.add(float(moved.max() / largest), f"{told} reaches query head {head}")
    if float(inside.min() / largest) < 1e-4:
        missed = (own.start or 0) + int(inside.argmin())
        worst.add(float("inf"), f"{told} does not reach query head {missed}")
