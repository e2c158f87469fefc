"""How weights gather values, and what becomes of the sum.

Leaves to others: the other families.
"""

from regard import lang as rg
from regard.catalogue.variant import variant


def _score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def _mean(row):
    """Average over the channels of a row, however many it has."""
    return rg.sum(row) / rg.sum(0 * row + 1)


# ── Keys that heads share ─────────────────────────────────────────────────────────────────────
@variant("Multi-query attention", "Shazeer 2019", "1911.02150", ("causal", "never empty"))
def multi_query(pair):
    """Let all query heads read one head of keys and values: give k and v one head.

    For fast decoding, which mostly waits for cached keys: there are as many times fewer as there
    were heads. Quality falls somewhat, and training is less stable; see `grouped_query`.
    """
    return rg.softmax(_score(pair), where=pair.j <= pair.i)


@variant("Grouped-query attention", "Ainslie et al. 2023", "2305.13245", ("causal", "never empty"))
def grouped_query(pair):
    """Let groups of query heads share a head of keys and values: give k and v fewer heads.

    The usual choice for language models: with 4 to 8 query heads a group it is close to all heads'
    quality and nearly as fast as one. A trained model converts by averaging its key heads.
    """
    return rg.softmax(_score(pair), where=pair.j <= pair.i)


# ── Values ────────────────────────────────────────────────────────────────────────────────────
@variant("Value residual (ResFormer)", "Zhou et al. 2024", "2410.17897", ("causal", "never empty"))
def value_residual(pair):
    """Sum this layer's values mixed with those of the first layer.

    Deep models lose what the tokens were; this hands it on at the cost of two numbers a layer and
    of keeping the first values. Start both shares at a half, as the version without learning has.
    """
    own = rg.parameter("own", init=rg.init.constant(0.5))
    share = rg.parameter("first_share", init=rg.init.constant(0.5))
    weights = rg.softmax(_score(pair), where=pair.j <= pair.i)
    return rg.output(weights, values=share * rg.key_vector("first") + own * pair.v)


@variant("Persistent memory", "Sukhbaatar et al. 2019", "1907.01470", ("causal", "never empty"))
def memory(pair):
    """See all memory slots, which stand at negative positions, and the tokens before.

    Learned keys and values that stand for knowledge of no token, in place of feed-forward layers.
    Put them before the keys and values and give `key_positions` that start below 0. Each costs what
    one more token would, in every layer.
    """
    return rg.softmax(_score(pair), where=(pair.j < 0) | (pair.j <= pair.i))


# ── What becomes of the sum ───────────────────────────────────────────────────────────────────
@variant("Gated attention", "Qiu et al. 2025", "2505.06708", ("causal", "never empty"))
def output_gate(pair):
    """Multiply the summed row by the sigmoid of a gate computed from the query's token.

    Removes attention sinks and steadies the training of large models, for one more projection: the
    layer computes `gate` from its input, a number for each channel; the sigmoid is taken here. A
    gate a head is cheaper and nearly as good.
    """
    weights = rg.softmax(_score(pair), where=pair.j <= pair.i)
    return rg.output(weights, finish=lambda row: row * rg.sigmoid(rg.query_vector("gate")))


@variant("Head scale (NormFormer)", "Shleifer et al. 2021", "2110.09456", ("never empty",))
def head_scale(pair):
    """Multiply each head's output by a learned number.

    One number a head that balances heads early in training and shows afterwards which matter: small
    ones can be pruned. The next projection could absorb it, so inference costs nothing.
    """
    gain = rg.parameter("gain", per="head", init=rg.init.ones)
    return gain * rg.softmax(_score(pair))


@variant("Per-head norm of the output", "Ye et al. 2024", "2410.05258", ("causal", "never empty"))
def head_norm(pair):
    """Divide each head's summed row by its root mean square, with a gain for each channel.

    Where rows need not sum to one (differences, linear attention, sigmoid), so that heads stay of
    one size. After plain softmax it hides how sure a head was. Costs next to nothing.
    """
    gain = rg.parameter("gain", per="channel", init=rg.init.ones)
    weights = rg.softmax(_score(pair), where=pair.j <= pair.i)
    return rg.output(weights, finish=lambda row: gain * row / rg.sqrt(_mean(row * row) + 1e-5))


# ── Random in training ────────────────────────────────────────────────────────────────────────
@variant("Attention dropout", "Vaswani et al. 2017", "1706.03762", ("never empty",))
def weight_dropout(pair, *, p=0.1):
    """Drop weights at random after normalising, and scale up the rest.

    The common regulariser for small data; large language models train without. A row's weights no
    longer sum to one while training. Nothing is dropped without a seed.
    """
    return rg.dropout(rg.softmax(_score(pair)), p)


@variant("DropKey", "Li et al. 2022", "2208.02646")
def drop_key(pair, *, p=0.1):
    """Hide keys at random before normalising, so that the others share the mass.

    For vision transformers in place of dropout of weights: rows still sum to one, and no key can be
    relied upon. The authors lower p from layer to layer. Nothing is hidden without a seed.
    """
    return rg.softmax(_score(pair), where=rg.keep(p))


@variant("DropHead", "Zhou et al. 2020", "2004.13342")
def drop_head(pair, *, p=0.1):
    """Drop whole heads at random, and scale up the rest.

    Against layers that lean on few of their heads, when training sets are small. The authors start
    with a large p, lower it to 0 and raise it again. Nothing is dropped without a seed.
    """
    # A draw that fails whenever there is a seed: only then are the others scaled up.
    alone = rg.where(rg.keep(1.0, "b"), 1.0, 1 / (1 - p))
    return rg.where(rg.keep(p, "bh"), alone, 0.0) * rg.softmax(_score(pair))
