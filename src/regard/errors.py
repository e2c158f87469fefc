"""Every error a user can meet. Each says what is wrong, where, what was found and what to do.

Inner code raises; the border that knows the place (a line, a file, a tensor) adds it once with
`located`. Leaves to others: the facts of each message.
"""

import difflib
from collections.abc import Iterable


class RegardError(Exception):
    """The base of all errors that Regard raises on purpose."""


class ProgramError(RegardError):
    """An attention program says something that has no meaning."""


class InputError(RegardError):
    """A tensor, number or option given to a call does not fit the program or the other inputs."""


class UnsupportedError(RegardError):
    """The chosen backend cannot run this program; the message gives the reason."""


class FileError(RegardError):
    """A file is not what it claims to be; the message names the place inside it."""


class DataError(RegardError):
    """Training or evaluation data cannot be used as it is."""


class TaskError(RegardError):
    """A task file or a run folder asks for something that cannot be done."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint that names the nearest known name, or lists what is known.

    Args:
        name: What was written.
        known: The names that would have been understood.

    Returns:
        One line without a full stop, e.g. "did you mean 'queries'? known: q, k, i, j".
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    listed = "known: " + ", ".join(names) if names else "there is none"
    return f"did you mean '{close[0]}'? {listed}" if close else listed


def no_program(found: object) -> str:
    """Return what was found where a program belongs, and how it leads to one.

    Args:
        found: What was given.

    Returns:
        One line without a full stop.
    """
    if hasattr(found, "program"):
        return f"{found!r}, whose program is its .program"
    if isinstance(found, str):
        return f"{found!r}; of a name of the catalogue, rg.catalogue.find(name).program is one"
    return repr(found)


def located(error: RegardError, place: str) -> RegardError:
    """Return the same kind of error with the place in front of its message.

    Args:
        error: The error raised by inner code.
        place: Where it happened, e.g. "nodes[3]" or "local_alibi, line 3".

    Returns:
        A new error of the same class.
    """
    return type(error)(f"{place}: {error}")
