"""Terms of the loss that say what attention should do, from what is observed in its kernels.

Leaves to others: observing (`hf`), what a task file may ask (`tasks`), the loop (`trainer`).
"""

import contextlib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from regard import hf
from regard.errors import RegardError, located
from regard.hf.observe import Observing
from regard.hf.seen import Seen
from regard.learners.guides import GUIDES, keys_of, rows_of
from regard.learners.learner import Learner
from regard.tasks.attention_settings import Regulariser
from regard.train.record import TERM

# A weight below this counts as this, so that one that is 0 has a logarithm.
_LEAST = 1e-9


class Regularisers:
    """The terms of a run; false if there are none."""

    def __init__(self, learner: Learner, model: PreTrainedModel) -> None:
        """Check that each term can be observed in the model.

        Args:
            learner: Of the task, which says what the terms are.
            model: The model.

        Raises:
            InputError: If the model lacks the role, a layer or a head, or its programs have none of
                what is to be observed; the message names the term.
            UnsupportedError: If the model's attention cannot be reached.
        """
        self.model, self.terms = model, learner.task.attention.regularise
        self._classes = token_classes(learner.tokenizer) if self.terms else {}
        self._sums: dict[str, Tensor] = {}
        self._steps = 0.0
        nowhere = torch.zeros(1, 1, 1)
        for place, term in enumerate(self.terms):
            try:
                self._observing(term, _observed(term), nowhere)
            except RegardError as problem:
                raise located(problem, f"attention.regularise.{place} ({term.term})") from None

    def __bool__(self) -> bool:
        return bool(self.terms)

    def _observing(self, term: Regulariser, name: str, feature: Tensor) -> Observing:
        features = {str(term.tokens): feature} if name.startswith("mass:") else {}
        return hf.observe(
            self.model, [name], layers=term.layers, heads=term.heads, role=term.role, **features
        )

    @contextlib.contextmanager
    def watch(self, batch: Mapping[str, Any], share: float = 1.0) -> Iterator["Watch"]:
        """Observe the model while it is called for a batch.

        Args:
            batch: What it is called with, its labels and guides included.
            share: The part of a step that the batch is.

        Yields:
            What was observed; its `add` is called after the model.
        """
        kept: dict[tuple[str, str | None], Tensor] = {}
        with contextlib.ExitStack() as stack:
            seen = []
            for term in self.terms:
                key = (str(term.tokens), term.role)
                # Blocks within each other share the feature of one name.
                if term.tokens is not None and key not in kept:
                    kept[key] = self._feature(term.tokens, keys_of(batch, term.role))
                name = _observed(term, rows_of(batch, term.role))
                seen.append(stack.enter_context(self._observing(term, name, kept.get(key, _NONE))))
            yield Watch(self, list(zip(self.terms, seen, strict=True)), batch, share)

    def _feature(self, tokens: str, keys: Tensor) -> Tensor:
        """Return which keys are meant, (B, 1, M)."""
        if tokens == "first":
            meant = torch.zeros_like(keys, dtype=torch.float32)
            meant[:, 0] = 1.0
        else:
            meant = self._classes[tokens].to(keys.device)[keys].to(torch.float32)
        return meant[:, None]

    def keep(self, values: Mapping[str, Tensor], share: float) -> None:
        """Keep values until they are logged.

        Args:
            values: Scalars by name.
            share: The part of a step they are of.
        """
        for name, value in values.items():
            before = self._sums.get(name, torch.zeros((), device=value.device))
            self._sums[name] = before + value.detach()
        self._steps += share

    def means(self) -> dict[str, float]:
        """Return the means of what was kept, over steps, and forget it."""
        found = {name: value.item() / self._steps for name, value in self._sums.items()}
        self._sums, self._steps = {}, 0.0
        return found


_NONE = torch.zeros(0)


@dataclass(frozen=True)
class Watch:
    """What was observed while a model was called for a batch.

    Attributes:
        owner: Keeps the values.
        seen: What was observed, by term.
        batch: What the model was called with.
        share: The part of a step that the batch is.
    """

    owner: Regularisers
    seen: Sequence[tuple[Regulariser, Seen]]
    batch: Mapping[str, Any] = field(repr=False)
    share: float

    def add(self, loss: Tensor) -> Tensor:
        """Return a loss with all terms, and keep each for the log.

        Args:
            loss: Of the task, a scalar.

        Returns:
            The loss plus each term times its weight and the batch's share of a step.
        """
        values = {"loss": loss.detach()}
        for term, seen in self.seen:
            value = value_of(term, seen, self.batch) * self.share
            values[TERM + term.known_as] = value
            loss = loss + term.weight * value
        self.owner.keep(values, self.share)
        return loss


