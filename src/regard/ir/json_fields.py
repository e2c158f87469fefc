"""How each field of a node is written as JSON and read back, by its type in the grammar.

Leaves to others: nodes and whole programs (`json_file`), and JSON itself (`strict_json`).
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from regard.errors import FileError, nearest
from regard.ir import nodes as n
from regard.ir.strict_json import shown

MAX_NAME = 200
MAX_ITEMS = 64


class Field(NamedTuple):
    """One type of field.

    Attributes:
        write: Takes the value and the number of every node; returns JSON.
        read: Takes JSON, its place and the nodes so far; returns the value or raises FileError.
    """

    write: Callable[[Any, dict[n.Node, int]], Any]
    read: Callable[[Any, str, Sequence[n.Node]], Any]


def check_keys(value: Any, keys: Sequence[str], place: str) -> dict[str, Any]:
    """Check that a JSON value is an object with exactly these keys.

    Args:
        value: A JSON value.
        keys: The keys, all of which are required.
        place: Where it stands, "" for the whole file.

    Returns:
        The object.

    Raises:
        FileError: If it is something else.
    """
    dot = f"{place}." if place else ""
    if not isinstance(value, dict):
        raise FileError(f"{place or 'line 1'}: an object belongs here, not {shown(value)}")
    for key in value:
        if key not in keys:
            hint = nearest(key[:MAX_NAME], keys)
            raise FileError(f"{place or 'line 1'}: {shown(key)} is no key here; {hint}")
    for key in keys:
        if key not in value:
            raise FileError(f"{dot}{key}: missing")
    return value


def read_int(value: Any, place: str) -> int:
    """Return a whole number of a file."""
    if type(value) is not int:
        raise FileError(f"{place}: a whole number belongs here, not {shown(value)}")
    return value


def read_text(value: Any, place: str, longest: int = MAX_NAME) -> str:
    """Return text of a file."""
    if not isinstance(value, str):
        raise FileError(f"{place}: text belongs here, not {shown(value)}")
    if len(value) > longest:
        raise FileError(f"{place}: {len(value)} characters; at most {longest} fit")
    return value


def read_name(value: Any, place: str) -> str:
    """Return text of a file that stands on one line."""
    if not read_text(value, place).isprintable():
        raise FileError(f"{place}: {shown(value)} holds characters that cannot be shown")
    return value


def read_list(value: Any, place: str) -> list:
    """Return a short list of a file."""
    if not isinstance(value, list):
        raise FileError(f"{place}: a list belongs here, not {shown(value)}")
    if len(value) > MAX_ITEMS:
        raise FileError(f"{place}: {len(value)} items; at most {MAX_ITEMS} fit")
    return value


def _read_bool(value: Any, place: str) -> bool:
    if type(value) is not bool:
        raise FileError(f"{place}: true or false belongs here, not {shown(value)}")
    return value


def _write_constant(value: bool | int | float) -> Any:
    # JSON has no infinity.
    infinite = isinstance(value, float) and math.isinf(value)
    return {"float": str(value)} if infinite else value


def _read_constant(value: Any, place: str) -> bool | int | float:
    if isinstance(value, dict):
        word = check_keys(value, ("float",), place)["float"]
        if word not in ("inf", "-inf"):
            raise FileError(f'{place}.float: {shown(word)} is neither "inf" nor "-inf"')
        return float(word)
    if not isinstance(value, bool | int | float):
        raise FileError(f"{place}: a number or a truth value belongs here, not {shown(value)}")
    return value


def _read_number(value: Any, place: str) -> int | float:
    if isinstance(value, bool):
        raise FileError(f"{place}: a number belongs here, not {shown(value)}")
    return _read_constant(value, place)


def _read_axis(value: Any, place: str) -> str | int:
    return read_name(value, place) if isinstance(value, str) else read_int(value, place)


def _write_init(init: n.Init) -> dict[str, Any]:
    return {"name": init.name, "numbers": [_write_constant(number) for number in init.numbers]}


def _read_init(value: Any, place: str) -> n.Init:
    fields = check_keys(value, ("name", "numbers"), place)
    numbers = read_list(fields["numbers"], f"{place}.numbers")
    places = [f"{place}.numbers[{number}]" for number in range(len(numbers))]
    return n.Init(
        read_name(fields["name"], f"{place}.name"), tuple(map(_read_number, numbers, places))
    )


def _read_reference(value: Any, place: str, made: Sequence[n.Node]) -> n.Node:
    if not 0 <= read_int(value, place) < len(made):
        raise FileError(f"{place}: {value} is no earlier node; there are {len(made)} before this")
    return made[value]


def _read_array(value: Any, place: str, made: Sequence[n.Node]) -> n.Array:
    node = _read_reference(value, place, made)
    if not isinstance(node, n.Array):
        found = type(node).__name__
        raise FileError(f"{place}: an Array belongs here, but node {value} is of type {found}")
    return node


def _plain(read: Callable[[Any, str], Any], write: Callable[[Any], Any] | None = None) -> Field:
    return Field(
        lambda value, numbers: write(value) if write else value,
        lambda value, place, made: read(value, place),
    )


def _optional(field: Field) -> Field:
    return Field(
        lambda value, numbers: None if value is None else field.write(value, numbers),
        lambda value, place, made: None if value is None else field.read(value, place, made),
    )


def _many(field: Field) -> Field:
    def read(value: Any, place: str, made: Sequence[n.Node]) -> tuple:
        items = enumerate(read_list(value, place))
        return tuple(field.read(item, f"{place}[{number}]", made) for number, item in items)

    return Field(lambda value, numbers: [field.write(item, numbers) for item in value], read)


_REFERENCE = Field(lambda node, numbers: numbers[node], _read_reference)
FIELDS: dict[Any, Field] = {
    str: _plain(read_name),
    int: _plain(read_int),
    bool: _plain(_read_bool),
    int | None: _optional(_plain(read_int)),
    bool | int | float: _plain(_read_constant, _write_constant),
    float | None: _optional(_plain(_read_number, _write_constant)),
    tuple[str | int, ...]: _many(_plain(_read_axis)),
    n.Init | None: _optional(_plain(_read_init, _write_init)),
    n.Node: _REFERENCE,
    n.Node | None: _optional(_REFERENCE),
    n.Array: _REFERENCE._replace(read=_read_array),
    tuple[n.Node, ...]: _many(_REFERENCE),
}
