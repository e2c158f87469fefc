"""Expressions in any notation: names, and operands grouped by how tightly they hold together.

A node that varies over channels is written as a row (q_i) or, inside a sum over channels, channel
by channel (q_ic). Leaves to others: spellings (`notation`), which nodes have names (`layout`), and
how each node is written (`scalars`, `rows`, `weights`).
"""

from collections.abc import Callable, Mapping
from typing import Any

from regard.ir import nodes as n
from regard.ir.printing.layout import LETTERS, RESERVED, Label, Layout
from regard.ir.printing.notation import ATOM, OR, Notation, Piece
from regard.ir.types import axes_of

Write = Callable[["Writer", Any, bool], Piece]


class Writer:
    """Writes the expressions of one layout in one notation.

    Attributes:
        notation: The spellings.
        layout: Which nodes have names.
    """

    def __init__(
        self, layout: Layout, notation: Notation, rules: Mapping[type[n.Node], Write]
    ) -> None:
        """Prepare to write.

        Args:
            layout: Which nodes have names.
            notation: The spellings.
            rules: How each type of node is written.
        """
        self.layout = layout
        self.notation = notation
        self._rules = rules

    def is_named(self, node: n.Node) -> bool:
        """Whether a node is written by its name."""
        return node in self.layout.names

    def label(self, label: Label, channel: bool = False) -> str:
        """Write the name of a part with the axes it varies along, e.g. "score_ij".

        Args:
            label: The name.
            channel: Whether one channel of a row is meant.

        Returns:
            The written name.
        """
        name, axes = self.notation.word(label.base), label.axes
        if axes == "h":
            name, axes = self.notation.brackets(name, ["h"]), ""
        return self.notation.subscript(name, axes + "c" * channel)

    def input_word(self, name: str, bare: bool) -> str:
        """Write the name of an input, told apart from the words of formulas.

        Args:
            name: The input's name.
            bare: Whether it stands without a subscript, as a size does.

        Returns:
            The written name.
        """
        clashes = name in RESERVED and (bare or name not in LETTERS)
        return self.notation.word(name + "′" * clashes)

    def write(self, node: n.Node, channel: bool = False) -> Piece:
        """Write a node, by its name if it has one.

        Args:
            node: Any node.
            channel: Whether to write one channel of it.

        Returns:
            What is written and how tightly it holds together.
        """
        label = self.layout.names.get(node)
        if label is None:
            return self.expand(node, channel)
        return Piece(self.label(label, channel and "c" in axes_of(node)))

    def expand(self, node: n.Node, channel: bool = False) -> Piece:
        """Write what a node is made of, even if it has a name.

        Args:
            node: Any node.
            channel: Whether to write one channel of it.

        Returns:
            What is written and how tightly it holds together.
        """
        return self._rules.get(type(node), _other)(self, node, channel)

    def plain(self, node: n.Node, channel: bool = False) -> str:
        """Write a node where nothing stands beside it, such as between parentheses."""
        return self.write(node, channel).text

    def operand(self, node: n.Node, level: int, channel: bool = False) -> str:
        """Write a node, in parentheses if it holds together less tightly than `level`."""
        return self.notation.group(self.write(node, channel), level)

    def apply(
        self, function: str, over: str, args: list[str], where: n.Node | None = None
    ) -> Piece:
        """Write a function over axes of written arguments, where a condition holds."""
        given = None if where is None else self.operand(where, OR)
        return Piece(self.notation.apply(function, over, args, given))

    def setting(self, word: str, node: n.Node) -> str:
        """Write an argument by its name, e.g. "sink = s[h]"."""
        return self.notation.word(word) + self.notation.signs["is"] + self.plain(node)

    def channel_of(self, row: Piece, channel: bool) -> Piece:
        """Return a written row, or channel c of it."""
        if not channel:
            return row
        return Piece(self.notation.subscript(self.notation.group(row, ATOM), "c"))


def _other(writer: Writer, node: n.Node, channel: bool) -> Piece:
    """Write a node of a derived expression that has no rule of its own."""
    args = [
        writer.plain(value) if isinstance(value, n.Node) else str(value) for value in node.fields()
    ]
    written = writer.apply(type(node).__name__.lower(), "", args)
    return writer.channel_of(written, channel and "c" in axes_of(node))
