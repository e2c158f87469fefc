"""The algebra of weights: sums, products, gates, maps and dropout of terms, pair by pair.

A sum of weights sees a pair if any of them does, a product if both do. Only there are the factors
of the expression evaluated, and everywhere else its weight is 0. Leaves to others: the terms.
"""

from functools import reduce

import torch

from regard.ir import nodes as n
from regard.ir.types import type_of
from regard.reference.context import Context
from regard.reference.interpret import Interpreter
from regard.reference.leaves import draw_keep
from regard.reference.terms import Weights, evaluate_term


class Algebra:
    """Evaluates expressions of weights, each shared part once."""

    def __init__(self, context: Context):
        """Prepare for one call.

        Args:
            context: The call.
        """
        self._context = context
        self._found: dict[n.Node, Weights] = {}

    def evaluate(self, node: n.Node) -> Weights:
        """Compute weights.

        Args:
            node: A term, or terms combined.

        Returns:
            The weights; of a term, its rows' statistics too.
        """
        if node not in self._found:
            self._found[node] = self._compute(node)
        return self._found[node]

    def _compute(self, node: n.Node) -> Weights:
        match node:
            case n.Dropout():
                return self._drop(node)
            case n.Map():
                return self._combine(node.body, {n.MAPPED: self.evaluate(node.weights)})
            case n.Call():
                parts = [arg for arg in node.args if type_of(arg).weights]
                return self._combine(node, {part: self.evaluate(part) for part in parts})
        assert isinstance(node, n.Term), type(node)
        return evaluate_term(node, self._context)

    def _combine(self, node: n.Node, parts: dict[n.Node, Weights]) -> Weights:
        """Evaluate an expression of weights already evaluated, where it sees a pair."""
        product = isinstance(node, n.Call) and node.op == "mul"
        join = torch.logical_and if product else torch.logical_or
        mask = reduce(join, (weights.mask for weights in parts.values()))
        points = self._context.points(mask)
        given = {part: weights.at(points)[:, None] for part, weights in parts.items()}
        values = Interpreter(self._context, points, given=given).at_float(node)[:, 0]
        return Weights(mask, points.scatter(values))

    def _drop(self, node: n.Dropout) -> Weights:
        weights = self.evaluate(node.weights)
        if self._context.bound.seed is None:
            return weights
        points = self._context.points(weights.mask)
        p = Interpreter(self._context, points.onto("")[0]).at_float(node.p)
        kept = draw_keep(p, node.place, points, self._context)[:, 0]
        # With p = 1 nothing is kept, and 0 · 1/0 would be NaN.
        scale = (1 - p).masked_fill(p == 1, 1).reciprocal()[0]
        values = weights.at(points) * scale
        return Weights(weights.mask, points.scatter(values.masked_fill(~kept, 0)))


def without_dropout(weights: n.Node) -> n.Node:
    """Return the same weights before any dropout.

    Args:
        weights: An expression of weights.

    Returns:
        The expression without its Dropout nodes.
    """
    return n.rewrite(weights, lambda node: node.weights if isinstance(node, n.Dropout) else None)
