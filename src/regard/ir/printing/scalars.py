"""How leaves and scalar operators are written.

Leaves to others: rows and sums over channels (`rows`), and weights (`weights`).
"""

from collections.abc import Callable

from regard.ir import nodes as n
from regard.ir.printing.layout import Label
from regard.ir.printing.notation import (
    ADD,
    AND,
    ATOM,
    CHOICE,
    COMPARE,
    DIVIDE,
    MULTIPLY,
    NEGATIVE,
    OR,
    POWER,
    SIGNED,
    SUM,
    Piece,
)
from regard.ir.printing.writer import Write, Writer
from regard.ir.types import SIDE_AXES, axes_of

_INDEX_LETTERS = {
    "i": "i", "j": "j", "head": "h", "heads": "H", "batch": "b", "queries": "N", "keys": "M",
    "width": "D",
}  # fmt: skip
# The level of an infix operator, and the least its operands must have to need no parentheses.
_INFIX = {
    "add": (ADD, ADD, ADD), "sub": (ADD, ADD, SUM), "mod": (DIVIDE, POWER, POWER),
    "and": (AND, AND, AND), "or": (OR, OR, OR),
    **{op: (COMPARE, ADD, ADD) for op in ("lt", "le", "gt", "ge", "eq", "ne")},
}  # fmt: skip


def _const(writer: Writer, node: n.Const, channel: bool) -> Piece:
    return writer.notation.number(node.value)


def _index(writer: Writer, node: n.Index, channel: bool) -> Piece:
    letter = _INDEX_LETTERS.get(node.name)
    return Piece(letter) if letter else Piece(writer.label(Label("row", node.name[-1])))


def _visible(writer: Writer, node: n.Visible, channel: bool) -> Piece:
    return Piece(writer.label(Label("visible", "i")))


def _token(writer: Writer, node: n.Vector | n.Feature, channel: bool) -> Piece:
    axes = SIDE_AXES[node.side][-1] + "c" * (channel and isinstance(node, n.Vector))
    return Piece(writer.notation.subscript(writer.input_word(node.name, bare=False), axes))


def _pair_input(writer: Writer, node: n.PairInput, channel: bool) -> Piece:
    return Piece(writer.notation.subscript(writer.input_word(node.name, bare=False), "ij"))


def _scalar(writer: Writer, node: n.Scalar, channel: bool) -> Piece:
    return Piece(writer.input_word(node.name, bare=True))


def write_array(writer: Writer, node: n.Array, channel: bool) -> Piece:
    """Write an array that needs no index, e.g. "slope[h]".

    Args:
        writer: What writes the rest.
        node: The array.
        channel: Whether to write one channel of it.

    Returns:
        The written array.
    """
    return _element(writer, node, [], channel)


def _gather(writer: Writer, node: n.Gather, channel: bool) -> Piece:
    return _element(writer, node.array, [writer.plain(index) for index in node.indices], channel)


def _element(writer: Writer, array: n.Array, indices: list[str], channel: bool) -> Piece:
    rest = iter(indices)
    axes = [axis for axis in array.per if axis != "channel"]
    items = ["h" if axis == "head" else next(rest, ":") for axis in axes]
    written = writer.input_word(array.name, bare=True)
    if items:
        written = writer.notation.brackets(written, items)
    return writer.channel_of(Piece(written), channel and "channel" in array.per)


def _channel(writer: Writer, node: n.Channel, channel: bool) -> Piece:
    return Piece("c")


def _hole(writer: Writer, node: n.Hole, channel: bool) -> Piece:
    word = "row" if node is n.SUMMED else node.name
    axes = "" if node is n.SUMMED else "".join(axis for axis in node.axes if axis in "ij")
    return Piece(writer.label(Label(word, axes), channel and "c" in node.axes))


def _call(writer: Writer, node: n.Call, channel: bool) -> Piece:
    if node.op in _INFIX:
        return _infix(writer, node, channel)
    special = _CALLS.get(node.op)
    if special is not None:
        return special(writer, *node.args, channel)
    return writer.apply(node.op, "", [writer.plain(arg, channel) for arg in _flat(writer, node)])


def _flat(writer: Writer, node: n.Call) -> list[n.Node]:
    """Return the arguments of min(min(a, b), c) as a, b, c."""
    first = node.args[0]
    nested = isinstance(first, n.Call) and first.op == node.op and not writer.is_named(first)
    if nested and node.op in ("min", "max"):
        assert isinstance(first, n.Call)
        return [*_flat(writer, first), *node.args[1:]]
    return list(node.args)


