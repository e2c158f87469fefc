"""Cognitive modes: programs assigned to the attention of a whole model, held as data."""

from regard.modes.collection import READY, find
from regard.modes.mode import ROLES, Assignment, Mode, load_mode, save_mode
from regard.modes.ready import ReadyMode
from regard.modes.suggest import suggest

__all__ = [
    "READY", "ROLES", "Assignment", "Mode", "ReadyMode", "find", "load_mode", "save_mode",
    "suggest",
]  # fmt: skip
