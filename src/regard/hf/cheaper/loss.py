"""What a changed model loses beside the original, piece by piece, with how sure that is.

Leaves to others: which pieces (`pieces`), and what follows from it (`run`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy
from transformers import PreTrainedModel

# Of a one-sided interval of 95 %.
_NORMAL = 1.6449
Metric = Callable[[PreTrainedModel, Tensor], float]


@dataclass(frozen=True)
class Loss:
    """What is lost.

    Attributes:
        mean: As a share: 0.01 is 1 %.
        upper: What it is at most, with 95 % confidence over pieces.
        was: The figure of the original by which a reader knows it, its perplexity or the metric;
            None for embeddings.
        now: The figure of the changed model.
    """

    mean: float
    upper: float
    was: float | None = None
    now: float | None = None

    def __str__(self) -> str:
        return f"{self.mean:.2%} (at most {self.upper:.2%})"


class Yardstick:
    """Compares a model with the original on pieces of text.

    Of a decoder the loss is how much its perplexity grows; of an encoder, how far the cosine of its
    mean embeddings with the original's is from 1; of a metric, which share of its mean is lost.

    Args:
        original: The original model.
        causal: Whether it is a decoder.
        metric: A score of a model on a piece (1, N), larger is better.
    """

    def __init__(self, original: PreTrainedModel, causal: bool, metric: Metric | None) -> None:
        self.original, self.metric = original, metric
        self.writes = causal and original.get_output_embeddings() is not None
        self._known: dict[tuple[int, ...], Tensor | float] = {}

    @property
    def what(self) -> str:
        """What is measured, in words."""
        if self.metric is not None:
            return "the share lost of the metric"
        if self.writes:
            return "growth of perplexity"
        return "1 - cosine with the original's embeddings"

    def loss(self, model: PreTrainedModel, pieces: Tensor) -> Loss:
        """Return what a model loses.

        Args:
            model: The model.
            pieces: (P, N).

        Returns:
            The loss.
        """
        both = [(self._of_original(ids), self._read(model, ids)) for ids in pieces]
        old = [float(one) for one, _ in both if not isinstance(one, Tensor)]
        new = [float(two) for _, two in both if not isinstance(two, Tensor)]
        if not old:
            return Loss(*_interval([
                1.0 - float(cosine_similarity(one, two, dim=0))
                for one, two in both
                if isinstance(one, Tensor) and isinstance(two, Tensor)
            ]))  # fmt: skip
        was, now = sum(old) / len(old), sum(new) / len(new)
        if self.metric is not None:
            mean, upper = _interval([one - two for one, two in zip(old, new, strict=True)])
            scale = abs(was) or 1.0
            return Loss(mean / scale, upper / scale, was, now)
        mean, upper = _interval([two - one for one, two in zip(old, new, strict=True)])
        return Loss(math.expm1(mean), math.expm1(upper), math.exp(was), math.exp(now))

    def _of_original(self, ids: Tensor) -> Tensor | float:
        key = tuple(ids.tolist())
        if key not in self._known:
            self._known[key] = self._read(self.original, ids)
        return self._known[key]

    @torch.no_grad()
    def _read(self, model: PreTrainedModel, ids: Tensor) -> Tensor | float:
        if self.metric is not None:
            return float(self.metric(model, ids[None]))
        if self.writes:
            logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
            return float(cross_entropy(logits.float(), ids[1:]))
        return model.base_model(input_ids=ids[None]).last_hidden_state[0].float().mean(0)


def _interval(values: list[float]) -> tuple[float, float]:
    """Return a mean, and its one-sided upper bound of 95 % by Student's t."""
    mean, free = sum(values) / len(values), len(values) - 1
    if not free:
        return mean, math.inf
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / free)
    # Fisher's expansion of Student's quantile (Abramowitz and Stegun 26.7.5), its first two terms.
    z = _NORMAL
    wide = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return mean, mean + wide * deviation / math.sqrt(len(values))
