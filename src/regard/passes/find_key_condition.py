"""Find what a key must fulfil to be seen by any query at all, from the program alone.

Before: softmax(q·k, where = (j <= i) & keep & (score > 0.5)), keep and score features of keys.
After: keep & (score > 0.5); a key of which it does not hold might as well not be there.
Leaves to others: which keys that are in a call, and leaving out the others (`ops/gather`).
"""

from collections.abc import Iterator
from functools import lru_cache, reduce

from regard.ir import nodes as n
from regard.ir.types import axes_of
from regard.passes.build import both, call, either


@lru_cache(maxsize=1024)
def find_key_condition(root: n.Output, seeded: bool) -> n.Node | None:
    """Return a condition on keys alone without which no query sees a key.

    What is said of a call whose other keys are gone is the same: they count in no row, are ranked
    by no choice and keep their positions. So None is returned for programs that know how many keys
    there are, read the largest number of all, or draw by the number of a key's row.

    Args:
        root: The program.
        seeded: Whether random booleans are drawn.

    Returns:
        The condition, an expression of heads, batch rows and keys that reads no rows of channels;
        None if there is none.
    """
    nodes = n.walk(root)
    if any(_tells_hidden_keys(node, seeded) for node in nodes):
        return None
    admitting = [node for node in nodes if isinstance(node, n.Term | n.TopK | n.Running)]
    conditions = [_of_keys(node.where) for node in admitting]
    # A key matters if one of the terms, or one that chooses or adds up, sees it.
    return reduce(either, conditions)


def _tells_hidden_keys(node: n.Node, seeded: bool) -> bool:
    """Tell whether a node depends on keys that every `where` hides."""
    if isinstance(node, n.KeyMax) or node is n.Index("keys"):
        return True
    return seeded and (
        isinstance(node, n.Dropout) or (isinstance(node, n.Keep) and "j" in node.axes)
    )


def _of_keys(where: n.Node | None) -> n.Node | None:
    """Return those parts of a condition that are conditions on a key."""
    if where is None:
        return None
    return reduce(both, [part for part in _conjuncts(where) if _is_of_key(part)], None)


def _conjuncts(where: n.Node) -> Iterator[n.Node]:
    """Yield conditions that all hold where one holds, in the order in which they are written."""
    stack = [(where, True)]
    while stack:
        node, truth = stack.pop()
        if isinstance(node, n.Call) and node.op == "not":
            stack.append((node.args[0], not truth))
        elif isinstance(node, n.Call) and node.op == ("and" if truth else "or"):
            stack.extend((arg, truth) for arg in reversed(node.args))
        else:
            yield node if truth else call("not", node)


def _is_of_key(condition: n.Node) -> bool:
    axes = set(axes_of(condition))
    if "j" not in axes or not axes <= {"b", "h", "j"}:
        return False
    return not any(isinstance(part, n.Vector | n.Keep) for part in n.walk(condition))
