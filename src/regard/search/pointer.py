"""Where in a JSON value something is wrong, what, and what to do: answers a model can act on.

Before: "nodes[4].op: "sofmax" is no operator; did you mean …", in proposal 3.
After: /proposals/3/programs/own/nodes/4/op, the problem, the remedy.
Leaves to others: what is wrong (`read_program`, `proposals`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regard.errors import FileError, nearest
from regard.ir.json_fields import MAX_NAME
from regard.ir.strict_json import shown


@dataclass(frozen=True)
class Refusal(Exception):
    """Why a proposal is refused.

    Attributes:
        pointer: The place, as a JSON pointer (RFC 6901); "" is the whole text.
        problem: What is wrong.
        remedy: What to do.
    """

    pointer: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        place = self.pointer or "the whole text"
        return f"{place}: {self.problem}" + (f"; {self.remedy}" if self.remedy else "")

    def as_dict(self) -> dict[str, str]:
        """Return the same as plain data."""
        return {"pointer": self.pointer, "problem": self.problem, "remedy": self.remedy}


def point(pointer: str, key: str | int) -> str:
    """Return the pointer to a part of what a pointer points to."""
    return f"{pointer}/{str(key)[:MAX_NAME].replace('~', '~0').replace('/', '~1')}"


def refusal_of(pointer: str, problem: Exception) -> Refusal:
    """Return an error of inner code as a refusal: "what; what to do".

    Args:
        pointer: Where it happened.
        problem: The error.

    Returns:
        The refusal.
    """
    what, _, remedy = str(problem).partition("; ")
    return Refusal(pointer, what, remedy)


def refusal_at(pointer: str, problem: FileError) -> Refusal:
    """Return an error about a field as a refusal.

    Args:
        pointer: Of the object whose fields were read, under the place "".
        problem: The error; its message starts with the place inside the object, e.g. ".init.name".

    Returns:
        The refusal.
    """
    match = re.match(r"((?:\.\w+|\[\d+\])+): (.*)", str(problem), flags=re.DOTALL)
    if match is None:
        return refusal_of(pointer, problem)
    for key in re.findall(r"\w+", match[1]):
        pointer = point(pointer, key)
    return refusal_of(pointer, FileError(match[2]))


def check_object(
    value: Any, pointer: str, needed: tuple[str, ...], allowed: tuple[str, ...]
) -> Mapping[str, Any]:
    """Check that a JSON value is an object with some keys.

    Args:
        value: The value.
        pointer: Where it stands.
        needed: The keys it must have.
        allowed: The keys it may have beside.

    Returns:
        The object.

    Raises:
        Refusal: If it is none, or a key is missing or unknown.
    """
    if not isinstance(value, dict):
        keys = ", ".join((*needed, *allowed))
        raise Refusal(pointer, f"an object belongs here, not {shown(value)}", f"with keys {keys}")
    for key in value:
        if key not in needed and key not in allowed:
            hint = nearest(key[:MAX_NAME], (*needed, *allowed))
            raise Refusal(point(pointer, key), f"{shown(key)} is no key here", hint)
    for key in needed:
        if key not in value:
            raise Refusal(pointer, f"the key {shown(key)} is missing", f"add {shown(key)}")
    return value


def check_list(value: Any, pointer: str, most: int) -> list:
    """Return a JSON list that is not too long.

    Args:
        value: The value.
        pointer: Where it stands.
        most: The most items.

    Returns:
        The list.

    Raises:
        Refusal: If it is none, or longer.
    """
    if not isinstance(value, list):
        raise Refusal(pointer, f"a list belongs here, not {shown(value)}")
    if len(value) > most:
        raise Refusal(pointer, f"{len(value)} items", f"give at most {most}")
    return value
