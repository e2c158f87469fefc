"""The last line of a program: normalised weights, their algebra, and the output.

Leaves to others: what the terms mean (`reference`) and how they run (`backends`).
"""

from collections.abc import Callable
from typing import Any

from regard.ir import nodes as n
from regard.lang import tracer
from regard.lang.trace import Expr, build, lift


def _maybe(value: Any) -> n.Node | None:
    return None if value is None else lift(value)


def softmax(score: Any, where: Any = None, sink: Any = None, name: str | None = None) -> Expr:
    """Normalise exp(score) to sum to one over the keys a query may see.

    Args:
        score: A traced number per pair.
        where: A condition; hidden pairs contribute nothing, whatever their score. None sees all.
        sink: The logit of one more key with a zero value, seen by every row (0 gives softmax1).
        name: What `observe` calls it; "a", "b", … in the order of writing unless said.

    Returns:
        The traced weights.
    """
    return Expr(build(n.Softmax, lift(score), _maybe(where), _maybe(sink), tracer.term_name(name)))


def weigh(weight: Any, where: Any = None, name: str | None = None) -> Expr:
    """Use an expression itself as the weight, without normalising.

    Args:
        weight: A traced number per pair, e.g. `rg.sigmoid(score)`.
        where: A condition; hidden pairs contribute nothing.
        name: What `observe` calls it.

    Returns:
        The traced weights.
    """
    return Expr(build(n.Weigh, lift(weight), _maybe(where), tracer.term_name(name)))


def ratio(
    num: Any,
    den: Any = None,
    where: Any = None,
    add: Any = 0.0,
    at_least: Any = 0.0,
    scaled: bool = False,
    name: str | None = None,
) -> Expr:
    """Divide an expression by the row sum of another: num / max(Σ den + add, at_least).

    Exponentials are safe when num and den are positively homogeneous in exp(…) and constants: both
    are then computed times exp(-m), m the largest exponent of the row.

    Args:
        num: A traced number per pair.
        den: A traced number per pair; num unless said.
        where: A condition; hidden pairs contribute to neither.
        add: Added to the row sum of den.
        at_least: The row sum's lower bound.
        scaled: Whether `add` and `at_least` are meant after the scaling by exp(-m).
        name: What `observe` calls it.

    Returns:
        The traced weights.
    """
    numerator = lift(num)
    denominator = numerator if den is None else lift(den)
    fields = (numerator, denominator, _maybe(where), lift(add), lift(at_least), bool(scaled))
    return Expr(build(n.Ratio, *fields, tracer.term_name(name)))


def linear(u: Any, w: Any, where: Any = None, name: str | None = None) -> Expr:
    """Weigh by the dot product of two feature maps, normalised by its row sum (linear attention).

    Args:
        u: A traced row of the query's side, e.g. `1 + rg.softplus(pair.q)`.
        w: A traced row of the key's side.
        where: A condition.
        name: What `observe` calls it.

    Returns:
        `ratio(dot(u, w), where=where)`: a schedule, not a meaning.
    """
    product = Expr(build(n.Reduce, build(n.Call, "mul", (lift(u), lift(w))), "c"))
    return ratio(product, where=where, name=name)


def entmax(score: Any, alpha: Any = 1.5, where: Any = None, name: str | None = None) -> Expr:
    """Normalise by α-entmax, which gives exact zeros (Peters et al. 2019, arXiv 1905.05702).

    Args:
        score: A traced number per pair.
        alpha: Above 1: a number, per head or per query; 2 is sparsemax.
        where: A condition, applied before the threshold.
        name: What `observe` calls it.

    Returns:
        The traced weights.
    """
    return Expr(build(n.Entmax, lift(score), lift(alpha), _maybe(where), tracer.term_name(name)))


def sparsemax(score: Any, where: Any = None, name: str | None = None) -> Expr:
    """Project scores onto the simplex (Martins and Astudillo 2016, arXiv 1602.02068).

    Args:
        score: A traced number per pair.
        where: A condition, applied before the threshold.
        name: What `observe` calls it.

    Returns:
        The traced weights: `entmax` with alpha 2.
    """
    return entmax(score, 2.0, where, name)


def topk(score: Any, k: Any, where: Any = None) -> Expr:
    """Tell whether a pair's score is among the k largest of its row; use it inside a `where`.

    Args:
        score: A traced number per pair.
        k: How many keys to keep, a whole number.
        where: Which pairs take part.

    Returns:
        The traced condition; ties take the lower j; no gradient flows through the choice.
    """
    return Expr(build(n.TopK, lift(score), lift(k), _maybe(where)))


def keep(p: Any, axes: str = "bhij") -> Expr:
    """Draw a condition that is false with probability p; always true in evaluation (no seed).

    Args:
        p: The probability of dropping, a number or `rg.scalar`.
        axes: The axes it varies along, of b, h, i, j: "bh" drops whole heads.

    Returns:
        The traced condition.
    """
    # In one order, so that equal programs have equal hashes; the rest is for verify to refuse.
    ordered = "".join(sorted(set(axes), key=lambda axis: ("bhij".find(axis), axis)))
    return Expr(build(n.Keep, lift(p), ordered, tracer.next_place()))


def dropout(weights: Any, p: Any) -> Expr:
    """Drop weights with probability p and scale the rest by 1 / (1 - p), after normalising.

    Args:
        weights: Traced weights.
        p: The probability, a number or `rg.scalar`; nothing is dropped without a seed.

    Returns:
        The traced weights.
    """
    return Expr(build(n.Dropout, lift(weights), lift(p), tracer.next_place()))


def map(f: Callable[[Expr], Any], weights: Any) -> Expr:
    """Apply a scalar function to the final weights.

    For example `rg.map(lambda w: rg.clip(1.1 * w, 0, 1), weights)`.

    Args:
        f: Called once with the traced weight of a pair.
        weights: Traced weights.

    Returns:
        The traced weights; hidden pairs stay 0.
    """
    return Expr(build(n.Map, lift(weights), lift(f(Expr(n.MAPPED)))))


def output(weights: Any, values: Any = None, finish: Callable[[Expr], Any] | None = None) -> Expr:
    """End a program with values or a finish of its own.

    Args:
        weights: Traced weights.
        values: A traced channel expression per pair; `pair.v` unless said.
        finish: Called once with the traced summed row; gives back a row. It may read the query's
            side and reduce over channels, never across heads.

    Returns:
        The traced output.
    """
    row = build(n.Vector, "key", "v") if values is None else lift(values)
    finished = None if finish is None else lift(finish(Expr(n.SUMMED)))
    return Expr(build(n.Output, lift(weights), row, finished))
