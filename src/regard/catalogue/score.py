"""How well a query and a key agree.

Leaves to others: what their places add (`position`), how scores become weights (`normaliser`).
"""

import math

from regard import lang as rg
from regard.catalogue.variant import variant


def _unit(row):
    """A row divided by its length."""
    return row / rg.sqrt(rg.sum(row * row) + 1e-12)


def _root_mean_square_norm(row, gain, width, eps):
    return gain * row / rg.sqrt(rg.sum(row * row) / width + eps)


def _strength(name):
    """The exponential of the product of two learned rows."""
    small = rg.init.normal(0.1)
    query = rg.parameter(f"query{name}", per="channel", init=small)
    return rg.exp(rg.dot(query, rg.parameter(f"key{name}", per="channel", init=small)))


_ORDERLESS = ("permutation-equivariant", "never empty")


@variant("Scaled dot product", "Vaswani et al. 2017", "1706.03762", _ORDERLESS)
def scaled_dot_product(pair):
    """Score by the product of the rows, made independent of their width.

    The default. Use it unless there is a reason not to: every library has fast kernels for it,
    and pretrained weights expect it.
    """
    return rg.softmax(rg.dot(pair.q, pair.k) / rg.sqrt(pair.width))


@variant("Dot product", "Luong et al. 2015", "1508.04025", _ORDERLESS)
def dot_product(pair):
    """Score by the product of the rows as it is.

    For weights that were trained without a scale, such as recurrent translators and T5. In wide
    rows the scores grow with the square root of the width and the softmax saturates; scale them
    in anything new.
    """
    return rg.softmax(rg.dot(pair.q, pair.k))


@variant("General (bilinear)", "Luong et al. 2015", "1508.04025", _ORDERLESS)
def general(pair):
    """Score by the product of the rows with a learned matrix between them.

    For queries and keys that come unprojected, from two models or two spaces. Where a layer
    projects them already, the matrix adds nothing that the projections could not learn. It costs
    one product of every query with a matrix.
    """
    small = rg.init.uniform(-0.1, 0.1)
    matrix = rg.parameter("matrix", per=("head", "channel", "channel"), init=small)
    return rg.softmax(rg.dot(rg.project(pair.q, matrix), pair.k))


@variant("Concat", "Luong et al. 2015", "1508.04025", _ORDERLESS)
def concat(pair, *, width=64):
    """Score by a layer of tanh units that reads both rows side by side.

    A learned comparison for unprojected rows, as in recurrent translators. It is of interest with
    rows whose product means little; each pair costs `width` hyperbolic tangents, many times a
    dot product.
    """
    small = rg.init.uniform(-0.1, 0.1)
    query = rg.parameter("query", per=("head", "channel", "channel"), init=small)
    key = rg.parameter("key", per=("head", "channel", "channel"), init=small)
    units = rg.parameter("units", per=("head", "channel"), init=small)
    hidden = rg.project(pair.q, query, width) + rg.project(pair.k, key, width)
    return rg.softmax(rg.sum(units * rg.tanh(hidden)))


@variant("Additive", "Bahdanau et al. 2014", "1409.0473", _ORDERLESS)
def additive(pair):
    """Score by tanh units of the sum of the rows.

    The first attention of neural translation. Its scores are bounded by the units, so it is calm
    where products overshoot, with few heads and small models; each pair costs as many hyperbolic
    tangents as rows have channels, and it learns more slowly than a product.
    """
    units = rg.parameter("units", per=("head", "channel"), init=rg.init.normal(0.5))
    return rg.softmax(rg.sum(units * rg.tanh(pair.q + pair.k)))


@variant("Biaffine", "Dozat & Manning 2017", "1611.01734", _ORDERLESS)
def biaffine(pair):
    """Score by a bilinear form, a preference for keys and one for queries.

    For choosing one key, as a parser chooses the head of a word: the term of the key alone says
    how likely it is to be chosen by anybody. Under a softmax the term of the query and the bias
    cancel; they matter where scores are read themselves, by a sigmoid or as labels.
    """
    small = rg.init.normal(0.02)
    matrix = rg.parameter("matrix", per=("head", "channel", "channel"), init=small)
    query = rg.parameter("query", per=("head", "channel"))
    key = rg.parameter("key", per=("head", "channel"))
    bias = rg.parameter("bias", per="head")
    both = rg.dot(rg.project(pair.q, matrix), pair.k)
    return rg.softmax(both + rg.dot(query, pair.q) + rg.dot(key, pair.k) + bias)


