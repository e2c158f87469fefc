"""R-Drop: two passes under different dropout, whose answers are drawn towards each other.

Both passes run as one batch of twice the rows, so dropout differs row by row. Source: Liang et al.
2021 (arXiv 2106.14448), equations 2 to 4; the two cross-entropies are averaged, as in the authors'
code, so that the learning rate keeps its meaning. Leaves to others: the cross-entropy (`learners`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from regard.errors import TaskError
from regard.learners import Learner
from regard.learners.batches import IGNORED

Loss = Callable[..., Tensor]


def check_r_drop(learner: Learner) -> None:
    """Refuse R-Drop where the answers of two passes are no probabilities of labels.

    Args:
        learner: Of the task.

    Raises:
        TaskError: If the task asks for it and its loss is no cross-entropy.
    """
    if learner.task.training.r_drop and type(learner).loss is not Learner.loss:
        raise TaskError(
            "training.r_drop: it compares probabilities of labels, and the loss of a task of the "
            f"kind {learner.task.task} is another; delete it"
        )


def twice(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch followed by itself.

    Args:
        inputs: Tensors (B, …) by name, or such inputs again; what is neither stays.

    Returns:
        Tensors (2B, …).
    """
    return {name: _doubled(value) for name, value in inputs.items()}


def _doubled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return twice(value)
    return torch.cat([value, value]) if isinstance(value, Tensor) and value.dim() else value


class RDrop:
    """A loss over a batch that was run twice: its mean, and α times what the passes differ by."""

    def __init__(self, loss: Loss, alpha: float) -> None:
        """Remember the parts.

        Args:
            loss: Of outputs and labels, as the trainer calls it.
            alpha: Weight of the divergence.
        """
        self.loss, self.alpha = loss, alpha

    def __call__(self, outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
        """Return the loss.

        Args:
            outputs: With `logits` (2B, …, C): the batch and then the batch again.
            labels: (2B, …), `IGNORED` where nothing is to be learned.
            num_items_in_batch: Labels to be learned of the whole update, each counted once; None:
                those of this batch.

        Returns:
            A scalar.
        """
        items = labels.ne(IGNORED).sum() / 2 if num_items_in_batch is None else num_items_in_batch
        learned = self.loss(outputs, labels, num_items_in_batch=2 * items)
        return learned + self.alpha * divergence(outputs.logits, labels) / items


def divergence(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how far the passes are apart: ½ (KL(p ‖ q) + KL(q ‖ p)), over what is to be learned.

    Args:
        logits: (2B, …, C).
        labels: (2B, …).

    Returns:
        A sum over the labels of one pass, a scalar.
    """
    first, second = logits.float().log_softmax(-1).chunk(2)
    # KL(p ‖ q) + KL(q ‖ p) = Σ (p − q) (log p − log q)
    apart = ((first.exp() - second.exp()) * (first - second)).sum(-1)
    return 0.5 * apart.masked_fill(labels.chunk(2)[0] == IGNORED, 0.0).sum()
