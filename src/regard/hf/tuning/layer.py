"""A projection with adapters beside it, as PEFT's machinery knows it.

PEFT switches, disables, merges, casts, saves and loads what stands here. Leaves to others: what an
adapter computes (`bottleneck`, `heads`), where it is put (`tuner`).
"""

import abc
import warnings
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from regard.errors import UnsupportedError
from regard.hf.tuning.structure import sizes

# The name under which adapters stand in a layer; in their files it marks their parameters.
PREFIX = "regard_adapter"


class Adapter(nn.Module, abc.ABC):
    """What is put beside a projection; its parameters stand in it directly."""

    @abc.abstractmethod
    def forward(self, x: Tensor, result: Tensor) -> Tensor:
        """Return the adapted output of the projection.

        Args:
            x: (..., inputs), what the projection read.
            result: (..., outputs), what it gave.

        Returns:
            (..., outputs), of the dtype of `result`.
        """

    def change(self) -> Tensor:
        """Return what merging adds to the projection's weight.

        Returns:
            (outputs, inputs).

        Raises:
            UnsupportedError: If the adapter is no linear map of what the projection reads.
        """
        raise UnsupportedError(
            f"a {type(self).__name__} is not linear, so it cannot be merged into a projection; "
            "keep it, or take it out with unload()"
        )


class Adapted(nn.Module, BaseTunerLayer):
    """A projection with adapters by name, of which the active ones run.

    Args:
        base_layer: The projection.
        name: The name of its first adapter.
    """

    adapter_layer_names = (PREFIX,)

    def __init__(self, base_layer: nn.Module, name: str) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.regard_adapter = nn.ModuleDict()
        self._active_adapter = name
        self.merged_adapters = []

    @property
    def in_features(self) -> int:
        """How many numbers the projection reads; others ask a projection for it."""
        return sizes(self)[0]

    @property
    def out_features(self) -> int:
        """How many numbers it gives."""
        return sizes(self)[1]

    def add(self, name: str, adapter: Adapter, *, frozen: bool) -> None:
        """Put an adapter beside the projection.

        Args:
            name: Its name.
            adapter: The adapter.
            frozen: Whether it is only used, not trained.
        """
        self.regard_adapter[name] = adapter.train(self.training)
        self._move_adapter_to_device_of_base_layer(name)
        self.set_adapter(self.active_adapters, inference_mode=frozen)

    def forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        """Run the projection and the active adapters.

        Args:
            x: (..., inputs).
            *args: For the projection.
            **options: For the projection.

        Returns:
            (..., outputs).
        """
        if self.disable_adapters and self.merged:
            self.unmerge()
        result = self.base_layer(x, *args, **options)
        if self.disable_adapters or self.merged:
            return result
        for name in self.active_adapters:
            if name in self.regard_adapter:
                result = self.regard_adapter[name](x, result)
        return result

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add adapters to the projection's own weight.

        Args:
            safe_merge: Whether to refuse a weight that is not finite.
            adapter_names: Which ones; the active ones unless given.

        Raises:
            UnsupportedError: If an adapter is not linear.
            ValueError: If `safe_merge` is given and a number is not finite.
        """
        for name in check_adapters_to_merge(self, adapter_names):
            if name not in self.regard_adapter:
                continue
            weight = self._weight_with(name, 1.0)
            if safe_merge and not torch.isfinite(weight).all():
                raise ValueError(f"adapter '{name}' holds numbers that are not finite")
            self.get_base_layer().weight.data = weight
            self.merged_adapters.append(name)

    def unmerge(self) -> None:
        """Take merged adapters out of the projection's weight again."""
        if not self.merged:
            warnings.warn("no adapter is merged", stacklevel=2)
        while self.merged_adapters:
            self.get_base_layer().weight.data = self._weight_with(self.merged_adapters.pop(), -1.0)

    def _weight_with(self, name: str, factor: float) -> Tensor:
        base = self.get_base_layer()
        weight = cast(Tensor, base.weight)
        change = cast(Adapter, self.regard_adapter[name]).change().detach()
        if isinstance(base, Conv1D):
            change = change.T
        return (weight.data + factor * change).to(weight.dtype)
