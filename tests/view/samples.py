"""Programs of the kinds that pictures must show well."""

import regard as rg


def dots(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


@rg.program
def plain(pair):
    """Sees everything."""
    return rg.softmax(dots(pair))


@rg.program
def causal(pair):
    """Reads what came before."""
    return rg.softmax(dots(pair), where=pair.j <= pair.i)


@rg.program
def anchored(pair):
    """Reads locally, and keeps four global anchors."""
    seen = (pair.j <= pair.i) & ((pair.i - pair.j < 8) | (pair.j < 4))
    return rg.softmax(dots(pair), where=seen)


@rg.program
def alibi(pair):
    """Reads nearby tokens more, each head at its own range."""
    slope = rg.parameter("slope", per="head", init=rg.init.alibi)
    return rg.softmax(dots(pair) - slope * (pair.i - pair.j), where=pair.j <= pair.i)


@rg.program
def buckets(pair):
    """Adds a learned bias per distance."""
    bias = rg.parameter("bias", per=("head", 9))
    return rg.softmax(dots(pair) + bias[rg.clip(pair.j - pair.i + 4, 0, 8)])


@rg.program
def additive(pair):
    """Scores a pair by a small network."""
    a = rg.parameter("a", per="channel", init=rg.init.normal(0.2))
    return rg.softmax(rg.sum(a * rg.tanh(pair.q + pair.k)))


@rg.program
def rotary(pair):
    """Turns q and k by their positions."""
    q, k = rg.rotate(pair.q, rg.rotary(pair.i)), rg.rotate(pair.k, rg.rotary(pair.j))
    return rg.softmax(rg.dot(q, k) / rg.sqrt(pair.width), where=pair.j <= pair.i)


@rg.program
def best(pair):
    """Keeps the two best keys."""
    return rg.softmax(dots(pair), where=rg.topk(dots(pair), 2))


@rg.program
def cosine(pair):
    """Compares directions, and prefers what is near."""
    sizes = rg.sqrt(rg.sum(pair.q * pair.q)) * rg.sqrt(rg.sum(pair.k * pair.k))
    return rg.softmax(rg.dot(pair.q, pair.k) / sizes - abs(pair.i - pair.j))


@rg.program
def mixture(pair):
    """Half local, half global."""
    local = rg.softmax(dots(pair), where=abs(pair.i - pair.j) < 4, name="local")
    wide = rg.softmax(dots(pair) - 0.1 * abs(pair.i - pair.j), name="wide")
    return 0.5 * local + 0.5 * wide


@rg.program
def difference(pair):
    """Subtracts what is near."""
    near = rg.softmax(-1.0 * abs(pair.i - pair.j), name="near")
    return rg.softmax(dots(pair), name="all") - 2.0 * near


@rg.program
def strides(pair):
    """Each head sees every other key at its own stride."""
    return rg.softmax(dots(pair), where=(pair.i - pair.j) % (pair.head + 1) == 0)


@rg.program
def masked(pair):
    """Sees keys that are real, and what a dense bias leaves."""
    seen = rg.key_feature("real") & ~rg.key_feature("padding")
    return rg.softmax(dots(pair) + rg.pair_input("dense"), where=seen)


@rg.program
def documents(pair):
    """Sees its own document."""
    return rg.softmax(dots(pair), where=rg.query_feature("doc_q") == rg.key_feature("doc_k"))


@rg.program
def never_finite(pair):
    """Divides by nothing."""
    return rg.weigh(dots(pair) / (pair.width - pair.width), where=pair.j <= pair.i)


@rg.program
def finished(pair):
    """Reads values of its own, and a gate."""
    gate = rg.query_vector("gate")
    values = pair.v * rg.key_feature("trust")
    return rg.output(rg.softmax(dots(pair)), values, lambda row: row * rg.sigmoid(gate))


ALL = [
    plain, causal, anchored, alibi, buckets, additive, rotary, best, cosine, mixture, difference,
    strides, masked, documents, never_finite, finished,
]  # fmt: skip
