"""Cognitive modes: programs assigned to the attention of a whole model, held as data."""

import importlib
from typing import Any

from regard.modes.mode import ROLES, Assignment, Mode, load_mode, save_mode

# Ready modes stand on the catalogue, which `import regard` does without: they come when asked for.
_LATER = {
    "READY": "collection",
    "ReadyMode": "ready",
    "find": "collection",
    "suggest": "suggestions",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'regard.modes' has no attribute '{name}'")
    return getattr(importlib.import_module(f"regard.modes.{_LATER[name]}"), name)


__all__ = ["ROLES", "Assignment", "Mode", "load_mode", "save_mode", *_LATER]  # pyright: ignore
