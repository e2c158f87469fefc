"""The type of every node: the axes it varies along, its kind, and whether it holds weights.

A node is computed once per point of its axes, a subset of b, h, i, j, c. Kinds are "bool", "int",
"float", and "any" for data whose dtype is known only at the call. Leaves to others: whether a
combination is allowed (`verify`).
"""

from dataclasses import dataclass

from regard.ir import nodes as n
from regard.ir.operators import OPERATORS

AXES = "bhijc"
_KIND_ORDER = ("bool", "int", "any", "float")
INDEX_AXES = {
    "i": "bi",
    "j": "bj",
    "row_i": "i",
    "row_j": "j",
    "head": "h",
    "heads": "",
    "batch": "b",
    "queries": "b",
    "keys": "b",
    "width": "",
}
SIDE_AXES = {"query": "bhi", "key": "bhj"}
# What varies along the same axes whatever its fields and children are.
_FIXED_AXES: dict[type[n.Node], str] = {
    n.Visible: "bhi",
    n.PairInput: "bhij",
    n.Channel: "c",
    n.TopK: "bhij",
    n.Map: "bhij",
    n.Dropout: "bhij",
    n.Count: "",
}


@dataclass(frozen=True)
class Type:
    """What is known of a node before any data.

    Attributes:
        axes: The axes it varies along at most, in the order of `AXES`.
        kind: "bool", "int", "float" or "any".
        weights: Whether the normalised weights of a row are part of it.
    """

    axes: str
    kind: str
    weights: bool = False


def type_of(node: n.Node) -> Type:
    """Return the type of a node; computed once and kept with the node.

    Args:
        node: Any node whose graph passed `verify`, or is built of nodes that did.

    Returns:
        Its type.
    """
    # Only untyped nodes are visited, so that typing a program node by node takes linear time.
    stack = [] if "_type" in node.__dict__ else [node]
    while stack:
        part = stack[-1]
        untyped = [child for child in n.children(part) if "_type" not in child.__dict__]
        if untyped:
            stack.extend(untyped)
            continue
        stack.pop()
        if "_type" not in part.__dict__:
            object.__setattr__(part, "_type", _derive(part))
    return node.__dict__["_type"]


def axes_of(node: n.Node) -> str:
    """Return the axes a node varies along, e.g. "bhij"."""
    return type_of(node).axes


def index_axes(array: n.Array) -> int:
    """Return how many integer indices an array takes."""
    return sum(axis == "rows" or isinstance(axis, int) for axis in array.per)


def join_kinds(kinds: list[str]) -> str:
    """Return the kind of a number computed from these kinds; truth values count as integers."""
    return max([*kinds, "int"], key=_KIND_ORDER.index)


def order_axes(axes) -> str:
    """Return a set of axis letters as a string in the order of `AXES`."""
    return "".join(axis for axis in AXES if axis in axes)


def _derive(node: n.Node) -> Type:
    parts = [child.__dict__["_type"] for child in n.children(node)]
    weights = any(part.weights for part in parts)
    if isinstance(node, n.Term):
        return Type("bhij", "float", True)
    if isinstance(node, n.Output):
        return Type("bhic", "float")
    return Type(
        _axes(node, {axis for part in parts for axis in part.axes}), _kind(node, parts), weights
    )


# The axes that a node loses and gains against those of its parts. Which keys exist, and so which is
# the largest or what is added up, differs between batch rows.
_CHANGED_AXES = {n.Pick: ("c", ""), n.KeyMax: ("j", "b"), n.Running: ("", "bij")}


def _axes(node: n.Node, union: set[str]) -> str:
    if type(node) in _FIXED_AXES:
        return _FIXED_AXES[type(node)]
    match node:
        case n.Index():
            return INDEX_AXES[node.name]
        case n.Vector():
            return SIDE_AXES[node.side] + "c"
        case n.Feature():
            return SIDE_AXES[node.side]
        case n.Array():
            return order_axes(
                {{"head": "h", "channel": "c"}[a] for a in node.per if a in ("head", "channel")}
            )
        case n.Hole() | n.Keep():
            return order_axes(node.axes)
        case n.Reduce():
            return order_axes(union - set(node.axes))
        case _:
            lost, gained = _CHANGED_AXES.get(type(node), ("", ""))
            return order_axes(union - set(lost) | set(gained))


def _kind(node: n.Node, parts: list[Type]) -> str:
    match node:
        case n.Const():
            return type(node.value).__name__
        case n.Index() | n.Visible() | n.Channel() | n.Count():
            return "int"
        case n.Feature() | n.PairInput():
            return "any"
        case n.Array():
            return "any" if node.source == "table" else "float"
        case n.Gather():
            return parts[0].kind
        case n.Hole():
            return node.kind
        case n.Keep() | n.TopK():
            return "bool"
        case n.Reduce() | n.Slice() | n.KeyMax() | n.Running():
            return join_kinds([parts[0].kind])
        case n.Call():
            return _call_kind(node, parts)
        case _:
            return "float"


def _call_kind(node: n.Call, parts: list[Type]) -> str:
    operator = OPERATORS[node.op]
    if operator.gives != "join":
        return operator.gives
    chosen = parts[1:] if node.op == "where" else parts
    if node.op == "where" and all(part.kind == "bool" for part in chosen):
        return "bool"
    return join_kinds([part.kind for part in chosen])
