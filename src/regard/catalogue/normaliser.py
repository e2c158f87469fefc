"""How scores become weights.

Leaves to others: the other families.
"""

import math

from regard import lang as rg
from regard.catalogue.variant import variant


def _score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def _mean(row):
    """Average over the channels of a row, however many it has."""
    return rg.sum(row) / rg.sum(0 * row + 1)


# ── Softmax with somewhere else to look ───────────────────────────────────────────────────────
@variant(
    "Softmax-off-by-one",
    "Miller 2023",
    "https://www.evanmiller.org/attention-is-off-by-one.html",
    ("causal", "never empty"),
)
def softmax_one(pair):
    """Add one to the sum of the exponentials, so that a head may look at nothing.

    Where a head has nothing to do, softmax parks its mass on a first token and grows outliers that
    hurt quantisation; this gives it another way, at no cost. Trained models need retraining.
    """
    return rg.softmax(_score(pair), where=pair.j <= pair.i, sink=0.0)


@variant("Learned attention sink", "OpenAI 2025 (gpt-oss)", "2508.10925", ("causal", "never empty"))
def learned_sink(pair):
    """Let every head learn the logit of one more key, which has no value.

    As `softmax_one`, with a strength that each head chooses: a head with a large sink speaks only
    when it finds something. Useful with windows, in which the first token is soon out of sight.
    """
    sink = rg.parameter("sink", per="head")
    return rg.softmax(_score(pair), where=pair.j <= pair.i, sink=sink)


# ── Each key by itself ────────────────────────────────────────────────────────────────────────
@variant(
    "Sigmoid attention", "Ramapuram et al. 2024", "2409.04431", ("bounded <= 1", "never empty")
)
def sigmoid(pair):
    """Weigh each key by the sigmoid of its score less the logarithm of how many there are.

    Keys do not compete and rows need no sum, so keys can be split without merging. Rows sum to
    anything, so outputs change size while scores are learned: add a norm after it (`head_norm`);
    the authors use one at scale.
    """
    return rg.weigh(rg.sigmoid(_score(pair) - rg.log(pair.keys)))


@variant(
    "ReLU attention, divided by the length", "Wortsman et al. 2023", "2309.08586", ("never empty",)
)
def relu_over_length(pair):
    """Weigh each key by the positive part of its score over the number of keys.

    About as good as softmax in vision transformers, with exact zeros and no sum over the row.
    Without the division it trains badly. The paper tries it on vision only.
    """
    return rg.weigh(rg.relu(_score(pair)) / pair.keys)


@variant("Squared ReLU attention (FLASH)", "Hua et al. 2022", "2202.10447", ("never empty",))
def squared_relu(pair):
    """Weigh each key by the square of the positive part of its score, scores over the length.

    The attention inside gated attention units, where one head suffices because a gate follows; as a
    layer of its own it is weaker than softmax. As in the published code, scores are divided by the
    whole length before they are squared, in causal rows too: keep the length fixed, or use a norm.
    """
    product = rg.dot(pair.q, pair.k) / pair.keys
    return rg.weigh(rg.relu(product) ** 2, where=pair.j <= pair.i)


@variant("Rectified linear attention (ReLA)", "Zhang et al. 2021", "2104.07012", ("never empty",))
def rela(pair):
    """Sum values by the positive parts of the scores, and norm the sum.

    Sparse, cheap, and a head may switch off for a query: good for reading alignments of translation
    off cross-attention. A key with a negative score gets no gradient. The authors norm all heads'
    sums together, or gate them as well; here each head has its own norm.
    """
    gain = rg.parameter("gain", per="channel", init=rg.init.ones)
    weights = rg.weigh(rg.relu(_score(pair)))
    return rg.output(weights, finish=lambda row: gain * row / rg.sqrt(_mean(row * row) + 1e-8))


@variant("Retention", "Sun et al. 2023 (RetNet)", "2307.08621", ("causal", "never empty"))
def retention(pair):
    """Weigh by the product itself, fading at a rate fixed for each head, and norm the sum.

    For long generation: a state of constant size replaces the cached keys, and training runs by
    state too. Fixed fading forgets what a gate could keep (`gated_decay`). The published layer also
    turns rows by rotary angles beforehand and gates the result.
    """
    decay = (1 - 2.0 ** (-5 - pair.head)) ** (pair.i - pair.j)
    weights = rg.weigh(_score(pair) * decay, where=pair.j <= pair.i)

    def group_norm(row):
        row = row - _mean(row)
        return row / rg.sqrt(_mean(row * row) + 1e-6)

    return rg.output(weights, finish=group_norm)


