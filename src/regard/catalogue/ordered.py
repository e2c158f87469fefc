"""What needs another schedule: sums over keys in order, or more than one pair, head or call.

Leaves to others: the other families; what cannot be said at all (`absent`).
"""

from functools import reduce
from operator import add

from regard import lang as rg
from regard.catalogue.variant import variant


def _score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


# ── Sums over the keys between ────────────────────────────────────────────────────────────────
@variant("Stick-breaking attention", "Tan et al. 2024", "2410.17980", ("causal", "bounded <= 1"))
def stick_breaking(pair):
    """Give each key, from the nearest on, a share of what the keys between left over.

    Recency without any position encoding, and it holds beyond the lengths trained on. What nobody
    takes is left out of the sum. Runs on `reference` and `tiled`, with one more sweep for the sum
    over keys.
    """
    score, before = _score(pair), pair.j < pair.i
    left = rg.running_sum(rg.softplus(score), where=before, reverse=True, exclusive=True)
    return rg.weigh(rg.exp(-rg.softplus(-score) - left), where=before)


@variant(
    "Contextual position encoding (CoPE)",
    "Golovneva et al. 2024",
    "2405.18719",
    ("causal", "never empty"),
)
def contextual_positions(pair, *, positions=64):
    """Count by gates how far back a key is, and add the query's product with that place's row.

    For counting what the context decides: the third sentence back, the last heading. Gates are
    sigmoids of the scores; places between whole numbers are interpolated. Runs on `reference` and
    `tiled`, with one more sweep for the sum over keys.
    """
    seen = pair.j <= pair.i
    score = _score(pair)
    place = rg.min(rg.running_sum(rg.sigmoid(score), where=seen, reverse=True), positions)
    rows = rg.parameter("rows", per=(positions + 1, "channel"), init=rg.init.normal(0.02))
    below, above = rg.floor(place), -rg.floor(-place)
    low, high = rg.dot(pair.q, rows[below]), rg.dot(pair.q, rows[above])
    between = low + (place - below) * (high - low)
    return rg.softmax(score + between, where=seen)


@variant(
    "Forgetting transformer, from its gates",
    "Lin et al. 2025 (FoX)",
    "2503.02130",
    ("causal", "never empty"),
)
def forget_gate_online(pair):
    """Let a key fade by the forget gates of all tokens after it, up to the query's own.

    As `forgetting`, from the gates' logits alone: nothing has to be summed beforehand, which suits
    windows of a stream. Where sums can be kept, `forgetting` is one sweep cheaper.
    """
    kept = -rg.softplus(-rg.key_feature("gate"))
    faded = rg.running_sum(kept, where=pair.j <= pair.i, reverse=True, exclusive=True)
    return rg.softmax(_score(pair) + faded, where=pair.j <= pair.i)


# ── Decays by channel ─────────────────────────────────────────────────────────────────────────
@variant(
    "Gated linear attention (GLA)", "Yang et al. 2023", "2312.06635", ("causal", "never empty")
)
def gated_linear(pair):
    """Weigh by the product of the rows, every channel fading by gates of its own.

    Linear attention that forgets by channel. Give the running sums of the gates' logarithms as rows
    `total_q` and `total_k`. Here it takes time quadratic in the length, to study the weights and
    for short inputs; `gated_decay`, with a gate a head, runs by state.
    """
    kept = rg.exp(rg.query_vector("total_q") - rg.key_vector("total_k"))
    return rg.weigh(rg.sum(pair.q * pair.k * kept), where=pair.j <= pair.i)


