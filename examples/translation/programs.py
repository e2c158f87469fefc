"""Three attention programs for a small translation model: one per role."""

import regard as rg


@rg.program
def relative(pair):
    """Dot product with a learned bias per distance, up to eight words to either side."""
    bias = rg.parameter("bias", per=("head", 17))
    distance = rg.clip(pair.j - pair.i, -8, 8)
    return rg.softmax(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width) + bias[distance + 8])


@rg.program(contracts=["causal"])
def recent(pair):
    """Causal dot product that prefers recent words, at a learned rate per head."""
    slope = rg.parameter("slope", per="head", init=rg.init.constant(0.1))
    score = rg.dot(pair.q, pair.k) / rg.sqrt(pair.width) - slope * (pair.i - pair.j)
    return rg.softmax(score, where=pair.j <= pair.i)


@rg.program
def additive(pair):
    """Additive attention over eight hidden units (Bahdanau, Cho and Bengio 2014)."""
    small = rg.init.normal(0.2)
    query = rg.parameter("query", per=("head", "channel", "channel"), init=small)
    key = rg.parameter("key", per=("head", "channel", "channel"), init=small)
    units = rg.parameter("units", per=("head", "channel"), init=rg.init.normal(1.0))
    hidden = rg.project(pair.q, query, width=8) + rg.project(pair.k, key, width=8)
    return rg.softmax(rg.sum(units * rg.tanh(hidden)))
