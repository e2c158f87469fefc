"""Programs of a proposal, read within bounds: nodes written inside each other, or by number.

Before: {"node": "Softmax", "score": {"node": "Call", …}}, without fields that are null.
After: the node, verified. Nothing is called that the text names. Leaves to others: JSON itself
(`ir/strict_json`), the fields (`ir/json_fields`), programs' demands (`admit`).
"""

import dataclasses
import functools
import types
from collections.abc import Mapping
from typing import Any, cast, get_args

from regard.errors import FileError, ProgramError, RegardError, nearest
from regard.ir import nodes as n
from regard.ir.json_fields import FIELDS, MAX_ITEMS, MAX_NAME
from regard.ir.operators import OPERATORS
from regard.ir.strict_json import shown
from regard.ir.verify import verify, verify_program
from regard.search.pointer import (
    Refusal,
    check_list,
    check_object,
    point,
    refusal_at,
    refusal_of,
)

_SINGLE = (n.Node, n.Node | None, n.Array)
_MANY = tuple[n.Node, ...]
TERMS = (n.Softmax, n.Weigh, n.Ratio, n.Entmax)


@functools.cache
def fields_of(kind: type[n.Node]) -> dict[str, Any]:
    """Return the fields of a node and their types, in the order of the grammar."""
    return {field.name: field.type for field in dataclasses.fields(kind)}


def may_be_left_out(kind: type[n.Node], name: str) -> bool:
    """Tell whether a proposal need not write a field.

    Args:
        kind: The node.
        name: The field.

    Returns:
        True of fields that may be null, of those with a default, and of names of terms.
    """
    if issubclass(kind, TERMS) and name == "name":
        return True
    field = kind.__dataclass_fields__[name]
    return _nullable(field.type) or field.default is not dataclasses.MISSING


def _nullable(type_: Any) -> bool:
    return isinstance(type_, types.UnionType) and type(None) in get_args(type_)


def read_graph(value: Mapping[str, Any], pointer: str, most_nodes: int) -> n.Output:
    """Read a program: the keys "output", and "nodes" that are referred to by number.

    Args:
        value: An object with these keys.
        pointer: Where it stands.
        most_nodes: The most nodes, counted as they are written.

    Returns:
        The program.

    Raises:
        Refusal: If anything is wrong.
    """
    reader = _Reader(most_nodes)
    place = point(pointer, "nodes")
    for number, item in enumerate(check_list(value.get("nodes", []), place, most_nodes)):
        reader.listed.append(reader.read(item, point(place, number)))
    place = point(pointer, "output")
    root = reader.reference(value["output"], place)
    try:
        verify_program(root)
    except ProgramError as problem:
        raise refusal_of(place, problem) from None
    assert isinstance(root, n.Output)
    return root


class _Reader:
    def __init__(self, most_nodes: int) -> None:
        self.listed: list[n.Node] = []
        self.most, self.count, self.terms = most_nodes, 0, 0

    def reference(self, value: Any, pointer: str) -> n.Node:
        """Return a node that is written here, or the number of one of the list."""
        if isinstance(value, dict):
            return self.read(value, pointer)
        if type(value) is not int:
            hint = 'write {"node": …}, or the number of an earlier item of "nodes"'
            if isinstance(value, float | bool):
                hint = f'write {{"node": "Const", "value": {shown(value)}}}'
            raise Refusal(pointer, f"a node belongs here, not {shown(value)}", hint)
        if not 0 <= value < len(self.listed):
            problem = f'{value} is no earlier item of the list "nodes"'
            hint = (
                f"there are {len(self.listed)} before this, counted from 0; a number as such is "
                f'{{"node": "Const", "value": {value}}}'
            )
            raise Refusal(pointer, problem, hint)
        return self.listed[value]

    def read(self, value: Any, pointer: str) -> n.Node:
        """Return a node."""
        self.count += 1
        if self.count > self.most:
            raise Refusal(pointer, f"more than {self.most} nodes", "write the program shorter")
        if not isinstance(value, dict) or not isinstance(value.get("node"), str):
            hint = 'such as {"node": "Const", "value": 2}'
            raise Refusal(pointer, 'an object with a text "node" belongs here', hint)
        kind = n.NODE_TYPES.get(value["node"])
        if kind is None:
            hint = nearest(value["node"][:MAX_NAME], n.NODE_TYPES)
            raise Refusal(point(pointer, "node"), f"{shown(value['node'])} is no node", hint)
        fields = fields_of(kind)
        optional = tuple(name for name in fields if may_be_left_out(kind, name))
        needed = tuple(name for name in fields if name not in optional)
        check_object(value, pointer, ("node", *needed), optional)
        given = {
            name: self.field(value[name], type_, pointer, name)
            for name, type_ in fields.items()
            if name in value
        }
        return self.make(kind, given, pointer)

    def field(self, value: Any, type_: Any, pointer: str, name: str) -> Any:
        """Return the value of a field."""
        place = point(pointer, name)
        if type_ == _MANY:
            items = enumerate(check_list(value, place, MAX_ITEMS))
            return tuple(self.reference(item, point(place, number)) for number, item in items)
        if type_ in _SINGLE:
            if value is None and _nullable(type_):
                return None
            node = self.reference(value, place)
            if type_ is n.Array and not isinstance(node, n.Array):
                problem = f"an Array belongs here, not a node of type {type(node).__name__}"
                raise Refusal(place, problem)
            return node
        try:
            return FIELDS[type_].read(value, f".{name}", ())
        except FileError as problem:
            raise refusal_at(pointer, problem) from None

    def make(self, kind: type[n.Node], given: dict[str, Any], pointer: str) -> n.Node:
        """Return the verified node."""
        if issubclass(kind, TERMS):
            given.setdefault("name", _letters(self.terms))
            self.terms += 1
        for name, type_ in fields_of(kind).items():
            if name not in given and _nullable(type_):
                given[name] = None
        if kind is n.Call and given["op"] not in OPERATORS:
            problem = f"{shown(given['op'])} is no operator"
            raise Refusal(point(pointer, "op"), problem, nearest(given["op"], OPERATORS))
        try:
            return verify(kind(**given))
        except (RegardError, ValueError, OverflowError) as problem:
            raise refusal_of(pointer, problem) from None


def _letters(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else f"t{number}"


def write_nested(root: n.Node) -> dict[str, Any]:
    """Write a graph as nodes inside each other, as proposals may.

    Args:
        root: A small graph: what is used twice is written twice.

    Returns:
        The JSON value.
    """
    written: dict[n.Node, dict[str, Any]] = {}
    for node in n.walk(root):
        fields = {}
        for name, type_ in fields_of(type(node)).items():
            value: Any = getattr(node, name)
            children: tuple[n.Node, ...] = value if type_ == _MANY else ()
            if value is None and may_be_left_out(type(node), name):
                continue
            if type_ == _MANY:
                fields[name] = [written[item] for item in children]
            elif type_ in _SINGLE:
                fields[name] = written[cast(n.Node, value)]
            else:
                fields[name] = FIELDS[type_].write(value, {})
        written[node] = {"node": type(node).__name__, **fields}
    return written[root]
