"""Split pair expressions into what rows can do alone and what must be done at every pair.

Before: softmax(5 · tanh(dot(rotate(q, i), rotate(k, j)) / 5) - slope · |i - j|).
After: rows rotate(q, i) and rotate(k, j), their dot as a Hole "dot:0", and
5 · tanh(dot:0 / 5) - slope · |i - j|, in which slope, i and j are Holes too. What a Hole stands for
is an `Input` (computed once per row, by whoever runs the rows), a `Dot` (a matrix product) or a
`ChannelSum` (a loop over channels). Leaves to others: running any of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.types import axes_of, type_of
from regard.passes.build import ONE, ZERO, add, call, mul, select, substitute
from regard.passes.part_rows import by_table, holds_chosen_rows, mixed_factors, part_products

Kind = Literal[
    "number", "query", "key", "query_row", "key_row", "channels", "pair", "table", "diagonal",
    "threshold", "choice", "listed", "placed", "query_table", "key_table",
]  # fmt: skip
# Operators that cost a call or more; a diagonal that needs one is worth a table of its own.
COSTLY = {"exp", "log", "sqrt", "tanh", "sigmoid", "erf", "softplus", "cos", "sin", "pow",
           "floordiv", "mod"}  # fmt: skip
_CHEAP_OPERATIONS = 4
WITH_CHANNELS = ("query_row", "key_row", "channels", "query_table", "key_table")


@dataclass(frozen=True)
class Input:
    """A value from outside the pair: a row's, a head's, a table or a dense pair input.

    Attributes:
        hole: What stands for it in pair expressions.
        node: What it is.
        kind: What it varies along: "number" heads alone; "query" and "key" one side's rows, and
            "query_row", "key_row", "channels" the same with channels; "pair" is a dense input,
            "table" an array indexed at pairs, "diagonal" a function of i - j, "threshold" the
            number that random bits are compared with, "choice" the chosen keys of each query row,
            "placed" a number at each of the "listed" keys of a query row and 0 elsewhere,
            "query_table" and "key_table" one side's rows of which a pair picks a channel.
    """

    hole: n.Hole
    node: n.Node
    kind: Kind


@dataclass(frozen=True)
class Dot:
    """The product of a query row and a key row, summed over channels."""

    hole: n.Hole
    left: Input
    right: Input


@dataclass(frozen=True)
class ChannelSum:
    """A sum over channels that is no product: `body` reads row and channel inputs' holes."""

    hole: n.Hole
    body: n.Node
    inputs: tuple[Input, ...]


