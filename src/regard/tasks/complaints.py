"""What is wrong with a task's settings, in our words, each with the place where it was written."""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ValidationError

from regard.errors import nearest
from regard.tasks.layers import EXTENDS, part_of
from regard.tasks.yaml_file import Key


def complain(
    problem: ValidationError, schema: type[BaseModel], origins: Mapping[Key, str], file: str
) -> Iterator[str]:
    """Yield what pydantic found, one line a problem.

    Args:
        problem: What it raised.
        schema: What was validated.
        origins: Where each key was written.
        file: What to name for a key that was not.

    Yields:
        Lines that name a file and line, or the command line, and the key.
    """
    for error in problem.errors():
        # A union adds the names of its members to the place.
        members = ("str", "int", "float", "[key]")
        place = tuple(str(part) for part in error["loc"] if str(part) not in members)
        dotted = ".".join(place)
        if error["type"] == "extra_forbidden":
            known = _fields_at(place[:-1], schema)
            message = f"{dotted} is not a setting; {nearest(place[-1], known)}"
        elif error["type"] == "missing":
            message = f"{dotted} is missing"
        elif error["type"] == "value_error":
            message = f"{dotted}: {error['msg'].removeprefix('Value error, ')}"
        elif error["type"] == "model_type":
            known = _fields_at(place, schema)
            message = f"{dotted}: should have parts, found {error['input']!r}; {nearest('', known)}"
        else:
            wanted = error["msg"].replace("Input should", "should").replace("String", "text")
            wanted = wanted.replace("a valid integer", "a whole number").replace("valid ", "")
            message = f"{dotted}: {wanted}, found {error['input']!r}"
        yield f"{_origin(place, origins, file)}: {message}"


def _origin(place: Key, origins: Mapping[Key, str], file: str) -> str:
    for length in range(len(place), 0, -1):
        if place[:length] in origins:
            return origins[place[:length]]
    return file


def _fields_at(place: Key, schema: type[BaseModel]) -> list[str]:
    """Return the settings that the part of a task file at this place has."""
    part: type[BaseModel] | None = schema
    for name in place:
        # A number is the place in a list of parts.
        if part is not None and not name.isdigit():
            part = part_of(part.model_fields[name].annotation)
    if part is None:
        return []
    return [*part.model_fields, *([] if place else [EXTENDS])]
