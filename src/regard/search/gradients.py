"""Whether values and gradients of a program stay finite: no operator stands near one of its poles.

Before: log(q·k), and log(1 + exp(-|q·k|)).
After: the first is refused, because its argument may be 0; the second has an argument above 1.
It goes by bounds that hold for all finite inputs; what they do not show is refused. Leaves to
others: the bounds (`passes/bound_scores`).
"""

import math
from collections.abc import Callable, Iterator

from regard.ir import nodes as n
from regard.ir.types import type_of
from regard.passes.bound_scores import Bounds, bound_of, bounds_within

# exp of more is infinite in single precision.
_MOST_EXPONENT = 80.0
_LEAST_ALPHA, _MOST_ALPHA = 1.05, 4.0
_SATURATED = 1e-4
# Where a pair is computed there is a query and a key, and it is counted.
_KNOWN: dict[n.Node, Bounds] = {
    **{n.Index(name): (1.0, math.inf) for name in ("keys", "queries", "heads", "width")},
    n.Visible(): (1.0, math.inf),
}


def find_poles(root: n.Output) -> list[str]:
    """Return why values or gradients of a program might become infinite or NaN.

    Args:
        root: The program.

    Returns:
        One sentence a place, without full stop; none if all stay finite for finite inputs that
        are not so large that products of rows overflow.
    """
    bounds = bounds_within(root, _known_of(root))
    unscaled = set(_outside_scaled(root))
    found = []
    for node in n.walk(root):
        parts = [bounds[child] for child in n.children(node)]
        why = _RULES[type(node)](node, parts) if type(node) in _RULES else None
        if why is None and isinstance(node, n.Call) and node.op == "exp" and node in unscaled:
            if parts[0][1] > _MOST_EXPONENT:
                why = f"exp of what may exceed {_MOST_EXPONENT:g} overflows"
        if why is not None:
            found.append(why)
    return list(dict.fromkeys(found))


def sum_may_vanish(ratio: n.Ratio) -> bool:
    """Tell whether a ratio may divide by 0.

    Args:
        ratio: The term.

    Returns:
        False only if it is certain that it does not.
    """
    bounds = bounds_within(ratio, _known_of(ratio))
    return _ratio(ratio, [bounds[child] for child in n.children(ratio)]) is not None


def _known_of(root: n.Node) -> dict[n.Node, Bounds]:
    """Return what is known beside the operators.

    A row has one channel at least, and what is learned stays so moderate that a sigmoid of it
    alone is neither 0 nor 1.
    """
    known = dict(_KNOWN)
    for node in n.walk(root):
        if isinstance(node, n.Reduce):
            low = bound_of(node.body, known)[0]
            if low > 0:
                known[node] = (low, math.inf)
        elif isinstance(node, n.Call) and node.op == "sigmoid" and _is_learned(node):
            known[node] = (_SATURATED, 1 - _SATURATED)
    return known


def _is_learned(node: n.Node) -> bool:
    leaves = (part for part in n.walk(node) if not list(n.children(part)))
    return all(isinstance(leaf, n.Array | n.Const) for leaf in leaves)


def _outside_scaled(root: n.Output) -> Iterator[n.Node]:
    """Yield what is computed as it is written, and not times exp(-m) of a ratio."""
    seen: set[n.Node] = set()
    stack: list[n.Node] = [root]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        yield node
        hidden = (node.num, node.den) if isinstance(node, n.Ratio) and node.scaled else ()
        stack.extend(child for child in n.children(node) if child not in hidden)


def _zero_inside(bounds: Bounds) -> bool:
    return bounds[0] <= 0 <= bounds[1]


def _constant(node: n.Node, _: list[Bounds]) -> str | None:
    assert isinstance(node, n.Const)
    return "an infinite constant; hide pairs by where" if math.isinf(node.value) else None


def _call(node: n.Node, parts: list[Bounds]) -> str | None:
    assert isinstance(node, n.Call)
    # Whole numbers have no gradient, and their division by zero is caught by the verifier.
    match node.op:
        case "log" | "sqrt" if parts[0][0] <= 0:
            return f"the argument of {node.op} may be 0 or less; add a small positive number"
        case "div" if _zero_inside(parts[1]):
            return "a divisor may be 0; add a small positive number to one that is not negative"
        case "mod" | "floordiv" if type_of(node).kind == "float" and _zero_inside(parts[1]):
            return f"the second argument of {node.op} may be 0"
        case "pow":
            return _power(node, parts)
    return None


def _power(node: n.Call, parts: list[Bounds]) -> str | None:
    exponent = node.args[1]
    whole = isinstance(exponent, n.Const) and exponent.value in (1, 2, 3, 4)
    if whole or parts[0][0] > 0:
        return None
    return "a power of what may be 0 or less; add a small positive number"


def _ratio(node: n.Node, parts: list[Bounds]) -> str | None:
    assert isinstance(node, n.Ratio)
    bounds = dict(zip(n.children(node), parts, strict=True))
    den, add, least = (bounds[one] for one in (node.den, node.add, node.at_least))
    if least[0] > 0 or (den[0] >= 0 and add[0] > 0) or (den[0] > 0 and add[0] >= 0):
        return None
    return "the row sum of a ratio may be 0; give at_least a small positive number"


def _entmax(node: n.Node, parts: list[Bounds]) -> str | None:
    assert isinstance(node, n.Entmax)
    low, high = dict(zip(n.children(node), parts, strict=True))[node.alpha]
    if low >= _LEAST_ALPHA and high <= _MOST_ALPHA:
        return None
    return f"alpha of entmax may leave {_LEAST_ALPHA} … {_MOST_ALPHA:g}"


_RULES: dict[type[n.Node], Callable[[n.Node, list[Bounds]], str | None]] = {
    n.Const: _constant,
    n.Call: _call,
    n.Ratio: _ratio,
    n.Entmax: _entmax,
}