@variant(
    "Selective state space (Mamba)", "Gu and Dao 2023", "2312.00752", ("causal", "never empty")
)
def mamba(pair):
    """Weigh by the product of read and write rows, fading by rates times the time between.

    The weights of a selective state space model, to look at: each channel of the model is a head of
    one value channel, q the read rows (C), k the write rows (B), `step_k` the step sizes and
    `total_q`, `total_k` their running sums; published rates start at 1 … D. Quadratic here; the
    model itself runs as a scan.
    """
    rate = rg.exp(rg.parameter("log_rate", per=("head", "channel")))
    kept = rg.exp(-rate * (rg.query_feature("total_q") - rg.key_feature("total_k")))
    weight = rg.key_feature("step_k") * rg.sum(pair.q * pair.k * kept)
    return rg.weigh(weight, where=pair.j <= pair.i)


# ── Other pairs' and other heads' scores ──────────────────────────────────────────────────────
@variant("Talking-heads attention", "Shazeer et al. 2020", "2003.02436", ("never empty",))
def talking_heads(pair, *, heads=8, width=64):
    """Mix the scores of all heads before softmax, and the weights of all heads after it.

    Better than heads that work alone, above all with many narrow ones. Give the rows of all heads
    end to end, the same for each head (`expand`), as `all_q` and `all_k`. Each head computes all of
    them, so time grows with the square of their number: for few heads, or to see what it gains.
    """
    all_q, all_k = rg.query_vector("all_q"), rg.key_vector("all_k")
    parts = [slice(h * width, (h + 1) * width) for h in range(heads)]
    scores = [rg.dot(all_q[part], all_k[part]) / width**0.5 for part in parts]
    before = rg.parameter("before", per=(heads, heads), init=rg.init.identity)
    after = rg.parameter("after", per=("head", heads), init=rg.init.identity)
    mixed = [sum(before[a, b] * scores[a] for a in range(heads)) for b in range(heads)]
    return reduce(add, [after[b] * rg.softmax(mixed[b]) for b in range(heads)])


@variant(
    "Multi-token attention, key-query convolution",
    "Golovneva et al. 2025",
    "2504.00927",
    ("never empty",),
)
def multi_token(pair, *, width=64, queries=6, keys=11):
    """Score by a learned sum of the products of the last few queries with the keys around.

    For finding where several things stand together. Row by row, `recent_q` holds the query and
    those before it, `near_k` the keys from j + keys // 2 down to j - keys // 2, zeros where there
    is none. `keys` products a pair: for a few layers. Start `kernel` at 1 for the pair itself, as
    published; the mixing of heads that follows there is `talking_heads`.
    """
    recent, near = rg.query_vector("recent_q"), rg.key_vector("near_k")
    kernel = rg.parameter("kernel", per=("head", queries, keys), init=rg.init.normal(0.02))
    score = 0
    for b in range(keys):
        row = sum(kernel[a, b] * recent[a * width : (a + 1) * width] for a in range(queries))
        product = rg.dot(row, near[b * width : (b + 1) * width])
        score += rg.where(pair.j - (b - keys // 2) <= pair.i, product, 0.0)
    return rg.softmax(score / width**0.5, where=pair.j <= pair.i)


# ── What an earlier call found ────────────────────────────────────────────────────────────────
@variant("Slot attention", "Locatello et al. 2020", "2006.15055", ("never empty",))
def slot(pair):
    """Let queries compete for each key, then average the keys that each has won.

    For finding the objects of a scene: slots are queries, and an input belongs to one of them.
    First call `scaled_dot_product` with k as queries and q as keys and observe "lse": that is
    `over_q`. Repeat three times, with the slots' recurrent update between.
    """
    won = rg.exp(_score(pair) - rg.key_feature("over_q"))
    return rg.ratio(won + 1e-8)


@variant("Sinkhorn attention (Sinkformer)", "Sander et al. 2021", "2110.11773", ("never empty",))
def sinkhorn(pair):
    """Make columns sum to one as well as rows, by potentials of the keys.

    Every key is read as much as every other, so there are no sinks. Start with potentials of 0. A
    step of Sinkhorn's iteration is two calls that observe "lse": this one, then one with q and k
    swapped and that lse as potential, whose lse is the next `potential_k`. A few steps suffice.
    """
    return rg.softmax(_score(pair) - rg.key_feature("potential_k"))
