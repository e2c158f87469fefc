"""The grammar of an attention program: every node on one screen.

A program is a directed acyclic graph of these nodes, ending in `Output`. Nodes are immutable and
interned: two nodes that say the same are the same object, so `is` is structural equality and a
dictionary keyed by nodes never compares graphs. Leaves to others: which combinations have a
meaning (`verify`), axes and kinds (`types`), printing, files and evaluation.
"""

import dataclasses
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, dataclass_transform

_interned: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
_lock = threading.Lock()


class _Interning(type):
    """Makes `cls(...)` return the one node with these fields."""

    def __call__(cls, *args, **kwargs):
        made = super().__call__(*args, **kwargs)
        key = (cls, *(_key(value) for value in made.fields()))
        with _lock:
            return _interned.setdefault(key, made)


def _key(value: Any) -> Any:
    """Distinguish 1, 1.0 and True, and 0.0 and -0.0, which Python counts as equal."""
    if isinstance(value, tuple):
        return tuple(_key(item) for item in value)
    return value if isinstance(value, Node | str) else (type(value), repr(value))


class Node(metaclass=_Interning):
    """One node of a program; compare with `is`."""

    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def fields(self) -> tuple:
        """Return the values of the fields in the order of the grammar."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    def __deepcopy__(self, memo: dict) -> "Node":
        return self

    def __copy__(self) -> "Node":
        return self

    def __repr__(self) -> str:
        pairs = zip(self.__dataclass_fields__, self.fields(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={_brief(v)}' for name, v in pairs)})"

    def __reduce__(self) -> tuple:
        # Flat, because pickle recurses and a program may be thousands of nodes deep.
        order = walk(self)
        number = {node: place for place, node in enumerate(order)}
        return _restore, (tuple((type(node), _flatten(node.fields(), number)) for node in order),)


def _brief(value: Any) -> str:
    """Show a field one level deep: a whole graph may be deep, and large when written as a tree."""
    if isinstance(value, Node):
        return f"<{type(value).__name__}>"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_brief, value)) + ("," if len(value) == 1 else "") + ")"
    return repr(value)


def _flatten(value: Any, number: dict["Node", int]) -> Any:
    """Write a node as the list [its number]; no field holds a list."""
    if isinstance(value, Node):
        return [number[value]]
    return tuple(_flatten(item, number) for item in value) if isinstance(value, tuple) else value


def _restore(parts: tuple[tuple[type, tuple], ...]) -> "Node":
    made: list[Node] = []

    def value_of(value: Any) -> Any:
        if isinstance(value, list):
            return made[value[0]]
        return tuple(map(value_of, value)) if isinstance(value, tuple) else value

    for kind, fields in parts:
        made.append(kind(*map(value_of, fields)))
    return made[-1]


@dataclass_transform(frozen_default=True, eq_default=False)
def _node(cls: type) -> type:
    return dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)


# ── Leaves: what a program may read at a pair ────────────────────────────────────────────────
@_node
class Const(Node):
    """A number or truth value written in the program."""

    value: bool | int | float


@_node
class Index(Node):
    """A position or a size: i, j, head, heads, batch, queries, keys or width."""

    name: str


@_node
class Visible(Node):
    """How many keys the `where` of the surrounding weights admits for this query."""


@_node
class Vector(Node):
    """Channels of the query's row or the key's row (q, k, v, or a further named tensor)."""

    side: str
    name: str


@_node
class Feature(Node):
    """A number per token of the query's or the key's side."""

    side: str
    name: str


# Initialisers by name, and how many numbers each takes.
INITIALISERS = {
    "zeros": 0, "ones": 0, "alibi": 0, "identity": 0, "constant": 1, "normal": 1, "uniform": 2,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Init:
    """How a parameter starts: the name of an initialiser and its numbers."""

    name: str
    numbers: tuple[float, ...] = ()


@_node
class Array(Node):
    """A learned `parameter` or a given `table`.

    `per` names its axes: "head", "channel", "rows" or a size.
    """

    source: str
    name: str
    per: tuple[str | int, ...] = ()
    init: Init | None = None


@_node
class Scalar(Node):
    """A run-time number, changed without rebuilding."""

    name: str
    default: float | None = None


@_node
class PairInput(Node):
    """A dense (B or 1, H or 1, N, M) tensor."""

    name: str


@_node
class Channel(Node):
    """The channel's number inside a channel expression."""


@_node
class Hole(Node):
    """A value from outside the expression.

    It is the summed row in `finish`, a row's statistic or an adjoint.
    """

    name: str
    axes: str
    kind: str = "float"


# ── Computing ────────────────────────────────────────────────────────────────────────────────
@_node
class Call(Node):
    """A scalar operator of `operators.OPERATORS`, at every point of its arguments' axes."""

    op: str
    args: tuple[Node, ...]


@_node
class Gather(Node):
    """An element (or channel row) of an array.

    It takes one integer index per axis that is "rows" or a size.
    """

    array: Array
    indices: tuple[Node, ...]


@_node
class Reduce(Node):
    """The sum over the named axes; programs write it over "c", derived expressions over any."""

    body: Node
    axes: str


@_node
class Rotate(Node):
    """Pairs of channels turned by an angle; `pairs` is "halves" or "interleaved"."""

    rows: Node
    angle: Node
    pairs: str


@_node
class Slice(Node):
    """Channels start to stop of a row; None means the end."""

    rows: Node
    start: int
    stop: int | None


