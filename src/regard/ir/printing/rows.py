"""How sums over channels, running sums and operations on rows are written.

Leaves to others: scalar operators (`scalars`) and weights (`weights`).
"""

from regard.ir import nodes as n
from regard.ir.printing.notation import ATOM, DOT, MULTIPLY, POWER, SUM, Piece
from regard.ir.printing.scalars import squared_row, write_array
from regard.ir.printing.writer import Write, Writer
from regard.ir.types import axes_of


def _reduce(writer: Writer, node: n.Reduce, channel: bool) -> Piece:
    row = squared_row(writer, node)
    if row is not None:
        norm = Piece(writer.notation.fence("norm", writer.plain(row)))
        return writer.notation.power(norm, Piece("2"))
    body = node.body
    if node.axes == "c" and isinstance(body, n.Call) and _is_dot(writer, body):
        left, right = (writer.operand(arg, POWER) for arg in body.args)
        return Piece(left + writer.notation.signs["dot"] + right, DOT)
    added = writer.operand(body, SUM, channel or "c" in node.axes)
    return Piece(writer.notation.total(node.axes) + added, SUM)


def _is_dot(writer: Writer, body: n.Call) -> bool:
    if body.op != "mul" or writer.is_named(body):
        return False
    return all("c" in axes_of(arg) and _is_factor(writer, arg) for arg in body.args)


def _is_factor(writer: Writer, node: n.Node) -> bool:
    """Whether a node reads well beside the dot: no channel number in it, no product of rows."""
    if writer.is_named(node) or not isinstance(node, n.Call):
        return not isinstance(node, n.Channel)
    if node.op == "mul" and all("c" in axes_of(arg) for arg in node.args):
        return False
    return all(_is_factor(writer, arg) for arg in node.args)


def _rotate(writer: Writer, node: n.Rotate, channel: bool) -> Piece:
    args = [writer.plain(node.rows), writer.plain(node.angle)]
    if node.pairs != "halves":
        args.append(writer.notation.word(node.pairs))
    return writer.channel_of(writer.apply("rotate", "", args), channel)


def _slice(writer: Writer, node: n.Slice, channel: bool) -> Piece:
    part = f"{node.start or ''}:{'' if node.stop is None else node.stop}"
    written = writer.notation.brackets(writer.operand(node.rows, ATOM), [part])
    return writer.channel_of(Piece(written), channel)


def _project(writer: Writer, node: n.Project | n.Unproject, channel: bool) -> Piece:
    matrix = write_array(writer, node.matrix, False).text
    if isinstance(node, n.Unproject):
        matrix += writer.notation.signs["transposed"]
    product = writer.notation.product(writer.operand(node.rows, MULTIPLY), matrix)
    return writer.channel_of(Piece(product, MULTIPLY), channel)


def _key_max(writer: Writer, node: n.KeyMax, channel: bool) -> Piece:
    return writer.apply("max", "j", [writer.plain(node.rows, channel)])


def _running(writer: Writer, node: n.Running, channel: bool) -> Piece:
    words = [word for word in ("reverse", "exclusive") if getattr(node, word)]
    args = [writer.plain(node.body), *map(writer.notation.word, words)]
    return writer.apply("running", "j", args, node.where)


def _widen(writer: Writer, node: n.Widen, channel: bool) -> Piece:
    return writer.write(node.rows, channel)


ROWS: dict[type[n.Node], Write] = {
    n.Reduce: _reduce, n.Rotate: _rotate, n.Slice: _slice, n.Project: _project,
    n.Unproject: _project, n.KeyMax: _key_max, n.Running: _running, n.Widen: _widen,
}  # fmt: skip
