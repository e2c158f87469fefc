"""Hide further pairs of a finished program, or drop its weights, without touching what it says.

Before: softmax(score, j <= i).   After: softmax(score, (j <= i) & mask).
Models bring padding and dropout of their own; a program need not know of them.
"""

from dataclasses import replace

from regard.ir import nodes as n
from regard.passes.build import both


def restrict_where(root: n.Output, condition: n.Node) -> n.Output:
    """Return the program with a condition added to every `where`.

    Args:
        root: The program.
        condition: What must hold as well, e.g. a `PairInput`.

    Returns:
        The restricted program.
    """

    def change(node: n.Node) -> n.Node | None:
        if isinstance(node, n.Term | n.TopK | n.Running):
            return replace(node, where=both(node.where, condition))
        return None

    restricted = n.rewrite(root, change)
    assert isinstance(restricted, n.Output)
    return restricted


def drop_weights(root: n.Output, p: n.Node) -> n.Output:
    """Return the program with dropout on its final weights.

    Args:
        root: The program.
        p: The probability of dropping.

    Returns:
        The program; its draws do not collide with those already in it.
    """
    places = [node.place for node in n.walk(root) if isinstance(node, n.Keep | n.Dropout)]
    return n.Output(
        n.Dropout(root.weights, p, max(places, default=-1) + 1), root.values, root.finish
    )
