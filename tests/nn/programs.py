"""Programs the tests of layers share; each is there for one thing it reads."""

import regard as rg


def score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


@rg.program
def plain(pair):
    return rg.softmax(score(pair))


@rg.program
def causal(pair):
    return rg.softmax(score(pair), where=pair.j <= pair.i)


@rg.program
def alibi(pair):
    """A learned number per head, positions, and a window."""
    slope = rg.parameter("slope", per="head", init=rg.init.alibi)
    near = (pair.j <= pair.i) & (pair.i - pair.j < 5)
    return rg.softmax(score(pair) - slope * (pair.i - pair.j), where=near)


@rg.program
def relative(pair):
    """A learned table per head, indexed by distance."""
    bias = rg.parameter("bias", per=("head", 17), init=rg.init.normal(1.0))
    index = rg.clip(pair.i - pair.j, -8, 8) + 8
    return rg.softmax(score(pair) + bias[index], where=pair.j <= pair.i)


@rg.program
def distant(pair):
    """The same without causality, for encoders and cross attention."""
    bias = rg.parameter("bias", per=("head", 17), init=rg.init.normal(1.0))
    return rg.softmax(score(pair) + bias[rg.clip(pair.i - pair.j, -8, 8) + 8])


@rg.program
def additive(pair):
    """A learned row of channels, and no dot product."""
    a = rg.parameter("a", per=("head", "channel"), init=rg.init.normal(0.5))
    return rg.softmax(rg.sum(a * rg.tanh(pair.q + pair.k)), where=pair.j <= pair.i)


@rg.program
def counting(pair):
    """How many keys there are, without normalising."""
    return rg.weigh(rg.sigmoid(score(pair) - rg.log(pair.keys)), where=pair.j <= pair.i)


@rg.program
def important(pair):
    """A number per key, given with every call."""
    return rg.softmax(score(pair) + rg.key_feature("importance"))


@rg.program
def heated(pair):
    """A run-time number, and one with a default."""
    return rg.softmax(score(pair) / rg.scalar("temperature") * rg.scalar("gain", default=2.0))


@rg.program
def drawing(pair):
    """Random booleans of its own."""
    return rg.softmax(score(pair), where=rg.keep(0.5, "bhij"))
