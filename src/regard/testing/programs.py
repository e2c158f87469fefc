"""The programs every backend is tested on: each part of the language is met by some of them.

They are chosen to break backends, not to be used; the catalogue holds the published variants.
Leaves to others: their inputs (`inputs`), running them (`contract`).
"""

import math
from collections.abc import Callable
from typing import Any

from regard.ir.program import AttentionProgram
from regard.lang import init
from regard.lang.functions import (
    clip,
    cos,
    dot,
    erf,
    exp,
    floor,
    log,
    max_over_keys,
    project,
    relu,
    rotary,
    rotate,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    tanh,
    where,
)
from regard.lang.functions import max as larger
from regard.lang.functions import min as smaller
from regard.lang.functions import sum as total
from regard.lang.pair import (
    Pair,
    channel,
    key_feature,
    key_vector,
    pair_input,
    parameter,
    query_feature,
    query_vector,
    scalar,
    table,
)
from regard.lang.program import program
from regard.lang.trace import Expr
from regard.lang.weights import (
    dropout,
    keep,
    linear,
    output,
    ratio,
    softmax,
    weigh,
)
from regard.lang.weights import map as map_weights
from regard.testing.ordered_programs import ORDERED
from regard.testing.sparse_programs import SPARSE

PROGRAMS: dict[str, AttentionProgram] = {}


def _contract(fn: Callable[[Pair], Any]) -> AttentionProgram:
    PROGRAMS[fn.__name__] = program(fn)
    return PROGRAMS[fn.__name__]


def _score(pair: Pair) -> Expr:
    return dot(pair.q, pair.k) / sqrt(pair.width)


def _causal(pair: Pair) -> Expr:
    return pair.j <= pair.i


def _unit(row: Expr) -> Expr:
    return row / sqrt(total(row * row) + 1e-6)


# ── Softmax over products, biases of positions, masks ─────────────────────────────────────────
@_contract
def scaled_dot_product(pair):
    return softmax(_score(pair))


@_contract
def causal(pair):
    return softmax(_score(pair), where=_causal(pair))


@_contract
def strictly_causal(pair):
    """Hide the query itself: the first row sees nothing."""
    return softmax(0.25 * dot(pair.k, pair.q), where=pair.j < pair.i)


@_contract
def alibi(pair):
    slope = parameter("slope", per="head", init=init.alibi)
    return softmax(_score(pair) - slope * abs(pair.i - pair.j), where=_causal(pair))


@_contract
def fixed_slope(pair):
    """Bias by distance without anything learned, as torch's own kernels take it."""
    distance = abs(pair.i - pair.j)
    bias = distance / (pair.head + 1)
    return softmax(_score(pair) - bias, where=distance < 24)


@_contract
def t5_buckets(pair):
    distance = abs(pair.i - pair.j)
    # A little more, so that powers of two fall on the same side in every dtype.
    steps = log(larger(distance, 1) / 8) / math.log(128 / 8) * 8 + 1e-4
    far = smaller(8 + floor(steps), 15)
    bucket = where(distance < 8, distance, far) + where(pair.j > pair.i, 16, 0)
    bias = parameter("bias", per=("head", 32), init=init.normal(1.0))
    return softmax(dot(pair.q, pair.k) + bias[bucket])


@_contract
def shaw_relative(pair):
    step = clip(pair.j - pair.i, -4, 4) + 4
    keys, values = table("keys", per=(9, "channel")), table("values", per=(9, "channel"))
    score = dot(pair.q, pair.k + keys[step]) / sqrt(pair.width)
    return output(softmax(score), values=pair.v + values[step])


@_contract
def transformer_xl(pair):
    content = parameter("content", per=("head", "channel"))
    position = parameter("position", per=("head", "channel"))
    rows = table("rows", per=(64, "channel"))[clip(pair.i - pair.j, 0, 63)]
    score = dot(pair.q + content, pair.k) + dot(pair.q + position, rows)
    return softmax(score / sqrt(pair.width), where=_causal(pair))


@_contract
def disentangled(pair):
    """Score content by content, content by place, and place by content."""
    to_key = parameter("to_key", per=("head", 12, "channel"), init=init.normal(0.5))
    to_query = parameter("to_query", per=("head", 12, "channel"), init=init.normal(0.5))
    score = dot(pair.q, pair.k) + dot(pair.q, to_key[pair.i - pair.j + 6])
    score = score + dot(pair.k, to_query[pair.j - pair.i + 6])
    return softmax(score / sqrt(3 * pair.width))


