"""Write weights as a sum of parts: (a row's number) · (a pair's number).

Before: softmax a - share · softmax b, that is p:a · r:a - share · (p:b · r:b).
After: parts (r:a, p:a, of term a) and (-share · r:b, p:b, of term b).
A sweep can then sum every part's pair numbers times values before the row's numbers are known, and
join the sums after it. Leaves to others: sums and maxima themselves (`lower`).
"""

from dataclasses import dataclass

from regard.ir import nodes as n
from regard.ir.types import axes_of
from regard.passes.build import ONE, ZERO, call, mul, neg, select


@dataclass(frozen=True)
class Part:
    """One part of the weights.

    Attributes:
        row: What the summed row is multiplied by.
        pair: What values are multiplied by; reads no row sum.
        terms: The terms whose exp(-m) is a factor of it.
    """

    row: n.Node
    pair: n.Node
    terms: tuple[str, ...] = ()

    @property
    def powers(self) -> dict[str, int] | None:
        """To which power each term's r is a factor of `row`; None if it is more than a factor."""
        return _powers(self.row)


def linear_parts(weights: n.Node, atoms: dict[n.Node, str]) -> list[Part] | None:
    """Split weights into parts.

    Args:
        weights: The final weights of a lowered program.
        atoms: The holes that stand for a term's numerator, and the term whose shift scales it, or
            "" if nothing does.

    Returns:
        The parts, or None if a row sum must be known before values can be weighed.
    """
    # Weights are trees of a few operators; their depth is that of the algebra a person wrote.
    if weights in atoms:
        return [Part(ONE, weights, (atoms[weights],) if atoms[weights] else ())]
    if isinstance(weights, n.Call):
        found = _of_call(weights, atoms)
        if found is not None:
            return found
    return [Part(ONE, weights)] if _is_plain(weights, atoms) else None


def _of_call(node: n.Call, atoms: dict[n.Node, str]) -> list[Part] | None:
    if node.op in ("add", "sub") and _is_plain(node, atoms):
        # What a pair knows at once is one number, however it is made up.
        return [Part(ONE, node)]
    if node.op in ("add", "sub", "neg"):
        sides = [linear_parts(arg, atoms) for arg in node.args]
        if any(side is None for side in sides):
            return None
        parts = [part for side in sides[:-1] for part in side or ()]
        last = sides[-1] or []
        if node.op != "add":
            last = [Part(neg(part.row), part.pair, part.terms) for part in last]
        return parts + last
    if node.op in ("mul", "div"):
        return _of_product(node, atoms)
    if node.op == "where" and node.args[2] is ZERO and "j" in axes_of(node):
        parts = linear_parts(node.args[1], atoms)
        return parts and [Part(p.row, select(node.args[0], p.pair), p.terms) for p in parts]
    return None


def _of_product(node: n.Call, atoms: dict[n.Node, str]) -> list[Part] | None:
    left, right = node.args
    if node.op == "mul" and (_is_row(left) or (_is_plain(left, atoms) and not _is_row(right))):
        left, right = right, left
    parts = linear_parts(left, atoms)
    if parts is None:
        return None
    if _is_row(right):
        return [Part(_join(node.op, p.row, right), p.pair, p.terms) for p in parts]
    if _is_plain(right, atoms):
        return [Part(p.row, _join(node.op, p.pair, right), p.terms) for p in parts]
    others = linear_parts(right, atoms) if node.op == "mul" else None
    if others is None or any(set(p.terms) & set(o.terms) for p in parts for o in others):
        return None
    return [
        Part(mul(p.row, o.row), mul(p.pair, o.pair), p.terms + o.terms)
        for p in parts
        for o in others
    ]


def _powers(row: n.Node) -> dict[str, int] | None:
    """Return to which power each term's r is a factor of a row's number."""
    match row:
        case n.Hole() if row.name.startswith("r:"):
            return {row.name[2:]: 1}
        case n.Call(op="neg", args=(inside,)):
            return _powers(inside)
        case n.Call(op="mul", args=(a, b)):
            left, right = _powers(a), _powers(b)
            if left is None or right is None:
                return None
            return {x: left.get(x, 0) + right.get(x, 0) for x in {**left, **right}}
        case n.Call(op="div", args=(above, below)):
            return None if _reads_inverse(below) else _powers(above)
    return None if _reads_inverse(row) else {}


def _reads_inverse(row: n.Node) -> bool:
    return any(isinstance(part, n.Hole) and part.name.startswith("r:") for part in n.walk(row))


def _join(op: str, a: n.Node, b: n.Node) -> n.Node:
    """Return a product or quotient."""
    return mul(a, b) if op == "mul" else call(op, a, b)


def _is_row(node: n.Node) -> bool:
    return "j" not in axes_of(node)


def _is_plain(node: n.Node, atoms: dict[n.Node, str]) -> bool:
    """Tell whether a node reads nothing that a sweep finds: no numerator, maximum or row sum."""
    for part in n.walk(node):
        if part in atoms:
            return False
        if isinstance(part, n.Hole) and part.name.partition(":")[0] in ("m", "s", "r", "x"):
            return False
    return True
