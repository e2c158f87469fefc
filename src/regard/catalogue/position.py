"""What a pair's places add to its score, or turn in its rows.

Leaves to others: the other families.
"""

import math

from regard import lang as rg
from regard.catalogue.variant import variant


def _score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def _cosine_score(pair):
    """What `scaled_cosine` scores."""
    lengths = rg.sqrt(rg.sum(pair.q * pair.q) + 1e-12) * rg.sqrt(rg.sum(pair.k * pair.k) + 1e-12)
    scale = rg.parameter("logit_scale", per="head", init=rg.init.constant(math.log(10)))
    return rg.exp(rg.min(scale, math.log(100))) * rg.dot(pair.q, pair.k) / lengths


def _turned_score(pair, angle, pairs="halves"):
    """The scaled product of rows whose channel pairs are turned by the angle of their place."""
    query, key = rg.rotate(pair.q, angle(pair.i), pairs), rg.rotate(pair.k, angle(pair.j), pairs)
    return rg.dot(query, key) / rg.sqrt(pair.width)


def distance_bucket(distance, buckets, furthest):
    """One of `buckets` numbers: each short distance its own, longer ones by their logarithm."""
    own = buckets // 2
    octaves = rg.log(rg.max(distance, 1) / own) / math.log(furthest / own)
    # A little more, so that a power of two falls on the same side in every dtype.
    long = own + rg.floor(octaves * (buckets - own) + 1e-5)
    return rg.where(distance < own, distance, rg.min(long, buckets - 1))


_GPT_J = "https://github.com/kingoflolz/mesh-transformer-jax"
_NTK = "https://www.reddit.com/r/LocalLLaMA/comments/14lz7j5/"
_PLACELESS = ("permutation-equivariant", "never empty")
_RELATIVE = ("shift-invariant", "never empty")
_CAUSAL = ("causal", "shift-invariant", "never empty")


@variant("Relative position representations", "Shaw et al. 2018", "1803.02155", _RELATIVE)
def shaw(pair, *, clip=16):
    """Add to keys and values a learned row for each step between the places.

    The first relative positions. Rows let a head want "the word two before" and pass on which it
    was. Use it for short inputs and encoders, and for music or code where exact steps matter; two
    tables of rows cost more than a bias, and steps beyond `clip` are all alike.
    """
    small, size = rg.init.normal(0.02), 2 * clip + 1
    keys = rg.parameter("keys", per=(size, "channel"), init=small)
    values = rg.parameter("values", per=(size, "channel"), init=small)
    step = rg.clip(pair.j - pair.i, -clip, clip) + clip
    score = rg.dot(pair.q, pair.k + keys[step]) / rg.sqrt(pair.width)
    return rg.output(rg.softmax(score), values=pair.v + values[step])


@variant("Transformer-XL", "Dai et al. 2019", "1901.02860", _CAUSAL)
def transformer_xl(pair):
    """Score by content and by a row for the distance, each with a learned preference of the head.

    For language models that carry keys over from segment to segment, where absolute positions
    would repeat. `distances` holds a row for each distance, sines projected by the layer, so it
    needs no upper bound; it costs a second product per pair.
    """
    content = rg.parameter("content", per=("head", "channel"), init=rg.init.normal(0.02))
    position = rg.parameter("position", per=("head", "channel"), init=rg.init.normal(0.02))
    distance = rg.table("distances", per=("head", "rows", "channel"))[pair.i - pair.j]
    score = rg.dot(pair.q + content, pair.k) + rg.dot(pair.q + position, distance)
    return rg.softmax(score / rg.sqrt(pair.width), where=pair.j <= pair.i)


