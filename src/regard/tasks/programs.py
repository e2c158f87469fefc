"""The mode a task names: a mode's file, or a program for each role.

Leaves to others: what a mode is (`modes`), finding a program (`lang`), putting a mode into a model
(`hf`).
"""

from pathlib import Path

from regard.catalogue.find_program import load_program
from regard.errors import RegardError, located
from regard.modes import READY, Mode, load_mode


def build_mode(setting: str | dict[str, str] | None) -> Mode | None:
    """Return the mode that a task's `mode` names.

    Args:
        setting: None, the path of a mode's .json file, or for each role a ready mode's name or a
            reference to a program.

    Returns:
        The mode, or None for the model's own attention.

    Raises:
        RegardError: If a reference leads nowhere, or to what is no mode or no program.
    """
    if setting is None:
        return None
    if isinstance(setting, str):
        return load_mode(setting)
    programs = {}
    for role, reference in setting.items():
        try:
            if reference in READY:
                programs[role] = READY[reference](role).assignments[0].program
            else:
                programs[role] = load_program(reference)
        except RegardError as problem:
            raise located(problem, f"mode.{role}") from None
    named = ", ".join(f"{role}: {Path(text).name}" for role, text in setting.items())
    return Mode("task", named, **programs)
