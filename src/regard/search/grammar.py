"""The grammar of programs as text, read off the nodes themselves.

Before: the class `Softmax` with its fields and its docstring.
After: 'Softmax(score: number, where: condition?, sink: number?, name: text)' and what it means.
Leaves to others: the same as a JSON schema (`schema`), advice (`guide`).
"""

import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

from regard.ir import nodes as n
from regard.ir.operators import OPERATORS
from regard.ir.types import INDEX_AXES
from regard.search.read_program import fields_of, may_be_left_out

_WIDTH = 100
# What each part of a node must be; the verifier says the rest.
SORTS = {
    "Call": {"args": "number"},
    "Gather": {"array": "array", "indices": "number"},
    "Reduce": {"body": "row"},
    "Rotate": {"rows": "row", "angle": "row"},
    "Slice": {"rows": "row"},
    "Project": {"rows": "row", "matrix": "array"},
    "Keep": {"p": "number"},
    "TopK": {"score": "number", "k": "number", "where": "condition"},
    "KeyMax": {"rows": "row"},
    "Running": {"body": "number", "where": "condition"},
    "Softmax": {"score": "number", "where": "condition", "sink": "number"},
    "Weigh": {"weight": "number", "where": "condition"},
    "Ratio": {
        "num": "number", "den": "number", "where": "condition", "add": "number",
        "at_least": "number",
    },
    "Entmax": {"score": "number", "alpha": "number", "where": "condition"},
    "Map": {"weights": "weights", "body": "number"},
    "Dropout": {"weights": "weights", "p": "number"},
    "Output": {"weights": "weights", "values": "row", "finish": "row"},
}  # fmt: skip
_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number written here",
    bool: "true or false",
    int | None: "whole number written here",
    bool | int | float: "number or truth value written here",
    float | None: "number written here",
    tuple[str | int, ...]: "list of texts and sizes",
    n.Init | None: "initialiser",
}
_INTRODUCTION = """
A program is one Output: for every query i and key j it says a weight, and which values are summed.
Each part is of a sort:
  number     something that may vary over batch rows b, heads h, queries i and keys j
  condition  a number that is true or false
  row        something that also varies over channels c, such as Vector(query, q)
  array      a parameter (learned) or a table; one with sizes is indexed by Gather
  weights    Softmax, Weigh, Ratio, Entmax, Map, Dropout, or weights added, subtracted, negated, or
             multiplied with each other or with numbers, by Call
"?" marks what may be left out. In JSON a node is {"node": NAME, FIELD: …}; a part that is a node is
written in place, or as the number of an item of the program's list "nodes" that stands before it.
"""


def write_grammar() -> str:
    """Return the grammar of programs as text, one node a paragraph.

    Returns:
        Sorts, nodes with their fields, operators, positions and initialisers.
    """
    return "\n".join([*_INTRODUCTION.strip().splitlines(), "", *_nodes(), *_tables()]) + "\n"


def signature(kind: type[n.Node]) -> str:
    """Return a node and its fields on one line."""
    fields = []
    for name, type_ in fields_of(kind).items():
        mark = "?" if may_be_left_out(kind, name) else ""
        fields.append(f"{name}: {_sort(kind, name, type_)}{mark}")
    return f"{kind.__name__}({', '.join(fields)})"


def _sort(kind: type[n.Node], name: str, type_: Any) -> str:
    sort = SORTS.get(kind.__name__, {}).get(name)
    if sort is None:
        return _WORDS[type_]
    return f"list of {sort}s" if type_ == tuple[n.Node, ...] else sort


def _nodes() -> Iterator[str]:
    for kind in n.NODE_TYPES.values():
        yield signature(kind)
        meaning = " ".join(inspect.getdoc(kind).split())  # pyright: ignore
        yield from textwrap.wrap(meaning, _WIDTH, initial_indent="    ", subsequent_indent="    ")


def _tables() -> Iterator[str]:
    yield ""
    yield "Operators of Call(op, args), by number of arguments; * gives a condition:"
    for arity in sorted({one.arity for one in OPERATORS.values()}):
        listed = [
            name + ("*" if one.gives == "bool" else "")
            for name, one in OPERATORS.items()
            if one.arity == arity
        ]
        yield from _listed(str(arity), listed)
    yield ""
    yield "Names of Index, and over what each varies:"
    yield from _listed("", [f"{name} ({axes or 'nothing'})" for name, axes in INDEX_AXES.items()])
    yield ""
    yield 'Initialisers of an Array, {"name": NAME, "numbers": […]}, and how many they take:'
    yield from _listed("", [f"{name} {count}" for name, count in n.INITIALISERS.items()])


def _listed(head: str, words: list[str]) -> list[str]:
    text = f"{head}  {', '.join(words)}"
    return textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="     ")
