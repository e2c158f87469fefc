"""Constructors that passes use: the same nodes, with the arithmetic of 0 and 1 done at once.

Leaves to others: rewriting whole programs (`simplify`).
"""

from collections.abc import Mapping

from regard.ir import nodes as n

ZERO = n.Const(0.0)
ONE = n.Const(1.0)


def call(op: str, *args: n.Node | float | int) -> n.Node:
    """Return an operator's node; plain numbers become constants.

    Args:
        op: A name of `operators.OPERATORS`.
        *args: Nodes or numbers.

    Returns:
        The node.
    """
    return n.Call(op, tuple(arg if isinstance(arg, n.Node) else n.Const(arg) for arg in args))


def is_zero(node: n.Node) -> bool:
    """Tell whether a node is the constant 0."""
    return isinstance(node, n.Const) and node.value == 0


def is_one(node: n.Node) -> bool:
    """Tell whether a node is the constant 1."""
    return isinstance(node, n.Const) and node.value == 1


def add(a: n.Node, b: n.Node) -> n.Node:
    """Return a + b."""
    if is_zero(a):
        return b
    return a if is_zero(b) else call("add", a, b)


def mul(a: n.Node, b: n.Node) -> n.Node:
    """Return a · b."""
    if is_zero(a) or is_zero(b):
        return ZERO
    if is_one(a):
        return b
    return a if is_one(b) else call("mul", a, b)


def neg(a: n.Node) -> n.Node:
    """Return -a."""
    return ZERO if is_zero(a) else call("neg", a)


def select(condition: n.Node | None, yes: n.Node) -> n.Node:
    """Return yes where the condition holds and 0 elsewhere; None always holds."""
    return yes if condition is None or is_zero(yes) else call("where", condition, yes, ZERO)


def both(a: n.Node | None, b: n.Node | None) -> n.Node | None:
    """Return the condition that both hold; None always holds."""
    if a is None or a is b:
        return b
    return a if b is None else call("and", a, b)


def either(a: n.Node | None, b: n.Node | None) -> n.Node | None:
    """Return the condition that one holds; None always holds."""
    if a is None or b is None:
        return None
    return a if a is b else call("or", a, b)


def substitute(root: n.Node, new: Mapping[n.Node, n.Node]) -> n.Node:
    """Return the graph with some nodes replaced; what replaces them is not looked into.

    Args:
        root: Where to start.
        new: What to replace, by node.

    Returns:
        The rewritten root.
    """
    done = dict(new)
    for node in n.walk(root):
        if node not in done:
            done[node] = n.rebuild(node, done)
    return done[root]
