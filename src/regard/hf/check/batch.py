"""Check that the rows of a batch know nothing of one another."""

from typing import Any

import torch

from regard.hf.check.report import Row, Worst
from regard.hf.check.subject import Subject, difference

NAMES = ("batch independence",)


def check_batch(subject: Subject) -> list[Row]:
    """Compare every row of the batch with the same row alone.

    Args:
        subject: The model.

    Returns:
        One row.
    """
    (name,) = NAMES
    worst, inputs = Worst(), {**subject.inputs, **subject.pictures}
    with torch.no_grad():
        together = numbers(subject.run(**inputs))
        for place in range(len(next(iter(inputs.values())))):
            own = {key: value[place : place + 1] for key, value in inputs.items()}
            for key, value in numbers(subject.run(**own)).items():
                whole = together[key]
                # What compares the rows with one another, as CLIP's logits do, is about the batch.
                if value.shape[:1] == (1,) and whole.shape[1:] == value.shape[1:]:
                    figure = difference(value, whole[place : place + 1])
                    worst.add(figure, f"row {place} of the batch, output '{key}'")
    return [worst.row(name, subject.tolerance)]


def numbers(found: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a model's output that hold real numbers.

    Args:
        found: What the model returned.

    Returns:
        Tensors by name; not the cache.
    """
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.dim() > 0
    }