@variant(
    "State space duality (Mamba-2)", "Dao and Gu 2024", "2405.21060", ("causal", "never empty")
)
def gated_decay(pair):
    """Weigh by the product, fading by a gate of every token between.

    Linear attention that learns when to forget; runs by state in linear time. Give the running sums
    of the gates' logarithms as `total_q` and `total_k`, and the values times their step sizes. It
    recalls exact tokens worse than softmax: models mix in a few softmax layers.
    """
    kept = rg.exp(rg.query_feature("total_q") - rg.key_feature("total_k"))
    return rg.weigh(rg.dot(pair.q, pair.k) * kept, where=pair.j <= pair.i)


# ── Sparse distributions ──────────────────────────────────────────────────────────────────────
@variant("Sparsemax", "Martins and Astudillo 2016", "1602.02068", ("never empty",))
def sparsemax(pair):
    """Project the scores onto the simplex: most weights are exactly zero.

    For attention that is to be read as a choice. A key with weight zero has no gradient, so let
    scores start small, or take `entmax`, which is kinder. Costs a threshold a row, no exponentials.
    """
    return rg.sparsemax(_score(pair))


@variant("Entmax", "Peters et al. 2019", "1905.05702", ("never empty",))
def entmax(pair, *, alpha=1.5):
    """Normalise by α-entmax: between softmax at 1 and sparsemax at 2.

    Sparse weights that train nearly like softmax: at 1.5 a drop-in for translation and for models
    whose heads people will read. Parts over split keys cannot be merged, as the threshold needs the
    whole row.
    """
    return rg.entmax(_score(pair), alpha)


@variant("Adaptively sparse attention", "Correia et al. 2019", "1909.00015", ("never empty",))
def learned_entmax(pair):
    """Let every head learn its α, between 1 and 2.

    Where some heads should look widely and others at one token: they settle it themselves, and the
    learned values tell which head is which. The gradient for α costs one more sweep.
    """
    alpha = 1 + rg.sigmoid(rg.parameter("alpha", per="head", init=rg.init.normal(1.0)))
    return rg.entmax(_score(pair), alpha)


@variant(
    "Adaptive-scalable entmax (ASEntmax)",
    "Vasylenko et al. 2025",
    "2506.16640",
    ("causal", "never empty"),
)
def adaptive_entmax(pair, *, alpha=1.5, delta=1.0):
    """Sharpen entmax by a power of the logarithm of how many keys the query sees.

    For contexts longer than those trained on: keys that do not matter keep a weight of zero,
    however many there are. The layer gives `beta_q` (a softplus) and `gamma_q` (a tanh, scaled) for
    each query and head; with β 0 it is plain entmax. The authors leave it out of heads that have
    ALiBi.
    """
    # One key has all the weight, whatever its score: 2 keeps powers of log 1 out of it.
    length = rg.log(rg.max(pair.visible, 2)) ** rg.query_feature("gamma_q")
    scale = delta + rg.query_feature("beta_q") * length
    return rg.entmax(scale * _score(pair), alpha, where=pair.j <= pair.i)


# ── Ratios ────────────────────────────────────────────────────────────────────────────────────
@variant("Softpick", "Zuhri et al. 2025", "2504.20966", ("causal", "never empty"))
def softpick(pair):
    """Let scores above zero give weight, those below only add to the sum.

    Rows may sum to less than one, even to nothing, so there are no attention sinks and few
    outliers: for quantising. Watch its training: in this library's comparison of mechanisms one
    seed of three failed. Costs what softmax does.
    """
    grown = rg.exp(_score(pair)) - 1
    return rg.ratio(rg.relu(grown), abs(grown), where=pair.j <= pair.i, add=1e-6, scaled=True)


@variant(
    "Length-scaled softplus attention (LSSA)",
    "Gao and Spratling 2025",
    "2501.13428",
    ("causal", "never empty"),
)
def softplus_l1(pair):
    """Divide softplus of a cosine by its sum, cosines scaled by the logarithms of both sizes.

    Cannot overflow, and holds its sharpness as texts grow beyond those trained on. Flatter than
    softmax by nature; the authors sharpen it in a second step, by powers of the weights.
    """
    size = rg.sqrt(rg.dot(pair.q, pair.q) * rg.dot(pair.k, pair.k))
    score = rg.log(pair.width) * rg.log(pair.visible) * rg.dot(pair.q, pair.k) / size
    return rg.ratio(rg.softplus(score), where=pair.j <= pair.i)