@variant("Multi-layer perceptron", "Bahdanau et al. 2014", "1409.0473", _ORDERLESS)
def mlp(pair, *, width=32):
    """Score by a network with one hidden layer of rectified units.

    The alignment network of the first translators, with rectified units and a bias. It can learn
    agreements that no product expresses, such as "close in one channel, far in another". Use it
    on short inputs with few heads: each pair costs `width` units, and it learns more slowly.
    """
    small = rg.init.normal(0.25)
    query = rg.parameter("query", per=("head", "channel", "channel"), init=small)
    key = rg.parameter("key", per=("head", "channel", "channel"), init=small)
    bias = rg.parameter("hidden", per=("head", "channel"))
    units = rg.parameter("units", per=("head", "channel"), init=small)
    hidden = rg.project(pair.q, query, width) + rg.project(pair.k, key, width) + bias
    return rg.softmax(rg.sum(units * rg.relu(hidden)))


@variant("Content-based addressing (NTM)", "Graves et al. 2014", "1410.5401", _ORDERLESS)
def cosine(pair):
    """Score by the angle between the rows, sharpened by a number of each query.

    For reading a memory by content, where the length of a row must not matter and each read says
    itself how selective it is. The layer gives `strength`, which must be positive; for one
    learned sharpness per head take `query_key_norm`.
    """
    lengths = rg.sqrt(rg.sum(pair.q * pair.q)) * rg.sqrt(rg.sum(pair.k * pair.k))
    return rg.softmax(rg.query_feature("strength") * rg.dot(pair.q, pair.k) / (lengths + 1e-8))


@variant("Query-key normalisation", "Henry et al. 2020", "2010.04245", _ORDERLESS)
def query_key_norm(pair):
    """Score by the angle between the rows, times a learned number.

    For training that is unstable or short of data: no score leaves ±scale, so no softmax
    saturates by accident. Start the scale near log2(L² − L) for texts of length L, as here for
    64, or the weights begin too flat to learn from.
    """
    scale = rg.parameter("scale", per="head", init=rg.init.constant(11.98))
    return rg.softmax(scale * rg.dot(_unit(pair.q), _unit(pair.k)))


@variant("Scaled cosine", "Liu et al. 2021", "2111.09883", (*_ORDERLESS, "bounded <= 100.1"))
def scaled_cosine(pair):
    """Score by the angle between the rows, times at most 100.

    What Swin Transformer V2 does so that large vision models train without spikes. Choose it for
    deep or wide models in low precision; the temperature is learned as a logarithm and cut off,
    so no score exceeds 100.
    """
    scale = rg.parameter("logit_scale", per="head", init=rg.init.constant(math.log(10)))
    return rg.softmax(rg.exp(rg.min(scale, math.log(100))) * rg.dot(_unit(pair.q), _unit(pair.k)))


@variant("Query-key layer norm", "Dehghani et al. 2023", "2302.05442", _ORDERLESS)
def qk_layer_norm(pair):
    """Normalise queries and keys, mean and variance, before they meet.

    What let a vision transformer of 22 billion parameters train on: without it, scores grow until
    the softmax attends to one key. It costs two norms per token, not per pair; the root mean
    square alone (`qk_rms_norm`) does as well and costs less.
    """

    def norm(row, name):
        gain = rg.parameter(name, per="channel", init=rg.init.ones)
        centred = row - rg.sum(row) / pair.width
        return _root_mean_square_norm(centred, gain, pair.width, 1e-6)

    product = rg.dot(norm(pair.q, "query_gain"), norm(pair.k, "key_gain"))
    return rg.softmax(product / rg.sqrt(pair.width))


@variant("Query-key RMS norm", "Gemma Team 2025", "2503.19786", ("causal", "never empty"))
def qk_rms_norm(pair):
    """Divide queries and keys by their root mean square before they meet.

    What recent language models (Gemma 3, Qwen3) use in place of capped scores: the gains bound
    how sharp a head can become, fast kernels still apply, and training takes higher learning
    rates. Not for weights trained without it.
    """

    def norm(row, name):
        gain = rg.parameter(name, per="channel", init=rg.init.ones)
        return _root_mean_square_norm(row, gain, pair.width, 1e-6)

    product = rg.dot(norm(pair.q, "query_gain"), norm(pair.k, "key_gain"))
    return rg.softmax(product / rg.sqrt(pair.width), where=pair.j <= pair.i)


@variant("L2 self-attention", "Kim et al. 2020", "2006.04710", _ORDERLESS)
def euclidean(pair):
    """Score by the squared distance between the rows, the nearer the larger.

    Attention of products is not Lipschitz: a large key wins whatever the query. Distances mend
    that, given queries and keys of one shared projection, which is the layer's affair; use it for
    invertible networks and for bounds on robustness.
    """
    step = pair.q - pair.k
    return rg.softmax(-rg.sum(step * step) / rg.sqrt(pair.width))


@variant("Gaussian kernel", "Tsai et al. 2019", "1908.11775", ("permutation-equivariant",))
def rbf(pair):
    """Smooth the values with a Gaussian kernel of learned width.

    Attention as kernel regression: each query averages the keys within about `width` of it. Use
    it on embeddings whose distances mean something; a head with a small width copies its nearest
    key, one with a large width takes the mean.
    """
    width = rg.parameter("width", per="head", init=rg.init.ones)
    step = pair.q - pair.k
    return rg.softmax(-rg.sum(step * step) / (2 * width * width))