@variant("T5 relative bias", "Raffel et al. 2019", "1910.10683", _RELATIVE)
def t5(pair, *, buckets=32, furthest=128):
    """Add a learned number for the distance and side, in buckets that widen with the distance.

    The encoder of T5. A good bias to start from: few numbers, any length, one bucket for all that
    is far. Its score is not scaled, as T5's initial weights make up for that; with others divide
    by the square root of the width.
    """
    bias = rg.parameter("bias", per=("head", buckets), init=rg.init.normal(0.05))
    bucket = distance_bucket(abs(pair.j - pair.i), buckets // 2, furthest)
    after = rg.where(pair.j > pair.i, buckets // 2, 0)
    return rg.softmax(rg.dot(pair.q, pair.k) + bias[bucket + after])


@variant("T5 relative bias, causal", "Raffel et al. 2019", "1910.10683", _CAUSAL)
def t5_causal(pair, *, buckets=32, furthest=128):
    """Add a learned number for how far back a key is, in buckets that widen with the distance.

    The decoder of T5: all buckets are for the past. Beyond `furthest` the distance is no longer
    told apart, so it goes on working in longer texts, but cannot say which far key is nearer;
    `kerple_log` can.
    """
    bias = rg.parameter("bias", per=("head", buckets), init=rg.init.normal(0.05))
    bucket = distance_bucket(rg.max(pair.i - pair.j, 0), buckets, furthest)
    return rg.softmax(rg.dot(pair.q, pair.k) + bias[bucket], where=pair.j <= pair.i)


@variant("Untied positional encoding (TUPE)", "Ke et al. 2020", "2006.15595", ("never empty",))
def tupe(pair):
    """Score words with words and places with places, never words with places.

    For encoders such as BERT: the place rows have projections of their own, and the first token,
    which stands for the whole text, has a learned score to and from all others instead of a
    place. It costs one more product per pair; place rows bound the length.
    """
    place = rg.dot(rg.query_vector("q_position"), rg.key_vector("k_position"))
    place = place / rg.sqrt(2 * pair.width)
    place = rg.where(pair.j == 0, rg.parameter("reset_to", per="head"), place)
    place = rg.where(pair.i == 0, rg.parameter("reset_from", per="head"), place)
    return rg.softmax(rg.dot(pair.q, pair.k) / rg.sqrt(2 * pair.width) + place)


@variant("Disentangled attention (DeBERTa)", "He et al. 2020", "2006.03654", _RELATIVE)
def deberta(pair, *, span=512):
    """Score content with content, content with distance, and distance with content.

    Strong in encoders for understanding, where what a word looks for depends on how far it looks.
    It costs three products per pair, so take `t5` or rotary positions for speed. The tables hold
    the distance rows as the layer projects them.
    """

    def rows(name, step):
        table = rg.parameter(name, per=("head", 2 * span, "channel"), init=rg.init.normal(0.02))
        return table[rg.clip(step + span, 0, 2 * span - 1)]

    score = rg.dot(pair.q, pair.k) + rg.dot(pair.q, rows("to_key", pair.i - pair.j))
    score = score + rg.dot(pair.k, rows("to_query", pair.j - pair.i))
    return rg.softmax(score / rg.sqrt(3 * pair.width))


@variant("Linear biases (ALiBi)", "Press et al. 2021", "2108.12409", _CAUSAL)
def alibi(pair):
    """Subtract from each score the distance times a slope of the head.

    For language models that shall read longer texts than they were trained on, for no parameters
    and next to no time. Far keys fade in every head, so it does not retrieve them; the published
    slopes are kept fixed, train them only with care.
    """
    slope = rg.parameter("slope", per="head", init=rg.init.alibi)
    return rg.softmax(_score(pair) - slope * (pair.i - pair.j), where=pair.j <= pair.i)


@variant("Linear biases, both sides", "Press et al. 2021", "2108.12409", _RELATIVE)
def alibi_symmetric(pair):
    """Subtract from each score the distance, before or after, times a slope of the head.

    Linear biases for encoders. Both sides fade alike, so it does not tell left from right by
    itself; combine it with something that does, or give some heads a mask.
    """
    slope = rg.parameter("slope", per="head", init=rg.init.alibi)
    return rg.softmax(_score(pair) - slope * abs(pair.i - pair.j))


@variant("KERPLE, power", "Chi et al. 2022", "2205.09921", ("causal", "shift-invariant"))
def kerple_power(pair):
    """Subtract a learned power of the distance.

    Linear biases whose shape is learned: a power of 1 is `alibi`, smaller ones forget more
    slowly, larger ones are nearly windows. Scale and power must stay positive and the power at
    most 2, which the layer sees to; `kerple_log` extrapolated better in the paper.
    """
    scale = rg.parameter("scale", per="head", init=rg.init.uniform(0.0, 1.0))
    power = rg.parameter("power", per="head", init=rg.init.uniform(0.0, 2.0))
    bias = scale * (pair.i - pair.j) ** power
    return rg.softmax(_score(pair) - bias, where=pair.j <= pair.i)


@variant("KERPLE, logarithmic", "Chi et al. 2022", "2205.09921", ("causal", "shift-invariant"))
def kerple_log(pair):
    """Subtract a learned multiple of the logarithm of the distance.

    Weights fall as a power of the distance, so far keys stay within reach: a good first choice
    for longer texts than were trained on. Two numbers per head, which must stay positive; one
    logarithm per pair.
    """
    scale = rg.parameter("scale", per="head", init=rg.init.uniform(0.0, 2.0))
    rate = rg.parameter("rate", per="head", init=rg.init.uniform(0.0, 1.0))
    bias = scale * rg.log(1 + rate * (pair.i - pair.j))
    return rg.softmax(_score(pair) - bias, where=pair.j <= pair.i)


@variant("Sandwich", "Chi et al. 2022", "2212.10356", ("causal", "shift-invariant"))
def sandwich(pair, *, width=128):
    """Add the product of the two places' sines and cosines, weaker from head to head.

    Nothing is learned: the product of sinusoidal positions, freed of its products with words,
    decays like a logarithm and extrapolates. Use it to see how far positions without parameters
    go. Each pair costs `width` / 2 cosines; a table by distance is cheaper.
    """
    step = pair.i - pair.j
    waves = sum(rg.cos(step / 10000 ** (2 * c / width)) for c in range(width // 2))
    weaker = 8 * (pair.head + 1) / pair.heads
    return rg.softmax(_score(pair) + waves / weaker, where=pair.j <= pair.i)


@variant("Functional interpolation (FIRE)", "Li et al. 2023", "2310.04418", ("causal",))
def fire(pair, *, width=32):
    """Add a network's answer to the distance, as a share of the query's place, on a log scale.

    Learns its own shape of bias and sees the same range of inputs in texts of every length, so it
    generalises to longer ones; the paper finds it ahead of the other biases here. Each pair costs
    `width` units; a layer takes it as `widths={"hidden": 32}`. `rate` must stay positive.
    """
    rate = rg.parameter("rate", init=rg.init.constant(0.1))
    length = rg.parameter("length", init=rg.init.constant(512.0))
    hidden = rg.parameter("hidden", per="channel", init=rg.init.normal(1.0))
    bias = rg.parameter("hidden_bias", per="channel", init=rg.init.uniform(-1.0, 1.0))
    out = rg.parameter("out", per=("head", "channel"), init=rg.init.normal(width**-0.5))
    share = rg.log(1 + rate * (pair.i - pair.j))
    share = share / rg.log(1 + rate * rg.max(length, pair.i))
    answer = rg.sum(out * rg.relu(hidden * share + bias)) + rg.parameter("out_bias", per="head")
    return rg.softmax(_score(pair) + answer, where=pair.j <= pair.i)


@variant(
    "Context-aware biases (CABLE)", "Veisi et al. 2025", "2503.08067", ("causal", "never empty")
)
def cable(pair):
    """Subtract what the tokens between query and key have added up.

    A distance that the text decides: the layer gives each token a step, not negative, and sums
    them up, so filler counts for little and a new topic for much. The paper finds it to
    extrapolate better than fixed slopes. A number per token and head, and a pair costs no more
    than with `alibi`.
    """
    between = rg.query_feature("total_q") - rg.key_feature("total_k")
    return rg.softmax(_score(pair) - between, where=pair.j <= pair.i)


@variant("Continuous position bias (Swin V2)", "Liu et al. 2021", "2111.09883", _PLACELESS)
def swin_continuous_bias(pair, *, side=8, width=512):
    """Add a network's answer to the step between two patches, on a log scale.

    For windows of an image whose size changes between pre-training and use: the network is asked
    for the new steps, where a table would have to be interpolated. Scores are scaled cosines.
    Each pair costs `width` units, so for inference store the answers by step. A layer takes
    `widths={"hidden": 512}`.
    """

    def spaced(axis):
        step = rg.query_feature(f"{axis}_q") - rg.key_feature(f"{axis}_k")
        return rg.sign(step) * rg.log(1 + abs(step) * 8 / (side - 1)) / math.log(8)

    hidden = rg.parameter("hidden", per=(2, "channel"), init=rg.init.uniform(-0.7, 0.7))
    bias = rg.parameter("hidden_bias", per="channel", init=rg.init.uniform(-0.7, 0.7))
    out = rg.parameter("out", per=("head", "channel"), init=rg.init.normal(width**-0.5))
    units = rg.relu(hidden[0] * spaced("row") + hidden[1] * spaced("column") + bias)
    return rg.softmax(_cosine_score(pair) + 16 * rg.sigmoid(rg.sum(out * units)))


@variant("Relative position bias (Swin)", "Liu et al. 2021", "2103.14030", _PLACELESS)
def swin_relative_bias(pair, *, side=7):
    """Add a learned number for the step between two patches of a window.

    For vision transformers on windows or images of one size: each head learns a picture of where
    it looks. The table belongs to windows of `side` by `side` patches; for sizes that change take
    `swin_continuous_bias` or `rotary_axial`.
    """
    size = 2 * side - 1
    bias = rg.parameter("bias", per=("head", size * size), init=rg.init.normal(0.02))
    down = rg.query_feature("row_q") - rg.key_feature("row_k") + side - 1
    right = rg.query_feature("column_q") - rg.key_feature("column_k") + side - 1
    return rg.softmax(_score(pair) + bias[size * down + right])


@variant("Rotary positions (RoPE)", "Su et al. 2021", "2104.09864", _CAUSAL)
def rotary(pair):
    """Turn neighbouring channels by an angle of the place, so that products tell the distance.

    What most language models use: relative, without parameters, and done once per token. It does
    not extrapolate by itself; see the scalings below. This is the published layout, that of GPT-J
    and of Llama's original weights; `rotary_halves` is the same for permuted weights.
    """
    return rg.softmax(_turned_score(pair, rg.rotary, "interleaved"), where=pair.j <= pair.i)


@variant("Rotary positions, halves", "Black et al. 2022", "2204.06745", _CAUSAL)
def rotary_halves(pair):
    """Turn each channel with the one half a row away by an angle of the place.

    The layout of GPT-NeoX, and of Llama, Qwen and Mistral as Hugging Face transformers stores
    them. Choose it by the weights: in a model of your own the two layouts are equivalent.
    """
    return rg.softmax(_turned_score(pair, rg.rotary), where=pair.j <= pair.i)


@variant("Position interpolation (PI)", "Chen et al. 2023", "2306.15595", _CAUSAL)
def rotary_interpolated(pair, *, factor=8.0):
    """Squeeze the places of a longer text into the range that was trained.

    Extends the context of a rotary model `factor` times after a short fine-tuning, say 1000
    steps. Without fine-tuning neighbours blur, as all angles shrink alike; then take `rotary_ntk`
    or `rotary_yarn`.
    """
    score = _turned_score(pair, lambda place: rg.rotary(place / factor))
    return rg.softmax(score, where=pair.j <= pair.i)


@variant("NTK-aware scaling", "bloc97 2023", _NTK, ("causal", "shift-invariant"))
def rotary_ntk(pair, *, factor=8.0):
    """Raise the base, so that slow channels are interpolated and fast ones hardly.

    Extends the context of a rotary model without any fine-tuning, at some loss. Its effective
    reach is less than `factor`, so set that higher than needed; with fine-tuning `rotary_yarn`
    does better.
    """
    base = 10000.0 * factor ** (pair.width / (pair.width - 2))
    score = _turned_score(pair, lambda place: rg.rotary(place, base))
    return rg.softmax(score, where=pair.j <= pair.i)


@variant("YaRN", "Peng et al. 2023", "2309.00071", _CAUSAL)
def rotary_yarn(pair, *, factor=16.0, original=4096, beta_slow=1.0, beta_fast=32.0):
    """Interpolate channels that turn seldom in the original context, keep those that turn often.

    Extends the context of a rotary model with the least fine-tuning, and sharpens scores a little
    to make up for more keys. Set `original` to the trained length and `factor` to the new one's
    multiple of it; short texts lose slightly, so use it when long ones are wanted.
    """
    step = rg.rotary()
    turns = original * step / (2 * math.pi)
    kept = rg.clip((turns - beta_slow) / (beta_fast - beta_slow), 0, 1)
    step = step * (kept + (1 - kept) / factor)
    sharper = (0.1 * math.log(factor) + 1) ** 2
    score = sharper * _turned_score(pair, lambda place: place * step)
    return rg.softmax(score, where=pair.j <= pair.i)


@variant("Llama 3.1 scaling", "Grattafiori et al. 2024", "2407.21783", _CAUSAL)
def rotary_llama3(pair, *, factor=8.0, low=1.0, high=4.0, original=8192, base=500000.0):
    """Slow down channels with long waves, keep those with short ones, and blend between.

    For the weights of Llama 3.1 and later, which need exactly this. In a model of your own take
    `rotary_yarn`, the same idea with a temperature.
    """
    step = rg.rotary(base=base)
    turns = original * step / (2 * math.pi)
    kept = rg.clip((turns - low) / (high - low), 0, 1)
    step = step * (kept + (1 - kept) / factor)
    return rg.softmax(_turned_score(pair, lambda place: place * step), where=pair.j <= pair.i)


@variant("Partial rotary positions", "Wang & Komatsuzaki 2021", _GPT_J, _CAUSAL)
def rotary_partial(pair, *, turned=0.25):
    """Turn a share of the channels, the first ones, and leave the others to content.

    What GPT-J does with 64 of 256 channels: the others can match words wherever they stand. Choose
    a quarter to a half. Neighbouring channels are paired, as there; for the weights of GPT-NeoX
    and Phi, which pair halves, turn the slice `pair.q[:width]` instead.
    """
    width = turned * pair.width
    step = rg.where(rg.channel < width / 2, rg.rotary(width=width), 0.0)
    score = _turned_score(pair, lambda place: place * step, "interleaved")
    return rg.softmax(score, where=pair.j <= pair.i)


@variant("Axial rotary positions", "Heo et al. 2024", "2403.13298", ("permutation-equivariant",))
def rotary_axial(pair, *, base=100.0):
    """Turn half of the channels by the row of a patch and half by its column.

    Rotary positions for images: vision transformers with them keep their accuracy at resolutions
    they were not trained on. Diagonals are seen as a row and a column apart; where directions
    matter, learn mixed frequencies instead.
    """
    quarter = pair.width // 4
    step = base ** (-(rg.channel % quarter) / quarter)

    def turned(rows, row, column):
        return rg.rotate(rows, rg.where(rg.channel < quarter, row, column) * step, "interleaved")

    query = turned(pair.q, rg.query_feature("row_q"), rg.query_feature("column_q"))
    key = turned(pair.k, rg.key_feature("row_k"), rg.key_feature("column_k"))
    return rg.softmax(rg.dot(query, key) / rg.sqrt(pair.width))


@variant(
    "Multimodal rotary positions (M-RoPE)",
    "Wang et al. 2024",
    "2409.12191",
    ("causal", "never empty"),
)
def rotary_sections(pair, *, sections=(16, 24, 24), base=10000.0):
    """Turn a section of the channels by the time, one by the row and one by the column of a token.

    For models that read text, images and video in one sequence, as Qwen2-VL: text tokens have
    three equal places, and then it is `rotary_halves`. The sections add up to half of the width.
    """
    first, second = sections[0], sections[0] + sections[1]

    def angle(feature, side):
        time, row, column = (feature(f"{axis}_{side}") for axis in ("time", "row", "column"))
        lower = rg.where(rg.channel < second, row, column)
        return rg.rotary(rg.where(rg.channel < first, time, lower), base)

    query = rg.rotate(pair.q, angle(rg.query_feature, "q"))
    key = rg.rotate(pair.k, angle(rg.key_feature, "k"))
    return rg.softmax(rg.dot(query, key) / rg.sqrt(pair.width), where=pair.j <= pair.i)


@variant("xPos", "Sun et al. 2022", "2212.10554", ("causal", "never empty"))
def xpos(pair):
    """Turn channels by the place and let fast ones decay with the distance.

    Rotary positions that fade: products at far distances stop oscillating, which mends the
    extrapolation that `rotary` lacks. Rows grow and shrink exponentially in the place, so in half
    precision count places from the middle of the text.
    """
    size = (2 * (rg.channel // 2) / pair.width + 0.4) / 1.4
    query = rg.rotate(pair.q, rg.rotary(pair.i), "interleaved") * size ** (pair.i / 512)
    key = rg.rotate(pair.k, rg.rotary(pair.j), "interleaved") * size ** (-pair.j / 512)
    return rg.softmax(rg.dot(query, key) / rg.sqrt(pair.width), where=pair.j <= pair.i)


@variant("Learned relative bias", "Bao et al. 2021", "2106.08254", _RELATIVE)
def learned_relative_bias(pair, *, clip=128):
    """Add a learned number for each step between the places.

    The table of BEiT in one dimension: exact up to `clip` steps, one number beyond. Use it where
    the lengths of training and use agree and exact steps matter; `t5` shares numbers between far
    steps and needs fewer.
    """
    bias = rg.parameter("bias", per=("head", 2 * clip + 1), init=rg.init.normal(0.02))
    return rg.softmax(_score(pair) + bias[rg.clip(pair.j - pair.i, -clip, clip) + clip])


@variant("Spatial encoding (Graphormer)", "Ying et al. 2021", "2106.05234", _PLACELESS)
def graphormer(pair, *, furthest=20):
    """Add a learned number for how many edges lie between two nodes of a graph.

    Lets a transformer see a graph without leaving dense attention: molecules and other graphs of
    up to some hundred nodes. `distance` holds shortest paths, computed beforehand; all at
    `furthest` - 1 and beyond share a number, so mark nodes that do not meet with a large one.
    """
    bias = rg.parameter("bias", per=("head", furthest), init=rg.init.normal(0.02))
    distance = rg.clip(rg.pair_input("distance"), 0, furthest - 1)
    return rg.softmax(_score(pair) + bias[distance])
