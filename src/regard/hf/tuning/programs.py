"""Programs' own parameters beside an adapter: one set of them for each adapter.

PEFT's wrapper for modules trained in full does most of it. Leaves to others: the programs
(`nn.programmed`), what else an adapter holds (PEFT, `layer`).
"""

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

from peft import PeftConfig
from peft.utils import ModulesToSaveWrapper
from torch import nn

from regard.modes.mode import Mode, save_mode

MODE_FILE = "mode.json"
NAME = "regard"


class TrainedPrograms(ModulesToSaveWrapper):
    """An attention module's programs with a copy for each adapter, which is trained instead.

    PEFT's own wrapper gives back the copy whether or not an adapter is merged; here, unloading
    without merging gives back the programs as they were.
    """

    # Unloading copies the attribute; programs have none.
    weight = None

    def unload_and_optionally_merge_module(
        self, merge: bool, safe_merge: bool, adapter_names: list[str] | None
    ) -> nn.Module:
        """Return what stays in the model.

        Args:
            merge: Whether the adapter's programs stay, or the original ones.
            safe_merge: For PEFT's own.
            adapter_names: For PEFT's own.

        Returns:
            The programs.
        """
        if not merge:
            return self.original_module
        return super().unload_and_optionally_merge_module(merge, safe_merge, adapter_names)


def have_parameters(model: nn.Module) -> bool:
    """Return whether a model's programs have parameters to train.

    Args:
        model: The model, without adapters.

    Returns:
        True if they do.
    """
    return any(NAME in path.split(".") for path, _ in model.named_parameters())


def keep_originals(model: nn.Module) -> None:
    """Make PEFT's wrappers of programs give back the originals when they are unloaded.

    Args:
        model: A model with adapters.
    """
    for path, module in model.named_modules():
        if path.rpartition(".")[2] == NAME and type(module) is ModulesToSaveWrapper:
            module.__class__ = TrainedPrograms


class _Recorded:
    """What an adapter's folder says of the model the adapter was made for."""

    regard_mode: Mode | None
    regard_base: dict[str, Any]
    auto_mapping: dict | None

    def save_pretrained(self, save_directory: str, **options: Any) -> None:
        """Write adapter_config.json, and mode.json beside it."""
        mapping = options.pop("auto_mapping_dict", None) or self.auto_mapping or {}
        options["auto_mapping_dict"] = {**mapping, NAME: self.regard_base}
        super().save_pretrained(save_directory, **options)  # type: ignore[misc]
        path = Path(save_directory) / MODE_FILE
        if self.regard_mode is not None:
            save_mode(self.regard_mode, path)
        elif path.exists():
            path.unlink()

    def __reduce__(self) -> tuple:
        """Pickle without the class, which is made when it is needed."""
        return _restored, (type(self).__mro__[2], dict(self.__dict__))


@lru_cache(maxsize=64)
def _recorded_type(kind: type) -> type:
    return type(kind.__name__, (_Recorded, kind), {"__module__": kind.__module__})


def _restored(kind: type, values: dict[str, Any]) -> Any:
    made = object.__new__(_recorded_type(kind))
    made.__dict__.update(values)
    return made


def recorded(config: PeftConfig, mode: Mode | None, base: dict[str, Any]) -> PeftConfig:
    """Return a copy of a configuration that writes down which model it was made for.

    Args:
        config: The configuration.
        mode: The mode that the model runs.
        base: What else is known of the model; plain data.

    Returns:
        The copy.
    """
    kind = type(config)
    if issubclass(kind, _Recorded):
        kind = kind.__mro__[2]
    values = {**copy.deepcopy(config.__dict__), "regard_mode": mode, "regard_base": base}
    return _restored(kind, values)
