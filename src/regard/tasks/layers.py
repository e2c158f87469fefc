"""A task's settings from its layers: the files it extends, the file itself, the command line.

What a later layer says replaces what an earlier one says of the same key; parts are merged.
Leaves to others: what the keys mean (`kinds`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel

from regard.errors import RegardError, TaskError, located
from regard.tasks.settings import Paths
from regard.tasks.yaml_file import Key, parse_value, read_yaml

EXTENDS = "extends"
COMMAND_LINE = "command line"


@dataclass
class Layer:
    """What one place says.

    Attributes:
        values: Its settings.
        folder: What its paths are relative to.
        origins: Where each key was written, for messages.
    """

    values: dict[str, Any]
    folder: Path
    origins: dict[Key, str] = field(default_factory=dict)


def read_layers(place: Path, overrides: Sequence[str] = ()) -> list[Layer]:
    """Return the layers of a task, the most basic first.

    Args:
        place: The task file.
        overrides: Settings such as "training.steps=100", whose paths are relative to the folder
            one is in.

    Returns:
        One layer for each file and each override.

    Raises:
        TaskError: If a file cannot be read, files extend each other in a circle, or an override has
            no meaning.
    """
    return [*_read_files(place, []), *map(_read_override, overrides)]


def _read_files(place: Path, below: list[Path]) -> Iterator[Layer]:
    here = place.absolute()
    if here.resolve() in [path.resolve() for path in below]:
        circle = " extends ".join(path.name for path in [*below, here])
        raise TaskError(f"{below[-1]}: {EXTENDS} goes in a circle: {circle}; break it")
    try:
        values, lines = read_yaml(place)
    except RegardError as problem:
        raise (located(problem, f"{below[-1]}: {EXTENDS}") if below else problem) from None
    origins = {key: f"{place}, line {line}" for key, line in lines.items()}
    base = values.pop(EXTENDS, None)
    if base is not None:
        if not isinstance(base, str):
            raise TaskError(
                f"{origins[EXTENDS,]}: {EXTENDS} should be the path of a task file, found {base!r}"
            )
        yield from _read_files(place.parent / Path(base).expanduser(), [*below, here])
    yield Layer(values, here.parent, origins)


def _read_override(text: str) -> Layer:
    name, equals, value = text.partition("=")
    key = tuple(name.strip().split("."))
    if not equals or not all(key):
        raise TaskError(f"{COMMAND_LINE}: '{text}' should be KEY=VALUE, such as training.steps=100")
    if key == (EXTENDS,):
        raise TaskError(f"{COMMAND_LINE}: {EXTENDS} stands in a task file alone")
    try:
        parsed = parse_value(value)
    except TaskError as problem:
        raise located(problem, f"{COMMAND_LINE}: {name}") from None
    for part in reversed(key):
        parsed = {part: parsed}
    origins = {key[: length + 1]: COMMAND_LINE for length in range(len(key))}
    return Layer(parsed, Path.cwd(), {key: COMMAND_LINE, **origins})


def merge_layers(layers: Sequence[Layer], schema: type[BaseModel]) -> Layer:
    """Return what all layers say together.

    Args:
        layers: The most basic first.
        schema: Knows which settings are paths; they become absolute.

    Returns:
        One layer.

    Raises:
        TaskError: If an override leads into a setting that has no parts.
    """
    values: dict[str, Any] = {}
    origins: dict[Key, str] = {}
    for layer in layers:
        _merge(values, _with_paths(layer.values, schema, layer.folder), layer, ())
        origins |= layer.origins
    return Layer(_without_taken_back(values, schema), layers[-1].folder, origins)


def _merge(into: dict[str, Any], values: dict[str, Any], layer: Layer, key: Key) -> None:
    for name, value in values.items():
        before, inner = into.get(name), (*key, str(name))
        if isinstance(before, dict) and isinstance(value, dict):
            _merge(before, value, layer, inner)
        elif before is not None and isinstance(value, dict) and COMMAND_LINE in _origins_of(layer):
            raise TaskError(
                f"{COMMAND_LINE}: {'.'.join(inner)} is {before!r}; it has no parts to set"
            )
        else:
            into[name] = value


def _without_taken_back(values: dict[str, Any], schema: type[BaseModel]) -> dict[str, Any]:
    """Return settings without those that a later layer took back by null."""
    found = dict(values)
    for name, info in schema.model_fields.items():
        value, inner = found.get(name), part_of(info.annotation)
        means_something = info.is_required() or NoneType in get_args(info.annotation)
        if name in found and value is None and not means_something:
            del found[name]
        elif inner is not None and isinstance(value, dict):
            found[name] = _without_taken_back(value, inner)
    return found


def _origins_of(layer: Layer) -> set[str]:
    return set(layer.origins.values())


def _with_paths(values: dict[str, Any], schema: type[BaseModel], folder: Path) -> dict[str, Any]:
    """Return settings with absolute paths."""
    found = dict(values)
    for name, info in schema.model_fields.items():
        value = values.get(name)
        inner = part_of(info.annotation)
        if value is None:
            continue
        if marks := [mark for mark in info.metadata if isinstance(mark, Paths)]:
            found[name] = marks[0].resolve(value, folder)
        elif inner is not None and isinstance(value, dict):
            found[name] = _with_paths(value, inner, folder)
    return found


def part_of(annotation: Any) -> type[BaseModel] | None:
    """Return the schema of a setting that has parts.

    Args:
        annotation: The type of the setting.

    Returns:
        A model, also where None may stand in its place; None if it has no parts.
    """
    candidates = (annotation, *get_args(annotation))
    models = (x for x in candidates if isinstance(x, type) and issubclass(x, BaseModel))
    return next(models, None)
