"""The tuner that puts this package's adapters into a model, and its registration with PEFT.

PEFT's registry is keyed by the type that a configuration names; its own function for adding to it
takes PEFT's names alone, so entries are made beside them. Leaves to others: the layer (`layer`).
"""

import abc
import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from peft import PeftConfig
from peft.mapping import (
    PEFT_TYPE_TO_CONFIG_MAPPING,
    PEFT_TYPE_TO_PREFIX_MAPPING,
    PEFT_TYPE_TO_TUNER_MAPPING,
)
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel

from regard.errors import UnsupportedError
from regard.hf.tuning.layer import PREFIX, Adapted, Adapter


class Method(enum.StrEnum):
    """The methods this package adds to PEFT's, by the name that stands in adapter_config.json."""

    BOTTLENECK = "REGARD_BOTTLENECK"
    HEAD_LORA = "REGARD_HEAD_LORA"


@dataclass
class AdapterConfig(PeftConfig, abc.ABC):
    """What the configurations of both methods share.

    Attributes:
        modules_to_save: Names of further modules that are trained in full and saved with the
            adapter, e.g. a classifier, or `LayerNorm`.
    """

    modules_to_save: list[str] | None = None
    # PEFT reads it; modules are found by structure here.
    target_modules: ClassVar[None] = None

    @abc.abstractmethod
    def plan(self, model: PreTrainedModel) -> dict[str, Callable[[], Adapter]]:
        """Return which projections get an adapter, and how to make each.

        Args:
            model: The model.

        Returns:
            Makers by the projection's path.
        """


class AdapterTuner(BaseTuner):
    """Puts adapters beside projections; PEFT makes one when it meets a configuration of ours."""

    prefix = PREFIX
    tuner_layer_cls = Adapted

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict) -> Any:
        self._planned = peft_config.plan(self.model)
        return peft_config

    def _check_target_module_exists(self, peft_config: Any, key: str) -> bool:  # type: ignore[override]
        return key in self._planned

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        layer = target if isinstance(target, Adapted) else Adapted(target, adapter_name)
        layer.train(target.training)
        layer.add(adapter_name, self._planned[current_key](), frozen=peft_config.inference_mode)
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        # What was trained in full may be any module, without a weight to be carried over.
        if isinstance(child, ModulesToSaveWrapper):
            setattr(parent, child_name, new_module)
        else:
            super()._replace_module(parent, child_name, new_module, child)

    def _check_merge_allowed(self) -> None:
        """Refuse before anything is merged: half a merged model helps nobody."""
        super()._check_merge_allowed()
        for name in self.active_adapters:
            config = cast(AdapterConfig, self.peft_config[name])
            if config.peft_type == Method.BOTTLENECK:
                raise UnsupportedError(
                    f"adapter '{name}' is a bottleneck, which is not linear, so it cannot be "
                    "merged into a projection; keep it, or take it out with unload()"
                )


def register(method: Method, config: type[AdapterConfig]) -> None:
    """Tell PEFT of a method.

    Args:
        method: The method.
        config: Its configuration.
    """
    PEFT_TYPE_TO_CONFIG_MAPPING[method] = config  # type: ignore[index]
    PEFT_TYPE_TO_TUNER_MAPPING[method] = AdapterTuner  # type: ignore[index]
    PEFT_TYPE_TO_PREFIX_MAPPING[method] = PREFIX  # type: ignore[index]
