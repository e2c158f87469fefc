"""Programs that add up numbers over keys in their order, for every backend to be tested on.

Leaves to others: the programs that do not (`programs`), their inputs (`inputs`), running them.
"""

from regard.lang import init
from regard.lang.functions import (
    clip,
    dot,
    exp,
    floor,
    running_sum,
    sigmoid,
    softplus,
    sqrt,
    tanh,
)
from regard.lang.pair import Pair, key_feature, parameter
from regard.lang.trace import Expr
from regard.lang.weights import output, softmax, weigh


def _score(pair: Pair) -> Expr:
    return dot(pair.q, pair.k) / sqrt(pair.width)


def stick_breaking(pair):
    """Give each key a share of what the keys between it and the query left."""
    score, before = _score(pair), pair.j < pair.i
    left = running_sum(softplus(score), where=before, reverse=True, exclusive=True)
    return weigh(exp(-softplus(-score) - left), where=before)


def contextual_positions(pair):
    """Count positions by gates, and take the bias between two rows of a table."""
    seen = pair.j <= pair.i
    gate = sigmoid(dot(pair.q, pair.k) + 0.1)
    position = clip(running_sum(gate, where=seen, reverse=True), 0.0, 6.5)
    row = floor(position)
    bias = parameter("bias", per=("head", 8), init=init.normal(1.0))
    between = position - row
    return softmax(_score(pair) + (1 - between) * bias[row] + between * bias[row + 1], where=seen)


def forget_gate(pair):
    """Let keys fade by the gates of the keys after them."""
    kept = -softplus(-key_feature("gate"))
    faded = running_sum(kept, where=pair.j <= pair.i, reverse=True, exclusive=True)
    return softmax(_score(pair) + faded, where=pair.j <= pair.i)


def nested_sums(pair):
    """Add up sums of all keys, of both ends, where other sums admit them, in values as well."""
    inner = running_sum(tanh(_score(pair)), where=pair.j <= pair.i + 2)
    outer = running_sum(inner / (1 + pair.visible), where=pair.j % 3 != 1, reverse=True)
    many = running_sum(1, where=abs(pair.i - pair.j) < 6)
    rate = parameter("rate", per="head", init=init.normal(0.5))
    weights = softmax(0.2 * rate * outer, where=many < 5)
    return output(weights, values=pair.v * running_sum(0.1 * inner, exclusive=True))


ORDERED = (stick_breaking, contextual_positions, forget_gate, nested_sums)
