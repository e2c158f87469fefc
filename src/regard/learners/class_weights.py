"""What errors in each label count: listed in the task, or balanced by how often labels occur.

Leaves to others: the loss they weigh (`learner`).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from regard.errors import TaskError, nearest
from regard.learners.batches import IGNORED, Example

BALANCED = "balanced"


def check_class_weights(setting: str | Mapping[str, float] | None, labels: Sequence[str]) -> None:
    """Refuse weights of labels that do not occur.

    Args:
        setting: `training.class_weights` of a task.
        labels: All labels or tags of its data.

    Raises:
        TaskError: If the task has no labels, or not this one.
    """
    if setting is None:
        return
    if not labels:
        raise TaskError("training.class_weights: a task of this kind has no labels; delete it")
    for label in () if isinstance(setting, str) else setting:
        if label not in labels:
            raise TaskError(
                f"training.class_weights: '{label}' is no label of the data; "
                f"{nearest(label, labels)}"
            )


def class_weights(
    setting: str | Mapping[str, float] | None, labels: Sequence[str], examples: Sequence[Example]
) -> Tensor | None:
    """Return the weight of each label.

    Args:
        setting: None; "balanced": n / (C · n_c), so that all C labels weigh alike in the training
            rows, and an example weighs 1 in the mean; or weights, 1 where a label is not listed.
        labels: All labels or tags, in the order of the model's outputs.
        examples: The training examples.

    Returns:
        float32 (C,), or None. A label that is never trained on weighs 0 when balanced.
    """
    if setting is None:
        return None
    if not isinstance(setting, str):
        return torch.tensor([float(setting.get(label, 1.0)) for label in labels])
    learned = torch.cat([torch.tensor(example["labels"]).flatten() for example in examples])
    counts = torch.bincount(learned[learned != IGNORED], minlength=len(labels)).float()
    present = counts > 0
    weights = counts.sum() / (present.sum() * counts.clamp(min=1))
    return torch.where(present, weights, 0.0)
