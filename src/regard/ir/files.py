"""Programs on disk: written in one step, read within bounds, with the path in every message.

Leaves to others: what the text means (`json_file`), and modes.
"""

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from regard.errors import FileError
from regard.ir.json_file import from_dict
from regard.ir.program import AttentionProgram, program_of_file
from regard.ir.strict_json import MAX_TEXT, parse

# A character takes up to four bytes.
_MAX_BYTES = 4 * MAX_TEXT


def save(program: AttentionProgram, path: str | os.PathLike) -> None:
    """Write a program to a file.

    Args:
        program: The program.
        path: Where; a file there is replaced in one step, so no reader ever sees half of one.

    Raises:
        FileError: If the file cannot be written, or the program is larger than a file may be.
    """
    try:
        text = program.to_json()
    except FileError as problem:
        raise FileError(f"{path}: {problem}") from None
    write_text(text, path)


def load(path: str | os.PathLike) -> AttentionProgram:
    """Read a program from a file; runs no code of it.

    Args:
        path: A file that `save` wrote.

    Returns:
        The program.

    Raises:
        FileError: If the file cannot be read or is no program; the message names file and place.
    """
    value = read_json(path)
    try:
        return program_of_file(*from_dict(value))
    except FileError as problem:
        raise FileError(f"{path}: {problem}") from None


def read_json(path: str | os.PathLike) -> Any:
    """Read strict JSON from a file, whatever it describes.

    Args:
        path: A text file in UTF-8 of at most a million characters.

    Returns:
        The value.

    Raises:
        FileError: If the file cannot be read or is not strict JSON.
    """
    text = read_text(path)
    try:
        return parse(text)
    except FileError as problem:
        raise FileError(f"{path}: {problem}") from None


def read_text(path: str | os.PathLike) -> str:
    """Read a text file of bounded size.

    Args:
        path: A text file in UTF-8.

    Returns:
        The text.

    Raises:
        FileError: If the file cannot be read, is too large or no text.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as problem:
        raise FileError(f"{path}: {_reason(problem)}") from None
    if len(data) > _MAX_BYTES:
        raise FileError(f"{path}: more than {_MAX_BYTES} bytes; no file of Regard is that large")
    try:
        return data.decode()
    except UnicodeDecodeError as problem:
        raise FileError(f"{path}: byte {problem.start} is not text in UTF-8") from None


def write_text(text: str, path: str | os.PathLike) -> None:
    """Write a text file in one step.

    Args:
        text: What it will hold.
        path: Where; a link there is followed.

    Raises:
        FileError: If it cannot be written.
    """
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        with open(beside, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)
    except OSError as problem:
        raise FileError(f"{path}: {_reason(problem)}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(beside)


def _reason(problem: OSError) -> str:
    return (problem.strerror or str(problem)).lower()
