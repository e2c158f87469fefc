"""Programs and modes on disk, whichever it is.

Leaves to others: the form of a program's file (`ir`) and of a mode's (`mode`).
"""

import os

from regard.errors import FileError, InputError, no_program
from regard.ir import files, json_file
from regard.ir.program import AttentionProgram, program_of_file
from regard.modes.mode import Mode, save_mode


def save(what: AttentionProgram | Mode, path: str | os.PathLike) -> None:
    """Write a program or a mode to a file, in one step.

    Args:
        what: The program or mode.
        path: Where; a file there is replaced.

    Raises:
        FileError: If the file cannot be written.
        InputError: If it is neither.
    """
    if isinstance(what, Mode):
        save_mode(what, path)
    elif isinstance(what, AttentionProgram):
        files.save(what, path)
    else:
        raise InputError(f"rg.save writes a program or a mode, not {no_program(what)}")


def load(path: str | os.PathLike) -> AttentionProgram | Mode:
    """Read a program or a mode from a file; runs no code of it.

    Args:
        path: A file that `save` wrote.

    Returns:
        What the file holds.

    Raises:
        FileError: If the file cannot be read or holds neither; the message names file and place.
    """
    value = files.read_json(path)
    try:
        if isinstance(value, dict) and value.get("regard") == "mode":
            return Mode.from_dict(value)
        return program_of_file(*json_file.from_dict(value))
    except FileError as problem:
        raise FileError(f"{path}: {problem}") from None
