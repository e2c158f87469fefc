"""What is wrong with a task's settings, in our words, each with the place where it was written."""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from regard.errors import nearest
from regard.tasks.layers import EXTENDS
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
        inside = tuple(
            str(part)
            for part in error["loc"]
            if str(part) not in members and not str(part).startswith(("list[", "function-"))
        )
        place = (*_without_kind(inside), *error.get("ctx", {}).get("key", ()))
        dotted = ".".join(place)
        if error["type"] == "extra_forbidden":
            known = _fields_at(inside[:-1], schema)
            message = f"{dotted} is not a setting; {nearest(place[-1], known)}"
        elif error["type"] == "missing":
            message = f"{dotted} is missing"
        elif error["type"] in ("union_tag_invalid", "union_tag_not_found"):
            message = f"{dotted}: {_wrong_member(error.get('ctx', {}))}"
        elif error["type"] in ("value_error", "misplaced"):
            message = f"{dotted}: {error['msg'].removeprefix('Value error, ')}"
        elif error["type"] == "model_type":
            known = _fields_at(inside, schema)
            message = f"{dotted}: should have parts, found {error['input']!r}; {nearest('', known)}"
        else:
            wanted = error["msg"].replace("Input should", "should").replace("String", "text")
            wanted = wanted.replace("a valid integer", "a whole number").replace("valid ", "")
            message = f"{dotted}: {wanted}, found {error['input']!r}"
        yield f"{_origin(place, origins, file)}: {message}"


def _without_kind(place: Key) -> Key:
    """Return a place as it is written: behind a task of a joint one pydantic names its kind."""
    return (*place[:2], *place[3:]) if place[:1] == ("tasks",) else place


def _origin(place: Key, origins: Mapping[Key, str], file: str) -> str:
    for length in range(len(place), 0, -1):
        if place[:length] in origins:
            return origins[place[:length]]
    return file


def _wrong_member(context: Mapping[str, Any]) -> str:
    """Say of a union by kinds, such as the layers of a head, that a kind is missing or unknown."""
    key = context["discriminator"].strip("'")
    if "tag" not in context:
        return f"{key} is missing"
    known = [one.strip("' ") for one in context["expected_tags"].split(",")]
    return f"there is no {key} '{context['tag']}'; {nearest(context['tag'], known)}"


def _fields_at(place: Key, schema: type[BaseModel]) -> list[str]:
    """Return the settings that the part of a task file at this place has."""
    parts = [schema]
    for name in place:
        chosen = [part for part in parts if name in _kinds_of(part)]
        fields = [part.model_fields[name] for part in parts if name in part.model_fields]
        # What names an item of a list or a mapping, or the kind of one of a union, leads no
        # further in.
        if chosen or not fields:
            parts = chosen or parts
            continue
        parts = [part for field in fields for part in _parts_in(field.annotation)]
    found = dict.fromkeys(name for part in parts for name in part.model_fields)
    return [*found, *([] if place else [EXTENDS])]


def _parts_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the schemas that a setting may be made of, those of its items too."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts_in(inner)


def _kinds_of(part: type[BaseModel]) -> tuple[str, ...]:
    """Return by which kind a union knows a schema."""
    field = part.model_fields.get("layer") or part.model_fields.get("task")
    return () if field is None else get_args(field.annotation)