@_contract
def window(pair):
    near = (pair.j <= pair.i) & (pair.i - pair.j < 8)
    return softmax(_score(pair), where=near)


@_contract
def dilated(pair):
    step = pair.i - pair.j
    return softmax(_score(pair), where=(step % 3 == 0) & (step // 3 < 6) & (step >= 0))


@_contract
def prefix(pair):
    length = table("length", per="rows")[pair.batch]
    return softmax(_score(pair), where=(pair.j <= pair.i) | (pair.j < 6 * abs(length)))


@_contract
def documents(pair):
    same = query_feature("document") == key_feature("source")
    return softmax(_score(pair), where=same & _causal(pair))


@_contract
def chosen_tokens(pair):
    """Masks that are given: by key, by pair, and by place in a table."""
    seen = key_feature("real") & (pair_input("allowed") | table("open", per=5)[pair.j % 5])
    return softmax(_score(pair), where=seen)


@_contract
def minus_infinity(pair):
    """Hide by the score itself."""
    score = where(pair.j % 2 == 0, _score(pair), -math.inf)
    return softmax(score, where=pair.j <= pair.i + 1)


@_contract
def scalable(pair):
    scale = parameter("scale", per="head", init=init.constant(0.4))
    score = scale * log(pair.visible) * dot(_unit(pair.q), _unit(pair.k))
    return softmax(score, where=_causal(pair))


# ── Sinks ─────────────────────────────────────────────────────────────────────────────────────
@_contract
def softmax_one(pair):
    return softmax(_score(pair), sink=0.0)


@_contract
def learned_sink(pair):
    sink = parameter("sink", per="head", init=init.normal(1.0))
    return softmax(_score(pair), where=_causal(pair) & (pair.i - pair.j < 8), sink=sink)


@_contract
def query_sink(pair):
    """Let each query have a sink of its own, from its row and from what it may see."""
    direction = parameter("direction", per="channel")
    sink = dot(pair.q, direction) + query_feature("tired") - log(1 + pair.visible)
    return softmax(_score(pair), where=pair.j < pair.i, sink=sink, name="tired_head")


# ── Other scores ──────────────────────────────────────────────────────────────────────────────
@_contract
def additive(pair):
    direction = parameter("direction", per=("head", "channel"), init=init.normal(0.5))
    return softmax(total(direction * tanh(pair.q + pair.k)))


@_contract
def mlp(pair):
    first = parameter("first", per=("head", "channel", "channel"), init=init.normal(0.3))
    second = parameter("second", per=("channel", "channel"), init=init.normal(0.3))
    bias = parameter("bias", per="channel")
    last = parameter("last", per="channel", init=init.normal(1.0))
    hidden = project(pair.q, first, width=12) + project(pair.k, second, width=12) + bias
    return softmax(total(last * relu(hidden)), where=_causal(pair))


@_contract
def manhattan(pair):
    return softmax(-0.5 * total(abs(pair.q - pair.k)))


@_contract
def euclidean(pair):
    difference = pair.q - pair.k
    return softmax(-total(difference * difference) / pair.width)


@_contract
def cosine(pair):
    heat = parameter("heat", per="head", init=init.ones)
    return softmax(exp(smaller(heat, 4.0)) * dot(_unit(pair.q), _unit(pair.k)))


@_contract
def soft_cap(pair):
    return softmax(5 * tanh(_score(pair) / 5) / scalar("heat"), where=_causal(pair))


@_contract
def rotary_halves(pair):
    query, key = rotate(pair.q, rotary(pair.i)), rotate(pair.k, rotary(pair.j))
    return softmax(dot(query, key) / sqrt(pair.width), where=_causal(pair))


@_contract
def rotary_interleaved(pair):
    """Turn by learned speeds, a part of the channels alone, at times that are data."""
    speed = parameter("speed", per="channel", init=init.normal(0.3))
    query = rotate(pair.q[:4], query_feature("when") * speed, pairs="interleaved")
    key = rotate(pair.k[:4], key_feature("then") * speed, pairs="interleaved")
    rest = dot(pair.q[4:], pair.k[4:])
    return softmax((dot(query, key) + rest) / sqrt(pair.width))


@_contract
def xpos(pair):
    decay = (2 * channel + 0.4 * pair.width) / (2.4 * pair.width)
    query = rotate(pair.q, rotary(pair.i)) * decay ** (pair.i / 64)
    key = rotate(pair.k, rotary(pair.j)) * decay ** (-pair.j / 64)
    return softmax(dot(query, key) / sqrt(pair.width), where=_causal(pair))


@_contract
def further_rows(pair):
    """Score by rows beside q and k, and sum rows beside v."""
    score = dot(query_vector("place"), key_vector("spot")) + dot(pair.q, pair.k) * 0.25
    gate = sigmoid(dot(key_vector("spot"), key_vector("spot")) - 9)
    return output(softmax(score), values=gate * key_vector("memory") + abs(pair.k[:3]))


@_contract
def channel_weights(pair):
    """Weigh the channels by their number, some of them not at all."""
    weight = where(channel % 3 == 0, 0.0, cos(channel * 0.7)) * sqrt(1 + channel)
    return softmax(total(weight * pair.q * pair.k) + total(relu(pair.k - pair.q)) * 0.1)


@_contract
def every_operator(pair):
    """Use each scalar operator that the other programs leave out."""
    score = _score(pair)
    waves = sin(score) + cos(2 * score) + erf(score) + softplus(score) + sigmoid(-score)
    powers = sqrt(score**2 + 1) + (1 + abs(score)) ** 0.7 + log(2 + score * score)
    steps = sign(pair.i - pair.j) + (pair.i + pair.j) // 5 - (pair.i * pair.j) % 7 - (3 * score) % 2
    chosen = where((score > 0) | ~(pair.i != pair.j), smaller(score, 0.5), larger(score, -0.5))
    return softmax(0.3 * (waves + powers - chosen) + 0.1 * steps)


@_contract
def sizes_and_heads(pair):
    """Read every position and size."""
    share = (pair.head + 1) / pair.heads + pair.batch * 0.1
    far = pair.j / pair.keys - pair.i / pair.queries
    return softmax(share * _score(pair) - far * far * log(1 + pair.keys))


@_contract
def indexed_by_pairs(pair):
    """Look biases up by a relation given for every pair, and by two indices."""
    relation = parameter("relation", per=("head", 3), init=init.normal(1.0))[pair_input("edges")]
    classes = table("classes", per=(3, 3))[query_feature("kind"), key_feature("sort")]
    return softmax(_score(pair) + relation + classes)


# ── Other normalisers ─────────────────────────────────────────────────────────────────────────
@_contract
def gaussian(pair):
    difference = pair.q - pair.k
    return weigh(exp(-total(difference * difference) / pair.width))


@_contract
def sigmoid_weights(pair):
    return weigh(sigmoid(_score(pair) - log(pair.keys)), where=_causal(pair))


@_contract
def softpick(pair):
    grown = exp(_score(pair)) - 1
    return ratio(relu(grown), abs(grown), where=_causal(pair), add=1e-6)


@_contract
def softplus_share(pair):
    return ratio(softplus(_score(pair)), at_least=0.5)


@_contract
def relu_by_length(pair):
    return weigh(relu(_score(pair)) ** 2 / pair.keys)


@_contract
def normalised_relu(pair):
    """Gate and norm the sum of squared relus."""
    weights = weigh(relu(_score(pair)) ** 2, where=_causal(pair))
    gate = parameter("gate", per=("channel", "channel"), init=init.normal(0.3))

    def finish(row):
        norm = row / sqrt(total(row * row) / 4 + 1e-3)
        return norm * sigmoid(project(norm, gate))

    return output(weights, finish=finish)


@_contract
def exponential_ratio(pair):
    """Choose between exponentials, with bounds on the true scale and on the shifted one."""
    chosen = where(pair.j % 2 == 0, exp(_score(pair)), 0.5 * exp(-_score(pair)))
    bound = parameter("bound", per="head", init=init.ones)
    first = ratio(chosen, where=_causal(pair), add=exp(bound) + 0.1 * pair.visible)
    second = ratio(chosen, larger(chosen, 0.3), at_least=0.7, scaled=True)
    return first + second


@_contract
def elu_features(pair):
    def features(row):
        return where(row > 0, row + 1, exp(smaller(row, 0.0)))

    return linear(features(pair.q), features(pair.k), where=_causal(pair))


@_contract
def retention(pair):
    decay = exp(-(pair.i - pair.j) / (4 + pair.head))
    weights = weigh(_score(pair) * decay, where=_causal(pair))
    return output(weights, finish=lambda row: row / sqrt(total(row * row) / 4 + 1e-3))


@_contract
def gated_linear(pair):
    """Forget by a gate of each token, over keys that are real; divide by the sum and a floor."""
    gate = parameter("gate", per="head", init=init.constant(0.3))
    kept = exp(gate * (query_feature("faded") - key_feature("fading")))
    mixed = project(pair.k, parameter("mix", per=("channel", "channel"), init=init.normal(0.3)))
    weight = dot(relu(pair.q), relu(mixed)) * kept
    return ratio(weight, where=_causal(pair) & key_feature("real"), add=0.2, at_least=0.5)


@_contract
def unlike_sums(pair):
    """Add products of unlike decays, see all keys, and weigh them by numbers of either side."""
    near = dot(pair.q, pair.k) * exp((pair.j - pair.i) / (40 + pair.head))
    first = near - 0.3 * query_feature("tired") * key_feature("weight")
    weights = ratio(first, softplus(key_feature("weight")), add=pair.head)
    return weights * sigmoid(key_feature("weight")) / (1 + abs(query_feature("tired")))


for _sparse in SPARSE:
    _contract(_sparse)


# ── Sums over keys in order ───────────────────────────────────────────────────────────────────
for _ordered in ORDERED:
    _contract(_ordered)


# ── The algebra of weights ────────────────────────────────────────────────────────────────────
@_contract
def differential(pair):
    first = softmax(_score(pair), where=_causal(pair), name="signal")
    other = 0.3 * dot(query_vector("q2"), key_vector("k2"))
    second = softmax(other, where=pair.j <= pair.i + 3, name="noise")
    share = parameter("share", init=init.constant(0.5))
    return output(first - share * second, finish=lambda row: row / sqrt(total(row * row) + 1e-3))


@_contract
def product_of_weights(pair):
    first = softmax(_score(pair), where=_causal(pair))
    second = ratio(exp(key_feature("weight") + 0 * _score(pair)), where=pair.i - pair.j < 9)
    return first * second * sigmoid(pair_input("gate"))


@_contract
def local_and_global(pair):
    near = softmax(_score(pair), where=abs(pair.i - pair.j) < 4, name="near")
    far = softmax(0.5 * _score(pair), where=abs(pair.i - pair.j) >= 4, name="far")
    share = sigmoid(query_feature("share"))
    return near * share + far * (1 - share) - weigh(0.01 * _score(pair)) / pair.keys


@_contract
def clipped(pair):
    weights = softmax(_score(pair), where=_causal(pair))
    return map_weights(lambda w: clip(1.2 * w - 0.05, 0, 1) + 0.1 * w * _score(pair), weights)


@_contract
def drop_key(pair):
    return softmax(_score(pair), where=keep(scalar("p"), "bhij") & _causal(pair))


@_contract
def drop_head(pair):
    kept = where(keep(0.3, "bh"), 1 / 0.7, 0.0) * where(keep(0.2, "j"), 1.25, 0.0)
    return softmax(_score(pair)) * kept


@_contract
def dropped_out(pair):
    weights = dropout(softmax(_score(pair), where=_causal(pair)), scalar("p"))
    return weights * 0.9 + dropout(weigh(0.1 * _score(pair)), 0.5)


# ── Values and finish ─────────────────────────────────────────────────────────────────────────
@_contract
def gated(pair):
    gate = parameter("gate", per=("head", "channel", "channel"), init=init.normal(0.3))
    weights = softmax(_score(pair), where=pair.j < pair.i)

    def finish(row):
        norm = row / sqrt(total(row * row) + 1e-3)
        return norm * sigmoid(dot(pair.q, pair.q)) + project(norm, gate)

    return output(weights, finish=finish)


@_contract
def laser(pair):
    top = max_over_keys(pair.v)
    weights = softmax(_score(pair), where=_causal(pair))
    return output(weights, values=exp(pair.v - top), finish=lambda row: top + log(row))


@_contract
def moving_values(pair):
    """Sum rows that turn with the distance and grow with a number of the pair."""
    turned = rotate(pair.v, pair.j * 0.3 / (1 + channel))
    grown = turned * tanh(pair_input("growth"))
    return output(softmax(_score(pair)), values=grown, finish=lambda row: tanh(row) + row)
