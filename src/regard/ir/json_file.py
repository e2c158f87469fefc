"""Programs as canonical JSON: one node a line, each made of earlier nodes, with a hash.

The fields of a node are read off the grammar itself, so a file cannot drift from it. Loading runs
no code, is bounded in time and memory, and names the place of every mistake. Leaves to others: JSON
itself (`strict_json`), fields (`json_fields`), files on disk (`files`).
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from regard.errors import FileError, ProgramError, nearest
from regard.ir import nodes as n
from regard.ir.json_fields import (
    FIELDS,
    Field,
    check_keys,
    read_int,
    read_list,
    read_name,
    read_text,
)
from regard.ir.operators import OPERATORS
from regard.ir.strict_json import parse, shown
from regard.ir.verify import verify, verify_program

VERSION = 1
MAX_NODES = 20_000
MAX_DOC = 100_000
_KEYS = ("regard", "version", "name", "doc", "contracts", "hash", "nodes", "output")


class About(NamedTuple):
    """What a file says of a program beside its graph.

    Attributes:
        name: Its name.
        doc: What it is for.
        contracts: The properties it declares.
    """

    name: str
    doc: str = ""
    contracts: tuple[str, ...] = ()


def to_dict(
    root: n.Node, *, name: str, doc: str = "", contracts: Sequence[str] = ()
) -> dict[str, Any]:
    """Return a program as a JSON value.

    Args:
        root: The program.
        name: Its name.
        doc: What it is for.
        contracts: The properties it declares.

    Returns:
        The value that `from_dict` reads.
    """
    nodes = _encode(root)
    return {
        "regard": "program",
        "version": VERSION,
        "name": name,
        "doc": doc,
        "contracts": list(contracts),
        "hash": f"sha256:{_hash(nodes)}",
        "nodes": nodes,
        "output": len(nodes) - 1,
    }


def dump(root: n.Node, *, name: str, doc: str = "", contracts: Sequence[str] = ()) -> str:
    """Write a program as JSON text: the same text for the same program, always.

    What `load` could not read back, such as a program that is too large, is a FileError.

    Args:
        root: The program.
        name: Its name.
        doc: What it is for.
        contracts: The properties it declares.

    Returns:
        The text, ending in a newline.
    """
    lines = []
    for key, item in to_dict(root, name=name, doc=doc, contracts=contracts).items():
        written = _json(item)
        if key == "nodes":
            written = "[\n" + ",\n".join(f"    {_json(node)}" for node in item) + "\n  ]"
        lines.append(f"  {_json(key)}: {written}")
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    # Whatever is saved can be loaded: better to hear of it now than when the file is needed.
    load(text)
    return text


def load(text: str) -> tuple[n.Output, About]:
    """Read a program from JSON text; whatever is wrong with it is a FileError with its place.

    Args:
        text: What `dump` wrote.

    Returns:
        The program and what the text says of it.
    """
    return from_dict(parse(text))


def from_dict(value: Any) -> tuple[n.Output, About]:
    """Read a program from a JSON value.

    Args:
        value: What `strict_json.parse` read.

    Returns:
        The program and what the value says of it.

    Raises:
        FileError: If anything is wrong; the message starts with the place.
    """
    _check_kind(value)
    check_keys(value, _KEYS, "")
    contracts = read_list(value["contracts"], "contracts")
    about = About(
        read_name(value["name"], "name"),
        read_text(value["doc"], "doc", MAX_DOC),
        tuple(read_name(item, f"contracts[{k}]") for k, item in enumerate(contracts)),
    )
    root = _decode(value["nodes"], value["output"])
    claimed, found = read_name(value["hash"], "hash"), f"sha256:{program_hash(root)}"
    if claimed != found:
        raise FileError(
            f"hash: the nodes were changed after this hash was made; theirs is {found}\n"
            "if the change is meant, write that hash here"
        )
    return root, about


def program_hash(root: n.Node) -> str:
    """Return the hash of a graph, the same in every process.

    Args:
        root: A program, or any expression.

    Returns:
        64 hexadecimal digits: SHA-256 over the canonical JSON of the nodes alone.
    """
    return _hash(_encode(root))


def _hash(nodes: list[dict[str, Any]]) -> str:
    canonical = json.dumps(nodes, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


@functools.cache
def _fields(kind: type[n.Node]) -> dict[str, Field]:
    return {field.name: FIELDS[field.type] for field in dataclasses.fields(kind)}


def _encode(root: n.Node) -> list[dict[str, Any]]:
    """Return every node once, each after the nodes it is made of."""
    order = n.walk(root)
    numbers = {node: number for number, node in enumerate(order)}
    written = []
    for node in order:
        fields = _fields(type(node)).items()
        values = {name: field.write(getattr(node, name), numbers) for name, field in fields}
        written.append({"node": type(node).__name__, **values})
    return written


def _check_kind(value: Any) -> None:
    """Say what a file is that holds no program, or one of a newer Regard."""
    if not isinstance(value, dict) or "regard" not in value:
        raise FileError('line 1: this is no file of Regard; one starts with {"regard": "program"')
    if value["regard"] != "program":
        raise FileError(f"regard: {shown(value['regard'])} is not a program")
    version = read_int(value.get("version"), "version")
    if version > VERSION:
        raise FileError(
            f"version: written by a newer Regard (version {version}, this one reads {VERSION}); "
            "upgrade"
        )
    if version < 1:
        raise FileError(f"version: {version} was never written; the first is 1")


def _decode(nodes: Any, output: Any) -> n.Output:
    if not isinstance(nodes, list):
        raise FileError(f"nodes: a list of nodes belongs here, not {shown(nodes)}")
    if not 0 < len(nodes) <= MAX_NODES:
        raise FileError(f"nodes: {len(nodes)} nodes; a program has 1 … {MAX_NODES}")
    made: list[n.Node] = []
    for number, value in enumerate(nodes):
        made.append(_read_node(value, f"nodes[{number}]", made))
    if not 0 <= read_int(output, "output") < len(made):
        raise FileError(f"output: {output} is no node; there are {len(made)}")
    root = made[output]
    used = set(n.walk(root))
    for number, node in enumerate(made):
        if node not in used:
            raise FileError(f"nodes[{number}]: the output does not use this node")
    try:
        verify_program(root)
    except ProgramError as problem:
        raise FileError(f"nodes: {problem}") from None
    assert isinstance(root, n.Output)
    return root


def _read_node(value: Any, place: str, made: Sequence[n.Node]) -> n.Node:
    if not isinstance(value, dict):
        raise FileError(f"{place}: an object belongs here, not {shown(value)}")
    word = read_name(value.get("node"), f"{place}.node")
    kind = n.NODE_TYPES.get(word)
    if kind is None:
        hint = nearest(word, n.NODE_TYPES)
        raise FileError(f"{place}.node: {shown(word)} is no node; {hint}")
    fields = _fields(kind)
    check_keys(value, ("node", *fields), place)
    node = kind(
        *(field.read(value[name], f"{place}.{name}", made) for name, field in fields.items())
    )
    if isinstance(node, n.Call) and node.op not in OPERATORS:
        raise FileError(
            f"{place}.op: {shown(node.op)} is no operator; {nearest(node.op, OPERATORS)}"
        )
    try:
        return verify(node)
    except ProgramError as problem:
        raise FileError(f"{place}: {problem}") from None