@_node
class Project(Node):
    """A row times a matrix, an array whose `per` ends in two "channel" axes (in, out)."""

    rows: Node
    matrix: Array
    width: int | None


@_node
class Keep(Node):
    """A boolean drawn with probability 1 - p from (seed, place, axes).

    Without a seed it is always true.
    """

    p: Node
    axes: str
    place: int


@_node
class TopK(Node):
    """Whether this pair's score is among the k largest of its row; ties take the lower j."""

    score: Node
    k: Node
    where: Node | None


@_node
class KeyMax(Node):
    """The largest value over a head's keys, channel by channel, without gradient."""

    rows: Node


@_node
class Running(Node):
    """The sum of a number over the key rows up to and including this one, for this query row.

    `reverse` sums from this key row to the last, `exclusive` leaves this one out.
    """

    body: Node
    where: Node | None
    reverse: bool
    exclusive: bool


# ── Weights: an algebra over the terms of a row ──────────────────────────────────────────────
@_node
class Softmax(Node):
    """exp(score) divided by its row sum and the sink's."""

    score: Node
    where: Node | None
    sink: Node | None
    name: str


@_node
class Weigh(Node):
    """The expression itself."""

    weight: Node
    where: Node | None
    name: str


@_node
class Ratio(Node):
    """num divided by max(row sum of den + add, at_least)."""

    num: Node
    den: Node
    where: Node | None
    add: Node
    at_least: Node
    scaled: bool
    name: str


@_node
class Entmax(Node):
    """The row-threshold normaliser; alpha 2 is sparsemax."""

    score: Node
    alpha: Node
    where: Node | None
    name: str


@_node
class Map(Node):
    """Any scalar expression of the weights.

    `body` is an expression of the Hole "mapped", which stands for them.
    """

    weights: Node
    body: Node


@_node
class Dropout(Node):
    """weights · keep / (1 - p), drawn per (b, h, i, j)."""

    weights: Node
    p: Node
    place: int


@_node
class Output(Node):
    """The program: the sum over keys of weights · values, then `finish`.

    `finish` is an expression of the Hole "summed".
    """

    weights: Node
    values: Node
    finish: Node | None


# ── Derived: written by passes, never by a program or a file ─────────────────────────────────
@_node
class Count(Node):
    """How many channels `like` has."""

    like: Node


@_node
class Widen(Node):
    """A number repeated over as many channels as `like` has."""

    rows: Node
    like: Node


@_node
class Cross(Node):
    """x·b' - y·a' for the channel pairs (x, y) of `rows` and (a', b') of `other`.

    This is Rotate's adjoint in its angle.
    """

    rows: Node
    other: Node
    pairs: str


@_node
class Pad(Node):
    """Rows put at channel `start` of zeros as wide as `like`: Slice's adjoint."""

    rows: Node
    start: int
    like: Node


@_node
class Unproject(Node):
    """A row times the transposed matrix: Project's adjoint in its rows."""

    rows: Node
    matrix: Array


@_node
class Outer(Node):
    """The sum over b, i, j of rows ⊗ adjoint: Project's adjoint in its matrix."""

    rows: Node
    adjoint: Node


@_node
class Pick(Node):
    """The channel of a row that an integer index chooses, clipped; only kernels compute it."""

    rows: Node
    index: Node


Term = Softmax | Weigh | Ratio | Entmax
SUMMED = Hole("summed", "bhic")
MAPPED = Hole("mapped", "bhij")
NODE_TYPES: dict[str, type[Node]] = {
    kind.__name__: kind
    for kind in (
        Const, Index, Visible, Vector, Feature, Array, Scalar, PairInput, Channel, Hole, Call,
        Gather, Reduce, Rotate, Slice, Project, Keep, TopK, KeyMax, Running, Softmax, Weigh, Ratio,
        Entmax, Map, Dropout, Output,
    )
}  # fmt: skip


def children(node: Node) -> Iterator[Node]:
    """Yield the nodes a node is made of, in the order of the grammar."""
    for value in node.fields():
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (item for item in value if isinstance(item, Node))


def walk(*roots: Node | None) -> list[Node]:
    """Return every node reachable from the roots once, each after the nodes it is made of."""
    order: dict[Node, None] = {}
    stack = [(root, False) for root in reversed(roots) if root is not None]
    while stack:
        node, ready = stack.pop()
        if node in order:
            continue
        if ready:
            order[node] = None
            continue
        stack.append((node, True))
        stack.extend((child, False) for child in reversed(list(children(node))))
    return list(order)


def rebuild(node: Node, new: dict[Node, Node]) -> Node:
    """Return the node with each child replaced as `new` says (children not in it stay)."""

    def swap(value: Any) -> Any:
        if isinstance(value, Node):
            return new.get(value, value)
        if isinstance(value, tuple):
            return tuple(swap(item) for item in value)
        return value

    return type(node)(*(swap(value) for value in node.fields()))


def rewrite(root: Node, change: Callable[[Node], Node | None]) -> Node:
    """Return the graph with `change(node)` applied bottom-up; None from `change` keeps the node.

    Args:
        root: Where to start.
        change: Called with each node after its children were rewritten.

    Returns:
        The rewritten root.
    """
    new: dict[Node, Node] = {}
    for node in walk(root):
        rebuilt = rebuild(node, new)
        changed = change(rebuilt)
        new[node] = rebuilt if changed is None else changed
    return new[root]
