"""The mode that a person names: a ready one, a file, or a program for every role that admits it.

Leaves to others: what it is worth.
"""

from collections.abc import Mapping
from pathlib import Path

from regard.catalogue import VARIANTS
from regard.catalogue.find_program import load_program, names_variant
from regard.errors import InputError, nearest
from regard.ir.program import AttentionProgram
from regard.modes import READY, Assignment, Mode
from regard.modes.files import load
from regard.search.admit import find_faults
from regard.search.space import Space


def find_mode(reference: str, space: Space) -> Mode:
    """Return the mode that a reference names.

    Args:
        reference: The name of a ready mode, a mode's .json file, or a program: a name of the
            catalogue, file.py:name or a .json file, which runs in every role that admits it.
        space: The places of the model.

    Returns:
        The mode, for the roles of the model.

    Raises:
        RegardError: If the reference leads nowhere, or to what nothing of the model admits.
    """
    if reference in READY:
        return _ready_mode(reference, space)
    if reference.endswith(".json"):
        loaded = load(reference)
        return loaded if isinstance(loaded, Mode) else _mode_of(loaded, reference, space)
    name = reference.partition("(")[0].strip()
    if names_variant(reference) and name not in VARIANTS:
        known: Mapping[str, object] = {**READY, **VARIANTS}
        hint = nearest(name, known).partition("known: ")[0].strip()
        raise InputError(
            f"there is no mode '{reference}'; {hint + ' ' if hint else ''}`regard modes` lists "
            "ready modes and `regard catalogue` programs; a mode's file ends in .json"
        )
    return _mode_of(load_program(reference), reference, space)


def _ready_mode(name: str, space: Space) -> Mode:
    ready = READY[name]
    roles = [role for role in space.roles if role in ready.programs]
    if not roles:
        raise InputError(
            f"mode {name} has nothing for this model: it speaks to {', '.join(ready.programs)}, "
            f"and the model has {', '.join(space.roles)}"
        )
    return ready(*roles)


def _mode_of(program: AttentionProgram, reference: str, space: Space) -> Mode:
    """Return a program as a mode of every role that admits it."""
    faults = {role: find_faults(program.root, role, space) for role in space.roles}
    admitted = [role for role, found in faults.items() if not found]
    if not admitted:
        why = "; ".join(f"{role}: {found[0]}" for role, found in faults.items())
        raise InputError(f"'{reference}' can run nowhere in this model: {why}")
    name = Path(reference).stem if reference.endswith(".json") else program.name
    return Mode(name, reference, [Assignment(role, program) for role in admitted])
