"""Find which inputs of a program are used as conditions and which as indices.

Before: softmax(q·k + table[kind], where = real).
After: conditions {real}, indices {kind}; of the other inputs any number may be given.
Leaves to others: what follows (stand-ins for inputs, how a kernel reads them).
"""

from regard.ir import nodes as n


def find_uses(root: n.Node) -> tuple[set[n.Node], set[n.Node]]:
    """Return the leaves that are conditions, and those that are indices.

    Args:
        root: The program.

    Returns:
        Two sets of leaves; an indexed array counts as what its elements are.
    """
    conditions: set[n.Node] = set()
    indices: set[n.Node] = set()
    for node in n.walk(root):
        if isinstance(node, n.Gather):
            indices.update(node.indices)
        elif isinstance(node, n.Call) and node.op in ("and", "or", "not", "where"):
            conditions.update(node.args[:1] if node.op == "where" else node.args)
        elif isinstance(node, n.Term | n.TopK | n.Running) and node.where is not None:
            conditions.add(node.where)
    return _arrays(conditions), _arrays(indices)


def _arrays(nodes: set[n.Node]) -> set[n.Node]:
    return {node.array if isinstance(node, n.Gather) else node for node in nodes}