def _infix(writer: Writer, node: n.Call, channel: bool) -> Piece:
    level, at_left, at_right = _INFIX[node.op]
    left = writer.operand(node.args[0], at_left, channel)
    right = writer.operand(node.args[1], at_right, channel)
    signs = writer.notation.signs
    if node.op == "add" and right.startswith(signs["neg"]):
        return Piece(left + signs["sub"] + right.removeprefix(signs["neg"]), level)
    return Piece(left + signs[node.op] + right, level)


def multiply(writer: Writer, left: n.Node, right: n.Node, channel: bool) -> Piece:
    """Write a product: u², rows channel by channel, or factors side by side, a number first.

    Args:
        writer: What writes the rest.
        left: A factor.
        right: A factor.
        channel: Whether to write one channel of it.

    Returns:
        The written product.
    """
    if left is right:
        return writer.notation.power(writer.write(left, channel), Piece("2"))
    if isinstance(right, n.Const) and not isinstance(left, n.Const):
        left, right = right, left
    second = writer.operand(right, MULTIPLY, channel)
    if not channel and "c" in axes_of(left) and "c" in axes_of(right):
        sign = writer.notation.signs["rows"]
        return Piece(writer.operand(left, MULTIPLY) + sign + second, MULTIPLY)
    first = writer.write(left, channel)
    level = SIGNED if first.level == SIGNED else MULTIPLY
    return Piece(writer.notation.product(writer.notation.group(first, level), second), level)


def _divide(writer: Writer, over: n.Node, under: n.Node, channel: bool) -> Piece:
    return writer.notation.fraction(writer.write(over, channel), writer.write(under, channel))


def _floordiv(writer: Writer, over: n.Node, under: n.Node, channel: bool) -> Piece:
    return Piece(writer.notation.fence("floor", _divide(writer, over, under, channel).text))


def _pow(writer: Writer, base: n.Node, exponent: n.Node, channel: bool) -> Piece:
    return writer.notation.power(writer.write(base, channel), writer.write(exponent, channel))


def _neg(writer: Writer, x: n.Node, channel: bool) -> Piece:
    inside = writer.write(x, channel)
    # What gets parentheses is as tight as can be.
    signed = inside.level >= MULTIPLY or inside.level < SUM
    written = writer.notation.signs["neg"] + writer.notation.group(inside, SUM)
    return Piece(written, SIGNED if signed else NEGATIVE)


def _not(writer: Writer, x: n.Node, channel: bool) -> Piece:
    return Piece(writer.notation.signs["not"] + writer.operand(x, ATOM, channel), POWER)


def _where(writer: Writer, condition: n.Node, yes: n.Node, no: n.Node, channel: bool) -> Piece:
    parts = [
        writer.operand(yes, OR, channel),
        writer.operand(condition, OR, channel),
        writer.operand(no, CHOICE, channel),
    ]
    return Piece(writer.notation.choice(*parts), CHOICE)


def _abs(writer: Writer, x: n.Node, channel: bool) -> Piece:
    return Piece(writer.notation.fence("abs", writer.plain(x, channel)))


def _floor(writer: Writer, x: n.Node, channel: bool) -> Piece:
    return Piece(writer.notation.fence("floor", writer.plain(x, channel)))


def _sqrt(writer: Writer, x: n.Node, channel: bool) -> Piece:
    if isinstance(x, n.Reduce) and not writer.is_named(x):
        row = squared_row(writer, x)
        if row is not None:
            return Piece(writer.notation.fence("norm", writer.plain(row)))
    return writer.notation.root(writer.write(x, channel))


def squared_row(writer: Writer, node: n.Reduce) -> n.Node | None:
    """Return u if the node is the sum over channels of u · u or u².

    Args:
        writer: Knows which nodes are written by their names.
        node: A sum.

    Returns:
        The row, or None.
    """
    body = node.body
    if node.axes != "c" or writer.is_named(body) or not isinstance(body, n.Call):
        return None
    if body.op == "mul" and body.args[0] is body.args[1]:
        return body.args[0]
    squared = body.op == "pow" and body.args[1] in (n.Const(2), n.Const(2.0))
    return body.args[0] if squared else None


_CALLS: dict[str, Callable[..., Piece]] = {
    "mul": multiply, "div": _divide, "floordiv": _floordiv, "pow": _pow, "neg": _neg, "not": _not,
    "where": _where, "abs": _abs, "floor": _floor, "sqrt": _sqrt,
}  # fmt: skip
SCALARS: dict[type[n.Node], Write] = {
    n.Const: _const, n.Index: _index, n.Visible: _visible, n.Vector: _token, n.Feature: _token,
    n.Array: write_array, n.Scalar: _scalar, n.PairInput: _pair_input, n.Channel: _channel,
    n.Hole: _hole, n.Call: _call, n.Gather: _gather,
}  # fmt: skip
