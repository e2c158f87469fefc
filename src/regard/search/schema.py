"""The JSON schema of modes and proposals, read off the grammar.

Before: the class `Softmax` with its fields.
After: an object with "node": "Softmax", a "score" that is a node, and so on.
A saved mode and a proposal both follow it. Leaves to others: what a schema cannot say (`admit`).
"""

import inspect
from typing import Any

from regard.ir import nodes as n
from regard.ir.contracts import MEANINGS
from regard.ir.json_fields import MAX_ITEMS, MAX_NAME
from regard.ir.operators import OPERATORS
from regard.ir.types import INDEX_AXES, SIDE_AXES
from regard.modes.mode import ROLES
from regard.search.proposals import EVERYWHERE, MOST_PROGRAMS, MOST_PROPOSALS, offered
from regard.search.read_program import fields_of, may_be_left_out

_REFERENCE = {"anyOf": [{"type": "integer", "minimum": 0}, {"$ref": "#/$defs/node"}]}
_INFINITE = {
    "type": "object",
    "properties": {"float": {"enum": ["inf", "-inf"]}},
    "required": ["float"],
    "additionalProperties": False,
}
_NULL = {"type": "null"}
_NAME = {"type": "string", "maxLength": MAX_NAME}
_NUMBER = {"anyOf": [{"type": "number"}, _INFINITE]}
_INIT = {
    "type": "object",
    "properties": {
        "name": {"enum": list(n.INITIALISERS)},
        "numbers": {"type": "array", "items": _NUMBER, "maxItems": MAX_ITEMS},
    },
    "required": ["name", "numbers"],
    "additionalProperties": False,
}
_OF_TYPE: dict[Any, dict[str, Any]] = {
    str: _NAME,
    int: {"type": "integer"},
    bool: {"type": "boolean"},
    int | None: {"anyOf": [{"type": "integer"}, _NULL]},
    bool | int | float: {"anyOf": [{"type": ["number", "boolean"]}, _INFINITE]},
    float | None: {"anyOf": [*_NUMBER["anyOf"], _NULL]},
    tuple[str | int, ...]: {
        "type": "array", "items": {"type": ["string", "integer"]}, "maxItems": MAX_ITEMS,
    },
    n.Init | None: {"anyOf": [_INIT, _NULL]},
    n.Node: _REFERENCE,
    n.Node | None: {"anyOf": [*_REFERENCE["anyOf"], _NULL]},
    n.Array: _REFERENCE,
    tuple[n.Node, ...]: {"type": "array", "items": _REFERENCE, "maxItems": MAX_ITEMS},
}  # fmt: skip
# Fields whose text is one of a few words.
_WORDS: dict[tuple[str, str], list[str]] = {
    ("Call", "op"): list(OPERATORS),
    ("Index", "name"): list(INDEX_AXES),
    ("Vector", "side"): list(SIDE_AXES),
    ("Feature", "side"): list(SIDE_AXES),
    ("Array", "source"): ["parameter", "table"],
    ("Rotate", "pairs"): ["halves", "interleaved"],
    ("Reduce", "axes"): ["c"],
}


def mode_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a file of proposals: a mode, or several.

    Returns:
        The schema, as plain data.
    """
    named = {kind: _named(kind) for kind in ("ready", "catalogue")}
    nodes = {name: _node(kind) for name, kind in n.NODE_TYPES.items()}
    modes = {"type": "array", "items": {"$ref": "#/$defs/mode"}, "maxItems": MOST_PROPOSALS}
    several = _object({"proposals": {**modes, "minItems": 1}}, ("proposals",))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Modes of Regard",
        "description": "A mode assigns attention programs to roles, layers and heads of a model.",
        "anyOf": [{"$ref": "#/$defs/mode"}, modes, several],
        "$defs": {
            "mode": _mode(),
            "assignment": _assignment(),
            "program": {"anyOf": [{"$ref": f"#/$defs/{kind}"} for kind in ("graph", *named)]},
            "graph": _graph(),
            **named,
            "node": {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in nodes]},
            **nodes,
        },
    }


def _object(properties: dict[str, Any], required: tuple[str, ...], **more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        **more,
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _of_a_file(what: str) -> dict[str, Any]:
    """Return what a file of Regard says beside; a proposal may leave it out."""
    return {"regard": {"const": what}, "version": {"type": "integer"}, "hash": {"type": "string"}}


def _mode() -> dict[str, Any]:
    properties = {
        **_of_a_file("mode"),
        "name": _NAME,
        "intent": {"type": "string", "description": "What it is for, in words."},
        "assignments": {
            "description": "Programs in their places; a later one wins over an earlier one.",
            "type": "array", "items": {"$ref": "#/$defs/assignment"}, "minItems": 1,
            "maxItems": MAX_ITEMS,
        },
        "programs": {
            "description": "Programs by any name.",
            "type": "object", "additionalProperties": {"$ref": "#/$defs/program"},
            "minProperties": 1, "maxProperties": MOST_PROGRAMS,
        },
    }  # fmt: skip
    return _object(properties, ("name", "assignments", "programs"))


def _assignment() -> dict[str, Any]:
    integer = {"type": "integer", "minimum": 0}
    span = {"type": "array", "items": integer, "minItems": 2, "maxItems": 2}
    spans = {"anyOf": [_NULL, span], "description": "[first, after the last]; null is all."}
    properties = {
        "role": {"enum": list(ROLES)},
        "layers": spans,
        "heads": spans,
        "program": {"type": "string", "description": "A name of the mode's programs."},
    }
    return _object(properties, ("role", "program"))


def _graph() -> dict[str, Any]:
    properties = {
        **_of_a_file("program"),
        "name": _NAME,
        "doc": {"type": "string"},
        "contracts": {
            "description": "What it promises, each of which must be provable.",
            "type": "array", "items": {"type": "string", "examples": list(MEANINGS)},
        },
        "nodes": {"type": "array", "items": {"$ref": "#/$defs/node"}},
        "output": {**_REFERENCE, "description": "The node Output, or its number among the nodes."},
    }  # fmt: skip
    return _object(properties, ("output",))


def _named(kind: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for role in ROLES:
        names |= offered(role, EVERYWHERE)[kind]
    listed = "; ".join(
        f"{name}: {', '.join(f'{knob}={value!r}' for knob, value in knobs.items())}"
        for name, knobs in names.items()
        if knobs
    )
    properties = {
        kind: {"enum": list(names)},
        "knobs": {
            "description": f"Other values for some of: {listed}",
            "type": "object", "additionalProperties": {"type": "number"},
        },
    }  # fmt: skip
    return _object(properties, (kind,))


def _node(kind: type[n.Node]) -> dict[str, Any]:
    properties: dict[str, Any] = {"node": {"const": kind.__name__}}
    for name, type_ in fields_of(kind).items():
        words = _WORDS.get((kind.__name__, name))
        properties[name] = {"enum": words} if words else _OF_TYPE[type_]
    needed = [name for name in fields_of(kind) if not may_be_left_out(kind, name)]
    meaning = " ".join((inspect.getdoc(kind) or "").split())
    return _object(properties, ("node", *needed), description=meaning)