@dataclass
class Split:
    """The inputs, dots and channel sums that pair expressions were split into.

    Args:
        known: Tells whether a Hole of the expressions is a row's value that is known beforehand.
        diagonal: Whether positions rise by one from row to row, so that functions of i - j may be
            tabulated.
    """

    known: Callable[[n.Hole], bool]
    diagonal: bool = False
    inputs: dict[n.Node, Input] = field(default_factory=dict)
    dots: dict[n.Node, Dot] = field(default_factory=dict)
    sums: dict[n.Node, ChannelSum] = field(default_factory=dict)
    draws: dict[n.Keep, Input] = field(default_factory=dict)
    _done: dict[n.Node, n.Node] = field(default_factory=dict)

    def pair(self, root: n.Node) -> n.Node:
        """Return a pair expression in which inputs, dots and channel sums are holes.

        Args:
            root: The expression.

        Returns:
            The same, made of holes, constants and scalar operators.

        Raises:
            UnsupportedError: If it is made of something that no kernel computes at a pair.
        """
        for node in self._visited(root):
            if node not in self._done:
                self._done[node] = self._rewritten(node)
        return self._done[root]

    def row(self, node: n.Node, kind: Kind) -> Input:
        """Return the input that a row expression is.

        Args:
            node: The expression.
            kind: What it varies along.

        Returns:
            The input; the same for the same expression.
        """
        if node not in self.inputs:
            # The type of a hole decides what is differentiated, so it keeps its node's kind; along
            # all axes, because a kernel adds up over them itself.
            axes = "bhijc" if kind in WITH_CHANNELS else "bhij"
            hole = n.Hole(f"in:{len(self.inputs)}", axes, type_of(node).kind)
            self.inputs[node] = Input(hole, node, kind)
        return self.inputs[node]

    def dot(self, left: n.Node, right: n.Node) -> Dot:
        """Return the dot of a query row and a key row.

        Args:
            left: The query row.
            right: The key row.

        Returns:
            The dot; the same for the same rows.
        """
        node = n.Reduce(mul(left, right), "c")
        if node not in self.dots:
            hole = n.Hole(f"dot:{len(self.dots)}", "bhij")
            sides = self.row(left, "query_row"), self.row(right, "key_row")
            self.dots[node] = Dot(hole, *sides)
        return self.dots[node]

    def summed(self, values: n.Node) -> Input:
        """Return the input whose rows a program sums over keys.

        Args:
            values: The channel expression that is summed.

        Returns:
            A row of each key.

        Raises:
            UnsupportedError: If the values differ from pair to pair, or not from key to key.
        """
        axes = axes_of(values)
        if "i" in axes or "j" not in axes or "c" not in axes:
            raise UnsupportedError(
                "a kernel sums rows of keys; the values differ from pair to pair"
            )
        return self.row(values, "key_row")

    def _visited(self, root: n.Node) -> list[n.Node]:
        """Return what must be rewritten at the pair, each after what it is made of."""
        seen: set[n.Node] = set()
        order: list[n.Node] = []
        stack: list[tuple[n.Node, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if ready:
                order.append(node)
            elif node not in seen and node not in self._done:
                seen.add(node)
                stack.append((node, True))
                stack.extend((child, False) for child in reversed(self._inside(node)))
        return order

    def _inside(self, node: n.Node) -> list[n.Node]:
        """Return the children that are pair expressions of their own."""
        if self._row_kind(node) or isinstance(node, n.Reduce | n.Keep):
            return []
        if isinstance(node, n.Pick):
            return [node.index]
        return list(node.indices) if isinstance(node, n.Gather) else list(n.children(node))

    def _is_counted(self, node: n.Node) -> bool:
        """Tell whether a node is a position that is the row's number, which no input need hold."""
        return self.diagonal and (node is n.Index("i") or node is n.Index("j"))

    def _row_kind(self, node: n.Node) -> Kind | None:
        """Return what kind of input a node is, or None if it belongs to the pair."""
        if isinstance(node, n.PairInput):
            return "pair"
        if isinstance(node, n.Const) or self._is_counted(node) or not self._known(node):
            return None
        kind = row_kind(node)
        if kind == "query" and _made_of_holes(node):
            return None
        if kind is None and self.diagonal and _worth_a_diagonal(node):
            return "diagonal"
        return kind

    def _known(self, node: n.Node) -> bool:
        holes = (part for part in n.walk(node) if isinstance(part, n.Hole))
        return all(hole.name.startswith("channel:") or self.known(hole) for hole in holes)

    def _rewritten(self, node: n.Node) -> n.Node:
        kind = self._row_kind(node)
        if kind is not None:
            return self.row(node, kind).hole
        match node:
            case n.Hole() if node.name.startswith(("chosen:", "g:top:")):
                return self._listed(node)
            case n.Const() | n.Hole() | n.Index():
                return node
            case n.Call():
                return n.rebuild(node, self._done)
            case n.Gather():
                return self._gathered(node)
            case n.Reduce():
                return self._reduced(node)
            case n.Pick(rows=n.Hole()):
                return n.rebuild(node, self._done)
            case n.Pick():
                side = "key_table" if "j" in axes_of(node.rows) else "query_table"
                return n.Pick(self.row(node.rows, side).hole, self._done[node.index])
            case n.Keep():
                self.draws[node] = self._threshold(node)
                return node
            case _:
                raise UnsupportedError(
                    f"a kernel has no {type(node).__name__.lower()} that differs from pair to pair"
                )

    def _listed(self, node: n.Hole) -> n.Node:
        """Return what is told of the keys that a list names for each query row.

        They are chosen, or they are those of the largest weights, which receive a number.
        """
        if node.name.startswith("chosen:"):
            return self.inputs.setdefault(node, Input(node, node, "choice")).hole
        keys = keys_of(node)
        self.inputs.setdefault(keys, Input(keys, keys, "listed"))
        return self.inputs.setdefault(node, Input(node, node, "placed")).hole

    def _gathered(self, node: n.Gather) -> n.Node:
        if "channel" in node.array.per:
            raise UnsupportedError(f"'{node.array.name}' holds rows that pairs choose")
        self.row(node.array, "table")
        return n.Gather(node.array, tuple(self._done[index] for index in node.indices))

    def _threshold(self, node: n.Keep) -> Input:
        if row_kind(node.p) is None or not self._known(node.p):
            raise UnsupportedError("the probability of a draw differs from pair to pair")
        key = n.Keep(node.p, "", node.place)
        if key not in self.inputs:
            hole = n.Hole(f"in:{len(self.inputs)}", "bhij", "int")
            self.inputs[key] = Input(hole, key, "threshold")
        return self.inputs[key]

    def _reduced(self, node: n.Reduce) -> n.Node:
        if set(node.axes) != {"c"}:
            raise UnsupportedError("a kernel adds up over channels and keys alone")
        body, mask = node.body, None
        if isinstance(body, n.Call) and body.op == "where" and body.args[2] is n.Const(0.0):
            if "c" not in axes_of(body.args[0]):
                mask, body = body.args[0], body.args[1]
        if holds_chosen_rows(body):
            return select(None if mask is None else self.pair(mask), self._tabulated(body))
        outside, left, right = ONE, ONE, ONE
        for factor, inverse in mixed_factors(body):
            axes = axes_of(factor)
            if "c" not in axes:
                outside = call("div", outside, factor) if inverse else mul(outside, factor)
            elif "j" not in axes:
                left = call("div", left, factor) if inverse else mul(left, factor)
            elif "i" not in axes:
                right = call("div", right, factor) if inverse else mul(right, factor)
            else:
                return self._summed(node)
        if left is ONE or right is ONE or not (self._known(left) and self._known(right)):
            return self._summed(node)
        found = mul(self.dot(left, right).hole, self.pair(outside))
        return found if mask is None else select(self.pair(mask), found)

    def _tabulated(self, body: n.Node) -> n.Node:
        """Return a sum over channels, in which chosen rows are tabulated for the other side's."""
        total: n.Node = ZERO
        for part in part_products(body):
            if part.chosen is None:
                found = n.Reduce(part.rows, "c")
            elif {"i", "j"} <= set(axes_of(part.rows)) or not self._known(part.rows):
                name = part.chosen.array.name
                raise UnsupportedError(f"'{name}' holds rows that pairs choose, times no one row")
            else:
                found = by_table(part.rows, part.chosen)
            total = add(total, mul(found, part.scale))
        return self.pair(total)

    def _summed(self, node: n.Reduce) -> n.Node:
        if node not in self.sums:
            new: dict[n.Node, n.Node] = {}
            inputs: dict[Input, None] = {}
            self._channel_inputs(node.body, new, inputs)
            hole = n.Hole(f"sum:{len(self.sums)}", "bhij")
            self.sums[node] = ChannelSum(hole, substitute(node.body, new), tuple(inputs))
        return self.sums[node].hole

    def _channel_inputs(
        self, body: n.Node, new: dict[n.Node, n.Node], inputs: dict[Input, None]
    ) -> None:
        """Find the maximal rows of a channel expression, and the holes that stand for them."""
        stack = [body]
        while stack:
            node = stack.pop()
            if node in new or isinstance(node, n.Const):
                continue
            axes = axes_of(node)
            if ("i" not in axes or "j" not in axes) and self._known(node):
                side = "query_row" if "i" in axes else "key_row" if "j" in axes else "channels"
                found = self.row(node, side)
                new[node] = found.hole
                inputs[found] = None
            elif isinstance(node, n.Call):
                stack.extend(reversed(list(n.children(node))))
            elif isinstance(node, n.Gather):
                raise UnsupportedError(f"'{node.array.name}' holds rows that pairs choose")
            else:
                raise UnsupportedError(
                    f"a sum over channels reads a {type(node).__name__.lower()} of the pair"
                )


def keys_of(placed: n.Node) -> n.Hole:
    """Return the hole of the keys at which numbers are placed, of "g:top:8" that of "keys:8"."""
    assert isinstance(placed, n.Hole)
    return n.Hole("keys:" + placed.name.rpartition(":")[2], "bhij", "int")


def row_kind(node: n.Node) -> Kind | None:
    """Return what kind of row value a node is by its axes.

    Args:
        node: The node.

    Returns:
        The kind; None if it varies along both sides.
    """
    axes = axes_of(node)
    if "i" in axes and "j" in axes:
        return None
    if "c" in axes:
        return "query_row" if "i" in axes else "key_row" if "j" in axes else "channels"
    return "query" if "i" in axes else "key" if "j" in axes else "number"


def _made_of_holes(node: n.Node) -> bool:
    """Tell whether a node is arithmetic on row values alone, which needs no input of its own."""
    return isinstance(node, n.Call) and all(
        isinstance(part, n.Call | n.Const | n.Hole) for part in n.walk(node)
    )


def _worth_a_diagonal(node: n.Node) -> bool:
    """Tell whether a node is a function of i - j, heads and tables, and not a cheap one."""
    operations = 0
    stack, seen = [node], set()
    while stack:
        part = stack.pop()
        if part in seen:
            continue
        seen.add(part)
        if _is_difference(part) or set(axes_of(part)) <= {"b", "h"}:
            continue
        if isinstance(part, n.Gather) and "channel" not in part.array.per:
            operations += _CHEAP_OPERATIONS
            stack.extend(part.indices)
        elif isinstance(part, n.Call):
            operations += _CHEAP_OPERATIONS if part.op in COSTLY else 1
            stack.extend(part.args)
        else:
            return False
    return operations >= _CHEAP_OPERATIONS


def _is_difference(node: n.Node) -> bool:
    """Tell whether a node reads i and j as i - j, j - i or their comparison."""
    positions = {n.Index("i"), n.Index("j")}
    ops = ("sub", "lt", "le", "gt", "ge", "eq", "ne")
    return isinstance(node, n.Call) and node.op in ops and set(node.args) == positions
