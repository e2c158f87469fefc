"""The four terms of the weights: each a row normaliser over the pairs its `where` admits.

Leaves to others: combining terms (`weights`), the expressions inside them (`interpret`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from regard.ir import nodes as n
from regard.reference.context import Context
from regard.reference.entmax import entmax
from regard.reference.homogeneous import EXPONENT_OF_A_CONSTANT, SHIFT, UNIT, shift_exponents
from regard.reference.interpret import Interpreter, admit, drop_minus_infinity
from regard.reference.points import Points
from regard.reference.rows import max_rows, sum_rows


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights over all pairs.

    Attributes:
        mask: Which pairs are seen, bool (B, H, N, M).
        dense: The weights, (B, H, N, M); 0 at hidden pairs.
        rows: What can be observed of the rows, (B, H, N) by name.
    """

    mask: Tensor
    dense: Tensor
    rows: dict[str, Tensor] = field(default_factory=dict)

    def at(self, points: Points) -> Tensor:
        """Return the weight of every listed pair, (points,).

        Args:
            points: Pairs along b, h, i and j.

        Returns:
            The weights; 0 at hidden pairs.
        """
        return self.dense.flatten().index_select(0, points.numbers)


def evaluate_term(term: n.Term, context: Context) -> Weights:
    """Compute one term.

    Args:
        term: A softmax, weigh, ratio or entmax.
        context: The call.

    Returns:
        Its weights, and the statistics of its rows.
    """
    return _TERMS[type(term)](term, context)


def _softmax(term: n.Softmax, context: Context) -> Weights:
    admitted = admit(term.where, context)
    visible = admitted.sum(-1)
    mask = drop_minus_infinity(term.score, admitted, context, visible)
    score, points = _values(term.score, mask, context, visible)
    entries, row, sinks = score, _row_numbers(points), None
    if term.sink is not None:
        # A sink is one more entry of every existing row, and a row number is all it needs.
        seen = drop_minus_infinity(term.sink, context.rows, context, visible)
        sink, sinks = _values(term.sink, seen, context, visible)
        entries, row = torch.cat([score, sink]), torch.cat([row, sinks.numbers])
    count = context.rows.numel()
    largest = max_rows(entries, row, count)
    shifted = entries - largest[row]
    mass = shifted.exp()
    total = sum_rows(mass, row, count)
    weights = mass / total[row]
    live = (largest != -torch.inf).nonzero()[:, 0]
    log_total = total[live].log()
    moment = sum_rows(weights * shifted, row, count)[live]
    rows = {
        "lse": torch.full_like(total, -torch.inf).index_copy(0, live, log_total + largest[live]),
        "max": largest,
        "entropy": torch.zeros_like(total).index_copy(0, live, log_total - moment),
    }
    if sinks is not None:
        rows["sink"] = sinks.scatter(weights[len(score) :]).flatten()
    shaped = {name: value.view(context.rows.shape) for name, value in rows.items()}
    return Weights(mask, points.scatter(weights[: len(score)]), shaped)


def _weigh(term: n.Weigh, context: Context) -> Weights:
    mask = admit(term.where, context)
    weights, points = _values(term.weight, mask, context, mask.sum(-1))
    return Weights(mask, points.scatter(weights))


def _entmax(term: n.Entmax, context: Context) -> Weights:
    admitted = admit(term.where, context)
    visible = admitted.sum(-1)
    mask = drop_minus_infinity(term.score, admitted, context, visible)
    score, points = _values(term.score, mask, context, visible)
    alpha, _ = _values(term.alpha, mask, context, visible)
    rows, row = points.onto("bhi")
    weights = entmax(score, alpha, row, rows.count)
    return Weights(mask, points.scatter(weights), {"entropy": _entropy(weights, points)})


def _ratio(term: n.Ratio, context: Context) -> Weights:
    mask = admit(term.where, context)
    visible = mask.sum(-1)
    points = context.points(mask)
    rows, row = points.onto("bhi")
    offsets = any(not _is_zero(part) for part in (term.add, term.at_least))
    num, den, given = term.num, term.den, {}
    shifted = shift_exponents(num, den)
    if shifted is not None:
        exponents = shifted.exponents
        if offsets and not term.scaled:
            exponents = (*exponents, EXPONENT_OF_A_CONSTANT)
        given = _shift(exponents, Interpreter(context, points, visible), points)
        num, den = shifted.num, shifted.den
    inner = Interpreter(context, points, visible, given)
    numerator = inner.at_float(num)[:, 0]
    total = sum_rows(inner.at_float(den)[:, 0], row, rows.count)
    per_row = Interpreter(context, rows, visible)
    add, at_least = (per_row.at_float(part)[:, 0] for part in (term.add, term.at_least))
    if given and offsets and not term.scaled:
        add, at_least = add * given[UNIT][:, 0], at_least * given[UNIT][:, 0]
    total = total + add
    total = torch.maximum(total, at_least.to(total.dtype))
    empty = total == 0
    weights = numerator / total.masked_fill(empty, 1)[row]
    weights = weights.masked_fill(empty[row], 0)
    return Weights(mask, points.scatter(weights), {"entropy": _entropy(weights, points)})


def _shift(
    exponents: tuple[n.Node, ...], inner: Interpreter, points: Points
) -> dict[n.Node, Tensor]:
    """Return the values of SHIFT and UNIT, (rows, 1) each."""
    rows, row = points.onto("bhi")
    with torch.no_grad():
        values = torch.cat([inner.at_float(exponent) for exponent in exponents], 1)
        largest = max_rows(values.amax(1), row, rows.count)[:, None]
        # If every exponential is 0, no shift makes it more.
        largest = largest.masked_fill(largest == -torch.inf, 0)
        return {SHIFT: largest, UNIT: (-largest).exp()}


def _is_zero(node: n.Node) -> bool:
    return isinstance(node, n.Const) and node.value == 0


def _values(node: n.Node, mask: Tensor, context: Context, visible: Tensor) -> tuple[Tensor, Points]:
    """Evaluate a number without channels at the points of a mask."""
    points = context.points(mask)
    return Interpreter(context, points, visible).at_float(node)[:, 0], points


def _row_numbers(points: Points) -> Tensor:
    rows, row = points.onto("bhi")
    return rows.numbers[row]


def _entropy(weights: Tensor, points: Points) -> Tensor:
    """Return -Σ p log p of every row, (B, H, N); 0 · log 0 is 0."""
    rows, row = points.onto("bhi")
    positive = weights.masked_fill(weights == 0, 1)
    return rows.scatter(sum_rows(-weights * positive.log(), row, rows.count))


_TERMS: dict[type, Callable[..., Weights]] = {
    n.Softmax: _softmax,
    n.Weigh: _weigh,
    n.Ratio: _ratio,
    n.Entmax: _entmax,
}
