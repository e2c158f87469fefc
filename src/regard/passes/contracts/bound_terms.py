"""Between which numbers the scores of a program lie, pair by pair.

Before: softmax(where(j <= i, 10 · u·w, -inf)), u and w of length at most 1.
After: a in -10 … 10: a pair whose score is -inf is hidden, and has none.
Leaves to others: bounds of operators (`bound_scores`).
"""

import math

from regard.ir import nodes as n
from regard.passes.bound_scores import Bounds, bound_of


def bound_terms(root: n.Output) -> dict[str, Bounds]:
    """Return the bounds of each term's numbers, by the term's name.

    Args:
        root: The program.

    Returns:
        Of softmax and entmax those of the score, of ratio those of num and den together, of weigh
        those of the weight. NaN lies in no bounds.
    """
    found = {}
    for term in n.walk(root):
        match term:
            case n.Softmax() | n.Entmax():
                found[term.name] = bound_number(_visible(term.score))
            case n.Ratio():
                (a, b), (c, d) = bound_number(term.num), bound_number(term.den)
                found[term.name] = min(a, c), max(b, d)
            case n.Weigh():
                found[term.name] = bound_number(term.weight)
    return found


def bound_number(node: n.Node) -> Bounds:
    """Return the bounds of a number.

    Args:
        node: An expression without channels.

    Returns:
        As `bound_of`, which does not know that rows of length 1 have products within -1 … 1.
    """
    known = {part: (-1.0, 1.0) for part in n.walk(node) if _is_product_of_units(part)}
    return bound_of(node, known)


def _visible(score: n.Node) -> n.Node:
    """Return a score without its choices of -inf, which hide a pair."""
    while isinstance(score, n.Call) and score.op == "where":
        _, yes, no = score.args
        if _is_minus_infinity(no):
            score = yes
        elif _is_minus_infinity(yes):
            score = no
        else:
            break
    return score


def _is_minus_infinity(node: n.Node) -> bool:
    return isinstance(node, n.Const) and node.value == -math.inf


# ── The inequality of Cauchy and Schwarz ─────────────────────────────────────────────────────
def _is_product_of_units(node: n.Node) -> bool:
    if not isinstance(node, n.Reduce) or not isinstance(node.body, n.Call):
        return False
    return node.body.op == "mul" and all(_is_unit(arg) for arg in node.body.args)


def _is_unit(row: n.Node) -> bool:
    """Tell whether a row, turned or not, is x / sqrt(x·x + e) or x / max(sqrt(x·x), e)."""
    while isinstance(row, n.Rotate):
        row = row.rows
    if not isinstance(row, n.Call) or row.op != "div":
        return False
    x, length = row.args
    if isinstance(length, n.Call) and length.op == "max":
        length = length.args[0]
    if not isinstance(length, n.Call) or length.op != "sqrt":
        return False
    (square,) = length.args
    if isinstance(square, n.Call) and square.op in ("add", "max"):
        square, more = square.args
        if not (isinstance(more, n.Const) and more.value >= 0):
            return False
    return isinstance(square, n.Reduce) and _is_square(square.body, x)


def _is_square(node: n.Node, x: n.Node) -> bool:
    if not isinstance(node, n.Call):
        return False
    twice = node.op == "mul" and node.args[0] is x and node.args[1] is x
    exponent = node.args[-1]
    power = node.op == "pow" and node.args[0] is x and isinstance(exponent, n.Const)
    return twice or (power and isinstance(exponent, n.Const) and exponent.value == 2)