def value_of(term: Regulariser, seen: Seen, batch: Mapping[str, Any]) -> Tensor:
    """Return the value of a term, before its weight.

    Args:
        term: The term.
        seen: What was observed for it, in any number of passes.
        batch: What the model was called with.

    Returns:
        A scalar: the mean over query rows that are no padding, rows with a guide for an agreement,
        over heads, layers and passes.
    """
    (name,) = seen.names
    layers = [layer for one in seen.passes for layer in one[name]]
    rows = rows_of(batch, term.role)
    if term.term == "agreement":
        guide = batch[GUIDES][str(term.to)]
        if name == "received":
            layers = [one[:, :, None] / rows.shape[1] for one in layers]
        elif guide.shape[1] == 1:
            layers = [mean_received(one, rows) for one in layers]
        return torch.stack([agreement(one, guide) for one in layers]).mean()
    if term.within is not None:
        layers = [mass_within(one, term.within) for one in layers]
    return torch.stack([_mean(_sought(term, one), rows) for one in layers]).mean()


def _sought(term: Regulariser, values: Tensor) -> Tensor:
    if isinstance(term.goal, float):
        return (values - term.goal).square()
    return -values if term.goal == "maximise" else values


def _mean(values: Tensor, rows: Tensor) -> Tensor:
    """Return the mean over the rows that are there; values (B, H, N), rows bool (B, N)."""
    there = rows[:, None]
    # Rows of padding may hold anything, so they are no factor.
    total = values.masked_fill(~there, 0.0).sum()
    return total / (rows.sum() * values.shape[1]).clamp_min(1)


def mass_within(weights: Tensor, reach: int) -> Tensor:
    """Return the weight of keys near each query.

    Args:
        weights: (B, H, N, M).
        reach: The largest distance, in tokens.

    Returns:
        (B, H, N).
    """
    queries, keys = weights.shape[-2:]
    apart = torch.arange(queries)[:, None] - torch.arange(keys)
    near = (apart.abs() <= reach).to(weights.device)
    return weights.masked_fill(~near, 0.0).sum(-1)


def mean_received(weights: Tensor, rows: Tensor) -> Tensor:
    """Return what keys receive from the queries that are no padding.

    Args:
        weights: (B, H, N, M).
        rows: bool (B, N).

    Returns:
        (B, H, 1, M), the mean over these queries.
    """
    there = weights.masked_fill(~rows[:, None, :, None], 0.0)
    return there.sum(2, keepdim=True) / rows.sum(1)[:, None, None, None]


def agreement(weights: Tensor, guide: Tensor) -> Tensor:
    """Return the cross-entropy of attention and what it is said to be.

    Args:
        weights: (B, H, N, M).
        guide: (B, N, M); rows that say nothing are 0.

    Returns:
        -Σ_j g_j log w_j, averaged over the guide's rows that say something, and over heads; 0 if
        none does.
    """
    guide = guide.to(weights.device, weights.dtype)
    missing = -(guide[:, None] * weights.clamp_min(_LEAST).log()).sum(-1)
    return _mean(missing, guide.sum(-1) > 0)


def _observed(term: Regulariser, rows: Tensor | None = None) -> str:
    """Return the name that the term is observed by, for a batch with such query rows."""
    if term.term == "agreement" and term.to != "alignment" and rows is not None and rows.all():
        # Where no query is padding, what keys receive needs no dense weights.
        return "received"
    if term.term == "agreement" or term.within is not None:
        return "weights"
    return term.term if term.tokens is None else f"mass:{term.tokens}"


def token_classes(tokenizer: PreTrainedTokenizerBase) -> dict[str, Tensor]:
    """Return which tokens are of which class.

    Args:
        tokenizer: Of the model.

    Returns:
        bool (V,) by class: `special` tokens, and `punctuation`, which has no letter and no digit.
    """
    words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = set(tokenizer.all_special_ids)
    return {
        "special": torch.tensor([number in special for number in range(len(words))]),
        "punctuation": torch.tensor(
            [number not in special and _is_punctuation(word) for number, word in enumerate(words)]
        ),
    }


def _is_punctuation(token: str) -> bool:
    # What tokenizers mark blanks and inner subwords with.
    bare = token.replace("▁", "").replace("Ġ", "").removeprefix("##")
    return bool(bare) and all(unicodedata.category(letter)[0] in "PS" for letter in bare)
