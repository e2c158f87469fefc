"""YAML as task files have it: plain values, and the line each was written on.

As in YAML 1.2, `no` is a word and `2e-3` a number; a key that is given twice is an error.
Leaves to others: what the keys mean (`kinds`), which file a task extends (`layers`).
"""

import re
from pathlib import Path
from typing import Any

import yaml

from regard.errors import TaskError

# Where a setting stands, such as ("training", "steps").
Key = tuple[str, ...]


class _Loader(yaml.SafeLoader):
    """Reads words as words."""


_Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag.rpartition(":")[2] not in ("bool", "int", "float", "timestamp")
    ]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _name, _pattern, _letters in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_name}", re.compile(f"(?:{_pattern})$"), list(_letters)
    )


def _whole_number(loader: yaml.SafeLoader, node: Any) -> int:
    return int(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def read_yaml(place: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """Read a task file.

    Args:
        place: The file.

    Returns:
        Its values, and the line of each key.

    Raises:
        TaskError: If it cannot be read or is no YAML with keys; the message names the line.
    """
    try:
        text = place.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TaskError(f"{place}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise TaskError(f"{place}: cannot be read ({problem})") from None
    try:
        value, node = _parse(text)
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise TaskError(
            f"{place}{where}: this is not YAML ({getattr(problem, 'problem', problem)})"
        ) from None
    if not isinstance(value, dict):
        raise TaskError(f"{place}: a task file starts with `task:` and its kind")
    lines: dict[Key, int] = {}
    _note_lines(place, node, (), lines)
    return value, lines


def parse_value(text: str) -> Any:
    """Return a value as a task file would read it.

    Args:
        text: What stands behind a key.

    Returns:
        A number, a truth value, None, a text, a list or a dictionary.

    Raises:
        TaskError: If it is no YAML.
    """
    try:
        return _parse(text)[0]
    except yaml.YAMLError as problem:
        raise TaskError(f"this is not YAML ({getattr(problem, 'problem', problem)})") from None


def _parse(text: str) -> tuple[Any, yaml.Node | None]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), node
    except (ValueError, RecursionError) as problem:
        raise yaml.YAMLError(str(problem)) from None
    finally:
        loader.dispose()


def _note_lines(place: Path, node: yaml.Node | None, key: Key, lines: dict[Key, int]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for name, value in node.value:
        inner = (*key, str(name.value))
        line = name.start_mark.line + 1
        if inner in lines and name.tag != "tag:yaml.org,2002:merge":
            raise TaskError(
                f"{place}, line {line}: {'.'.join(inner)} stands on line {lines[inner]} already; "
                "delete one"
            )
        lines[inner] = line
        _note_lines(place, value, inner, lines)
