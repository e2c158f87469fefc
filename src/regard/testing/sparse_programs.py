"""Programs in which most keys have no weight at all, for every backend to be tested on.

Leaves to others: the programs that give all keys some (`programs`), their inputs, running them.
"""

from regard.lang import init
from regard.lang.functions import dot, sigmoid, sqrt
from regard.lang.pair import Pair, parameter, query_feature, scalar
from regard.lang.trace import Expr
from regard.lang.weights import dropout, entmax, softmax, sparsemax, topk


def _score(pair: Pair) -> Expr:
    return dot(pair.q, pair.k) / sqrt(pair.width)


def _causal(pair: Pair) -> Expr:
    return pair.j <= pair.i


def entmax_per_head(pair):
    alpha = 1.2 + sigmoid(parameter("alpha", per="head", init=init.normal(1.0)))
    return entmax(_score(pair), alpha, where=_causal(pair))


def sparsemax_window(pair):
    return sparsemax(_score(pair), where=abs(pair.i - pair.j) < 9)


def best_keys(pair):
    chosen = topk(_score(pair), 5, where=_causal(pair))
    return softmax(_score(pair), where=chosen)


def sparse_difference(pair):
    """Let few keys compete at α 1.5, take those of α 2 away, and choose among what is chosen."""
    some = topk(_score(pair), 9, where=_causal(pair))
    few = topk(-dot(pair.k, pair.k), query_feature("count") + 4, where=some)
    near = entmax(_score(pair) + 1 / pair.visible, 1.5, where=few, name="near")
    far = entmax(0.5 * _score(pair), 2.0, where=pair.j <= pair.i + 2, name="far")
    return dropout(near, scalar("p")) - 0.4 * far * sigmoid(_score(pair))


SPARSE = (entmax_per_head, sparsemax_window, best_keys, sparse_difference)
