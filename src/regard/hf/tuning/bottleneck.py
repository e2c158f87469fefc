"""Bottleneck adapters: a small network after a sublayer, before the residual addition.

Leaves to others: where sublayers end (`structure`), saving and switching (PEFT).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from regard.errors import InputError, nearest
from regard.hf.tuning.layer import Adapter
from regard.hf.tuning.structure import find_ends, sizes
from regard.hf.tuning.tuner import AdapterConfig, Method, register

PLACEMENTS = ("houlsby", "pfeiffer")


@dataclass
class BottleneckConfig(AdapterConfig):
    """Bottleneck adapters in every layer.

    Attributes:
        placement: "houlsby", after attention and after the feed-forward block, or "pfeiffer",
            after the feed-forward block alone.
        width: How many numbers the bottleneck holds.
        activation: By transformers' name of it, e.g. "relu", "gelu" or "silu".

    Source: Houlsby et al. 2019 (arXiv 1902.00751), Pfeiffer et al. 2020 (arXiv 2005.00247).
    """

    placement: str = "houlsby"
    width: int = 64
    activation: str = "gelu"

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        self.peft_type = Method.BOTTLENECK
        if self.placement not in PLACEMENTS:
            raise InputError(
                f"'{self.placement}' is no placement of adapters; "
                f"{nearest(str(self.placement), PLACEMENTS)}"
            )
        if type(self.width) is not int or self.width < 1:
            raise InputError(f"width={self.width!r} of a bottleneck must be a number from 1")
        if self.activation not in ACT2FN:
            raise InputError(
                f"'{self.activation}' is no activation; {nearest(str(self.activation), ACT2FN)}"
            )

    def plan(self, model: PreTrainedModel) -> dict[str, Callable[[], Adapter]]:
        """Return which projections get an adapter, and how to make each.

        Args:
            model: The model.

        Returns:
            Makers by the projection's path.

        Raises:
            UnsupportedError: If the model's layers are not understood.
        """
        attention, forward = find_ends(model)
        paths = [*attention, *forward] if self.placement == "houlsby" else forward
        widths = {path: sizes(model.get_submodule(path))[1] for path in paths}
        return {
            path: partial(Bottleneck, width, self.width, self.activation)
            for path, width in widths.items()
        }


class Bottleneck(Adapter):
    """Adds up(activation(down(y))) to what a sublayer gives; nothing, at the start.

    Args:
        width: How many numbers the sublayer gives.
        inner: How many the bottleneck holds.
        activation: By transformers' name of it.
    """

    def __init__(self, width: int, inner: int, activation: str) -> None:
        super().__init__()
        start = nn.Linear(width, inner)
        self.down, self.down_bias = start.weight, start.bias
        self.up = nn.Parameter(torch.zeros(width, inner))
        self.up_bias = nn.Parameter(torch.zeros(width))
        self.activation = ACT2FN[activation]

    def forward(self, x: Tensor, result: Tensor) -> Tensor:
        """Return the sublayer's output with the adapter's added.

        Args:
            x: Not read.
            result: (..., width), what the sublayer gave.

        Returns:
            (..., width).
        """
        inner = functional.linear(result.to(self.down.dtype), self.down, self.down_bias)
        added = functional.linear(self.activation(inner), self.up, self.up_bias)
        return result + added.to(result.dtype)


register(Method.BOTTLENECK, BottleneckConfig)
