"""Cognitive modes: programs assigned to the attention of a whole model, held as data."""

from regard.modes.mode import ROLES, Assignment, Mode, load_mode, save_mode

__all__ = ["ROLES", "Assignment", "Mode", "load_mode", "save_mode"]