@variant("Laplace attention", "Kim et al. 2019", "1901.05761", _ORDERLESS)
def manhattan(pair):
    """Score by the sum of the channels' distances, the nearer the larger.

    A Laplace kernel, from neural processes. Use it where single channels may be far off for no
    reason: an outlier counts once, not squared. No product computes it, so each pair costs an
    operation per channel that matrix units cannot do.
    """
    return rg.softmax(-rg.sum(abs(pair.q - pair.k)) / rg.sqrt(pair.width))


@variant("Expressive attention", "Gros 2024", "2407.18601", _ORDERLESS)
def squared_dot(pair):
    """Weigh by z²/(1 + z²) of the product z, divided by the sum of the row.

    Opposite rows attend as much as equal ones and orthogonal rows not at all, so "irrelevant" has
    a direction of its own. For tasks with exact rules, where the paper compares it; no weight is
    more than 1 before the division, so over long inputs one key hardly outweighs the many.
    """
    square = rg.dot(pair.q, pair.k) * rg.dot(pair.q, pair.k)
    return rg.ratio(square / (1 + square))


@variant("Differential attention", "Ye et al. 2024", "2410.05258", ("causal", "never empty"))
def differential(pair, *, layer=0):
    """Subtract the weights of one half of the channels from those of the other.

    What both halves attend to by mistake cancels, as noise does in a balanced line: fewer
    distractions in long contexts and in recall. Give heads twice the width and half the number,
    and say which `layer` this is, counted from 0. It costs two softmaxes; `query1` and `query2` are
    half as wide as a head, which a layer takes in `widths`.
    """
    start = 0.8 - 0.6 * math.exp(-0.3 * layer)
    half = rg.where(rg.channel < pair.width / 2, 1.0, 0.0)
    seen, scale = pair.j <= pair.i, rg.sqrt(pair.width / 2)
    signal = rg.softmax(rg.dot(half * pair.q, pair.k) / scale, where=seen)
    noise = rg.softmax(rg.dot((1 - half) * pair.q, pair.k) / scale, where=seen)
    share = _strength(1) - _strength(2) + start
    gain = (1 - start) * rg.parameter("gain", per="channel", init=rg.init.ones)
    return rg.output(
        signal - share * noise,
        finish=lambda row: _root_mean_square_norm(row, gain, pair.width, 1e-5),
    )


@variant("Multi-head latent attention", "DeepSeek-AI 2024", "2405.04434", ("causal", "never empty"))
def latent(pair, *, width=64):
    """Add to the product of contents that of a few channels that alone are turned by position.

    Keeps keys and values compressible: contents are projections of one short latent row, which is
    all a cache must hold, and rotary positions travel in rows of their own. Use it for long
    contexts where the cache is the cost; expand the one rotary key that all heads share.
    """
    query, key = rg.query_vector("q_rope"), rg.key_vector("k_rope")
    query = rg.rotate(query, rg.rotary(pair.i, width=width), pairs="interleaved")
    key = rg.rotate(key, rg.rotary(pair.j, width=width), pairs="interleaved")
    score = (rg.dot(pair.q, pair.k) + rg.dot(query, key)) / rg.sqrt(pair.width + width)
    return rg.softmax(score, where=pair.j <= pair.i)


@variant("GATv2", "Brody et al. 2021", "2105.14491", ("permutation-equivariant",))
def gatv2(pair, *, slope=0.2):
    """Score neighbours in a graph by units of the sum of both rows.

    Graph attention whose ranking of neighbours depends on who asks, which that of `gat` cannot.
    Take it whenever graph attention is wanted; `edge` is dense, so for graphs of many thousand
    nodes use a library of sparse message passing.
    """
    units = rg.parameter("units", per=("head", "channel"), init=rg.init.normal(0.5))
    summed = pair.q + pair.k
    score = rg.sum(units * rg.max(summed, slope * summed))
    return rg.softmax(score, where=rg.pair_input("edge"))


@variant(
    "Graph attention (GAT)", "Veličković et al. 2017", "1710.10903", ("permutation-equivariant",)
)
def gat(pair, *, slope=0.2):
    """Score neighbours in a graph by a number of the one who asks plus a number of the other.

    Cheap, as each node has two numbers and pairs only add them, and a common baseline. All nodes
    rank shared neighbours alike; where that is too little, take `gatv2`.
    """
    source = rg.parameter("source", per=("head", "channel"), init=rg.init.normal(0.5))
    target = rg.parameter("target", per=("head", "channel"), init=rg.init.normal(0.5))
    score = rg.dot(source, pair.q) + rg.dot(target, pair.k)
    return rg.softmax(rg.max(score, slope * score), where=rg.pair_input("edge"))
