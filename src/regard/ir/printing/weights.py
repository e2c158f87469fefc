"""How weights, random draws and the output are written, and all lines of a formula.

Leaves to others: scalar operators (`scalars`) and rows (`rows`).
"""

from regard.ir import nodes as n
from regard.ir.printing.layout import Layout
from regard.ir.printing.notation import ADD, CHOICE, DIVIDE, OR, SUM, Notation, Piece
from regard.ir.printing.rows import ROWS
from regard.ir.printing.scalars import SCALARS, multiply
from regard.ir.printing.writer import Write, Writer


def _keep(writer: Writer, node: n.Keep, channel: bool) -> Piece:
    return writer.apply("keep", node.axes, [writer.plain(node.p), *_draw(writer, node)])


def _dropout(writer: Writer, node: n.Dropout, channel: bool) -> Piece:
    args = [writer.plain(node.weights), writer.plain(node.p), *_draw(writer, node)]
    return writer.apply("dropout", "", args)


def _draw(writer: Writer, node: n.Keep | n.Dropout) -> list[str]:
    if not writer.layout.several_draws:
        return []
    return [writer.notation.word("draw") + writer.notation.signs["is"] + str(node.place)]


def _topk(writer: Writer, node: n.TopK, channel: bool) -> Piece:
    return writer.apply("topk", "j", [writer.plain(node.score), writer.plain(node.k)], node.where)


def _softmax(writer: Writer, node: n.Softmax, channel: bool) -> Piece:
    sink = [] if node.sink is None else [writer.setting("sink", node.sink)]
    return writer.apply("softmax", "j", [writer.plain(node.score), *sink], node.where)


def _entmax(writer: Writer, node: n.Entmax, channel: bool) -> Piece:
    score = writer.plain(node.score)
    if node.alpha in (n.Const(2), n.Const(2.0)):
        return writer.apply("sparsemax", "j", [score], node.where)
    return writer.apply("entmax", "j", [score, writer.setting("alpha", node.alpha)], node.where)


def _weigh(writer: Writer, node: n.Weigh, channel: bool) -> Piece:
    return _where_seen(writer, writer.write(node.weight), node.where)


def _ratio(writer: Writer, node: n.Ratio, channel: bool) -> Piece:
    notation = writer.notation
    if node.where is None:
        under = Piece(notation.total("j") + writer.operand(node.den, DIVIDE), SUM)
    else:
        seen = writer.apply("", "", [writer.plain(node.den)], node.where).text
        under = Piece(notation.total("j").rstrip(" ") + seen)
    if not _is_zero(node.add):
        added = notation.group(_scaled(writer, node.add, node.scaled), ADD)
        under = Piece(under.text + notation.signs["add"] + added, ADD)
    if not _is_zero(node.at_least):
        bound = _scaled(writer, node.at_least, node.scaled).text
        under = writer.apply("max", "", [under.text, bound])
    return _where_seen(writer, notation.fraction(writer.write(node.num), under), node.where)


def _scaled(writer: Writer, node: n.Node, scaled: bool) -> Piece:
    return writer.apply("scaled", "", [writer.plain(node)]) if scaled else writer.write(node)


def _is_zero(node: n.Node) -> bool:
    return isinstance(node, n.Const) and node.value == 0


def _where_seen(writer: Writer, weight: Piece, where: n.Node | None) -> Piece:
    if where is None:
        return weight
    seen = writer.operand(where, OR)
    return Piece(writer.notation.choice(writer.notation.group(weight, OR), seen, "0"), CHOICE)


def _map(writer: Writer, node: n.Map, channel: bool) -> Piece:
    if not writer.layout.open_maps:
        return writer.write(node.body)
    variable = writer.label(writer.layout.names[n.MAPPED])
    setting = variable + writer.notation.signs["is"] + writer.plain(node.weights)
    return writer.apply("map", "", [writer.plain(node.body), setting])


def _output(writer: Writer, node: n.Output, channel: bool) -> Piece:
    product = multiply(writer, node.weights, node.values, False)
    return Piece(writer.notation.total("j") + writer.notation.group(product, DIVIDE), SUM)


WEIGHTS: dict[type[n.Node], Write] = {
    n.Keep: _keep, n.Dropout: _dropout, n.TopK: _topk, n.Softmax: _softmax, n.Entmax: _entmax,
    n.Weigh: _weigh, n.Ratio: _ratio, n.Map: _map, n.Output: _output,
}  # fmt: skip


def written_lines(layout: Layout, notation: Notation) -> list[tuple[str, str]]:
    """Write every line of a layout.

    Args:
        layout: Which parts have names, and in which order they are defined.
        notation: How to spell them.

    Returns:
        A written name and what it stands for, line by line; the last is the result.
    """
    writer = Writer(layout, notation, SCALARS | ROWS | WEIGHTS)
    lines = []
    for label, node in layout.lines:
        is_definition = layout.names.get(node, label) == label
        piece = writer.expand(node) if is_definition else writer.write(node)
        lines.append((writer.label(label), piece.text))
    return lines
