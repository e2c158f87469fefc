"""Dropout inside attention while a model is trained: of weights, and of whole heads.

Leaves to others: where attention is (`places`), its projections (`tuning.structure`).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from regard.errors import InputError, UnsupportedError
from regard.hf.places import find_places
from regard.hf.tuning.structure import find_output

# What an attention module may call the probability it passes on, by the code of its forward.
_NAMES = ("attention_dropout", "attn_dropout", "dropout_prob", "dropout", "dropout_p")


class HeadDropout:
    """Drops heads before the projection that joins them, while that is trained.

    Each sequence draws its own heads: the H factors of one sequence are 0 or H / (heads kept), so
    they sum to H, and the mean of each is 1. A draw that keeps none keeps one head of all instead.
    Draws come from torch's generator of the CPU, which a checkpoint holds.

    Source: Zhou et al. 2020 (arXiv 2004.13342), algorithm 1; there a draw holds for a whole batch.
    """

    def __init__(self, heads: int, probability: float) -> None:
        """Remember how many.

        Args:
            heads: H.
            probability: Of dropping a head.
        """
        self.heads, self.probability = heads, probability

    def __call__(self, projection: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Scale what the projection reads.

        Args:
            projection: The module about to run.
            args: Its inputs, the first (B, …, H · E).

        Returns:
            Its inputs with heads dropped, or None outside of training.
        """
        if not projection.training:
            return None
        joined, *rest = args
        factors = self.draw(joined.shape[0]).to(joined)
        factors = factors.view(-1, *[1] * (joined.dim() - 2), self.heads, 1)
        heads = joined.unflatten(-1, (self.heads, -1))
        return (heads * factors).flatten(-2), *rest

    def draw(self, rows: int) -> Tensor:
        """Return the factors of some sequences.

        Args:
            rows: How many.

        Returns:
            float32 (rows, H).
        """
        kept = torch.rand(rows, self.heads) >= self.probability
        alone = torch.nn.functional.one_hot(torch.randint(self.heads, (rows,)), self.heads).bool()
        kept = torch.where(kept.any(1, keepdim=True), kept, alone)
        return kept * (self.heads / kept.sum(1, keepdim=True))


def drop_heads(model: PreTrainedModel, probability: float) -> list[RemovableHandle]:
    """Drop whole heads of every attention of a model while it is trained, programmed or not.

    Args:
        model: The model.
        probability: Of dropping a head, from 0 to below 1.

    Returns:
        Handles, whose `remove()` ends it.

    Raises:
        InputError: If the probability is none.
        UnsupportedError: If attention of the model, or the projection after it, is not found.
    """
    _check(probability)
    found = []
    for path, (_, place) in find_places(model).items():
        output = find_output(model, place)
        if output is None:
            raise UnsupportedError(
                f"{path}: the projection that joins its heads is not found, so heads cannot be "
                "dropped; set head_dropout to 0"
            )
        found.append((place.heads, model.get_submodule(output)))
    return [
        projection.register_forward_pre_hook(HeadDropout(heads, probability))
        for heads, projection in found
    ]


def set_attention_dropout(model: PreTrainedModel, probability: float) -> None:
    """Set the probability of dropping an attention weight, in every attention of a model.

    Args:
        model: The model.
        probability: From 0 to below 1.

    Raises:
        InputError: If the probability is none.
        UnsupportedError: If an attention module has no dropout of its weights.
    """
    _check(probability)
    found = []
    for path, (module, _) in find_places(model).items():
        name = _dropout_of(module)
        if name is None:
            raise UnsupportedError(
                f"{path} ({type(module).__name__}) has no dropout of attention weights; "
                "delete attention_dropout"
            )
        found.append((module, name))
    for module, name in found:
        own = getattr(module, name)
        if isinstance(own, nn.Dropout):
            own.p = probability
        else:
            setattr(module, name, probability)


def _dropout_of(module: nn.Module) -> str | None:
    """Return the attribute that an attention module's forward reads its dropout from."""
    read = type(module).forward.__code__.co_names
    for name in _NAMES:
        if name in read and isinstance(getattr(module, name, None), float | int | nn.Dropout):
            return name
    return None


def _check(probability: float) -> None:
    if not 0 <= probability < 1:
        raise InputError(f"the probability {probability!r} must be from 0 to below 1")