@variant("Average attention", "Zhang et al. 2018", "1805.00631", ("causal", "never empty"))
def uniform(pair):
    """Average all values up to the token's own.

    For fast decoding of small translation models, in place of self-attention in the decoder, with
    the published gate after it; and as the baseline that any attention has to beat.
    """
    return rg.ratio(1.0, where=pair.j <= pair.i)


# ── Linear attention: by state, in time linear in the keys ────────────────────────────────────
def _elu_plus_one(row):
    """Grow linearly above zero and exponentially below: always positive."""
    return rg.relu(row) + rg.exp(rg.min(row, 0.0))


@variant("Linear attention", "Katharopoulos et al. 2020", "2006.16236", ("never empty",))
def linear_elu(pair):
    """Weigh by the product of positive features, ELU + 1, of query and key.

    For inputs too long for softmax: time and memory are linear in them. Weights are much flatter
    than softmax's, so tasks that look single tokens up suffer.
    """
    return rg.linear(_elu_plus_one(pair.q), _elu_plus_one(pair.k))


@variant(
    "Causal linear attention", "Katharopoulos et al. 2020", "2006.16236", ("causal", "never empty")
)
def linear_elu_causal(pair):
    """Do the same over the keys before: a recurrent network in training's clothes.

    For long generation with a state of constant size. It never forgets, so the state fills up over
    long texts; `gated_decay` and `retention` fade it.
    """
    return rg.linear(_elu_plus_one(pair.q), _elu_plus_one(pair.k), where=pair.j <= pair.i)


@variant("ReLU linear attention", "Cai et al. 2022 (EfficientViT)", "2205.14756", ("never empty",))
def relu_linear(pair):
    """Weigh by the product of the positive parts of query and key.

    For vision at high resolution on small devices: no exponentials at all. Local detail gets lost;
    the published module adds small convolutions beside it. A query without positive channels gives
    0.
    """
    return rg.linear(rg.relu(pair.q), rg.relu(pair.k))


@variant("Performer (FAVOR+)", "Choromanski et al. 2020", "2009.14794", ("never empty",))
def performer(pair, *, width=256):
    """Estimate softmax without bias by random positive features.

    To run or fine-tune a softmax model in linear time. `features` (D, width) holds normal
    directions, orthogonal for less noise, drawn anew now and then. The error falls with the root of
    their number and grows fast with the scores: keep q and k small, and compare with softmax before
    trusting it.
    """
    directions = rg.table("features", per=("channel", "channel"))

    def features(row):
        row = row / pair.width**0.25
        return rg.exp(rg.project(row, directions, width) - rg.dot(row, row) / 2)

    return rg.linear(features(pair.q), features(pair.k))


@variant("cosFormer", "Qin et al. 2022", "2202.08791", ("never empty",))
def cosformer(pair):
    """Weigh by the product of positive parts, times a cosine that falls to 0 over the whole length.

    Linear attention that favours what is near, in encoders. The cosine is a sum of products of one
    side's numbers, and so costs a state of twice the size. It needs the length beforehand.
    """
    query, key = (math.pi / 2 * place / pair.keys for place in (pair.i, pair.j))
    near = rg.cos(query) * rg.cos(key) + rg.sin(query) * rg.sin(key)
    return rg.ratio(rg.dot(rg.relu(pair.q), rg.relu(pair.k)) * near)


@variant(
    "Taylor linear attention (Based)", "Arora et al. 2024", "2402.18668", ("causal", "never empty")
)
def based(pair):
    """Replace the exponential by its first three Taylor terms.

    Close to softmax for small scores; always positive. Its authors use heads of 16 channels beside
    small exact windows, and a state of D² rows to run in linear time; here it is computed pair by
    pair, at softmax's cost.
    """
    score = _score(pair)
    return rg.ratio(1 + score + score * score / 2, where=pair.j <= pair.i)


@variant("Hedgehog", "Zhang et al. 2024", "2402.04347", ("causal", "never empty"))
def hedgehog(pair):
    """Weigh by learned features: exponentials of a projection and of its negative.

    To turn a trained softmax model into a linear one: train the maps first so that the weights
    mimic softmax's, then fine-tune all. Spiky like softmax, unlike fixed features.
    """
    per, start = ("head", "channel", "channel"), rg.init.identity
    query = rg.project(pair.q, rg.parameter("query_map", per=per, init=start))
    key = rg.project(pair.k, rg.parameter("key_map", per=per, init=start))
    weight = rg.dot(rg.exp(query), rg.exp(key)) + rg.dot(rg.exp(-query), rg.exp(-key))
    return rg.ratio(weight, where=pair.j <= pair.i)
