"""Count what expressions cost at one pair: functions, simple operations, products of rows.

Before: tanh(dot(q, k) / 5) · 5 - slope · |i - j|, with 64 channels.
After: 64 multiply-adds; tanh, worth 1.1 exponentials; 6 simple operations.

Leaves to others: how many pairs there are and how expressions are shared out over sweeps (the
backends), and how long any of it takes (`ops/predict`).
"""

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass

from regard.ir import nodes as n

# What functions cost in exponentials, in the kernels of the cpu backend on AVX2.
_FUNCTIONS = {
    "exp": 1.0, "log": 1.2, "sqrt": 0.5, "tanh": 1.1, "sigmoid": 1.2, "softplus": 2.2, "erf": 1.5,
    "cos": 1.2, "sin": 1.2, "pow": 3.0, "floordiv": 0.6, "mod": 0.6, "div": 0.3,
}  # fmt: skip
# What else costs more than one simple operation.
_GATHERED, _DRAWN, _ADDED_UP = 6.0, 30.0, 3.0


@dataclass(frozen=True)
class Work:
    """What a call costs, counted.

    Attributes:
        products: Multiply-adds of rows with rows.
        functions: Exponentials, and other functions in so many exponentials.
        operations: Other operators, each at one pair, or at one channel of one pair.
        bytes: Bytes read and written that are not in a cache.
        pieces: Pieces that the work is cut into, each of which is started: tiles, or operators.
        calls: Calls of a backend.
        gradients: Calls whose gradient is wanted.
    """

    products: float = 0.0
    functions: float = 0.0
    operations: float = 0.0
    bytes: float = 0.0
    pieces: float = 0.0
    calls: float = 0.0
    gradients: float = 0.0

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def times(self, factor: float) -> "Work":
        """Return so many times the work.

        Args:
            factor: How many times.

        Returns:
            The work.
        """
        return Work(*(factor * one for one in astuple(self)))


def count_scalars(
    roots: Iterable[n.Node], skip: Callable[[n.Node], bool] = lambda node: False
) -> Work:
    """Count the operators of expressions, each distinct one once.

    Args:
        roots: Expressions of one pair, or of one channel of one pair.
        skip: Tells which nodes are not computed there; they are not looked into.

    Returns:
        Functions and operations.
    """
    return sum((count_scalar(node) for node in visited(roots, skip)), Work())


def count_scalar(node: n.Node) -> Work:
    """Count a node by itself, without what it is made of.

    Args:
        node: A node of an expression of one pair.

    Returns:
        A function or operations; nothing for a leaf.
    """
    match node:
        case n.Call(op="div", args=(_, n.Const())):
            return Work(operations=1.0)
        case n.Call():
            cost = _FUNCTIONS.get(node.op)
            return Work(operations=1.0) if cost is None else Work(functions=cost)
        case n.Gather() | n.Pick():
            return Work(operations=_GATHERED)
        case n.Keep():
            return Work(operations=_DRAWN)
        case n.Running():
            return Work(operations=_ADDED_UP)
    return Work()


def visited(roots: Iterable[n.Node], skip: Callable[[n.Node], bool]) -> list[n.Node]:
    """Return the nodes that expressions are made of, each once.

    Args:
        roots: The expressions.
        skip: Tells which nodes are left out, with what they are made of.

    Returns:
        The nodes, in no particular order.
    """
    found: dict[n.Node, None] = {}
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node not in found and not skip(node):
            found[node] = None
            stack.extend(n.children(node))
    return list(found)
