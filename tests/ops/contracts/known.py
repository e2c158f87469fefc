"""Programs with known answers: what each keeps and breaks, written by hand.

A line of answers has one sign a contract, in the order of `ASKED`: + kept, - broken.
"""

import math

import regard as rg
from regard.ir.program import AttentionProgram
from regard.lang import init

ASKED = (
    "causal", "window <= 8", "padding-blind", "bounded <= 60", "batch-independent",
    "head-independent", "shift-invariant", "permutation-equivariant", "never empty",
)  # fmt: skip
KNOWN: dict[str, tuple[AttentionProgram, str]] = {}


def _known(answers):
    def keep(fn):
        assert len(answers.split()) == len(ASKED)
        KNOWN[fn.__name__] = rg.program(fn), answers
        return fn

    return keep


def score_of(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def unit(row):
    return row / rg.sqrt(rg.sum(row * row) + 1e-6)


# ── Masks of positions ───────────────────────────────────────────────────────────────────────
@_known("- - + - + + + + +")
def plain(pair):
    return rg.softmax(score_of(pair))


@_known("+ - + - + + + - +")
def causal(pair):
    return rg.softmax(score_of(pair), where=pair.j <= pair.i)


@_known("+ - + - + + + - -")
def before_itself(pair):
    return rg.softmax(score_of(pair), where=pair.j < pair.i)


@_known("- - + - + + + - +")
def one_ahead(pair):
    return rg.softmax(score_of(pair), where=pair.j <= pair.i + 1)


@_known("+ + + - + + + - +")
def window_of_nine(pair):
    return rg.softmax(score_of(pair), where=(pair.j <= pair.i) & (pair.i - pair.j < 9))


@_known("+ - + - + + + - +")
def window_of_ten(pair):
    return rg.softmax(score_of(pair), where=(pair.j <= pair.i) & (pair.i - pair.j < 10))


@_known("- + + - + + + - +")
def near(pair):
    return rg.softmax(score_of(pair), where=abs(pair.i - pair.j) <= 8)


@_known("+ - + - + + - - +")
def anchors(pair):
    seen = (pair.j <= pair.i) & ((pair.i - pair.j < 8) | (pair.j < 4))
    return rg.softmax(score_of(pair), where=seen)


@_known("- - + - + + - - +")
def bad_anchors(pair):
    seen = ((pair.j <= pair.i) & (pair.i - pair.j < 8)) | (pair.j < 4)
    return rg.softmax(score_of(pair), where=seen)


@_known("- + + - + + - - +")
def blocks(pair):
    return rg.softmax(score_of(pair), where=pair.j // 8 == pair.i // 8)


@_known("+ - + - + + - - -")
def earlier_blocks(pair):
    return rg.softmax(score_of(pair), where=pair.j // 64 < pair.i // 64)


@_known("+ - + - + + + - +")
def dilated(pair):
    return rg.softmax(score_of(pair), where=(pair.j <= pair.i) & ((pair.i - pair.j) % 4 == 0))


@_known("- - + - + + + - +")
def same_parity(pair):
    return rg.softmax(score_of(pair), where=pair.i % 2 == pair.j % 2)


@_known("+ - + - + + - - +")
def to_half(pair):
    return rg.softmax(score_of(pair), where=2 * pair.j <= pair.i)


@_known("- - + - + + + - +")
def bottom_right(pair):
    return rg.softmax(score_of(pair), where=pair.j - pair.keys <= pair.i - pair.queries)


@_known("+ + + - + + + - -")
def some_way_back(pair):
    return rg.softmax(score_of(pair), where=(pair.i - pair.j >= 2) & (pair.i - pair.j <= 6))


@_known("+ + + - + + - - +")
def nested_choice(pair):
    reach = rg.where(pair.i > 10, rg.min(pair.i, 8), 3)
    return rg.softmax(score_of(pair), where=(pair.j <= pair.i) & ~(pair.i - pair.j > reach))


# ── Hidden by the score, by weights, by data ─────────────────────────────────────────────────
@_known("+ - + - + + + - +")
def minus_infinity(pair):
    return rg.softmax(rg.where(pair.j <= pair.i, score_of(pair), -math.inf))


@_known("- - + - + + + - +")
def added_minus_infinity(pair):
    """NaN + -inf is NaN: a future key that is NaN reaches the present."""
    return rg.softmax(score_of(pair) + rg.where(pair.j <= pair.i, 0.0, -math.inf))


@_known("- - + - + + + - +")
def large_negative(pair):
    return rg.softmax(rg.where(pair.j <= pair.i, score_of(pair), -1e4))


@_known("- - + - + + + - +")
def masked_after_softmax(pair):
    return rg.softmax(score_of(pair)) * rg.where(pair.j <= pair.i, 1.0, 0.0)


@_known("- - + - + + + - +")
def bias_after_mask(pair):
    masked = rg.where(pair.j <= pair.i, score_of(pair), -1e4)
    return rg.softmax(masked + 2e4 * rg.where(pair.j == pair.i + 1, 1.0, 0.0))


@_known("+ - + - + + + - -")
def documents(pair):
    same = rg.query_feature("doc_q") == rg.key_feature("doc_k")
    return rg.softmax(score_of(pair), where=same & (pair.j <= pair.i))


@_known("- - + - + + + + -")
def real_keys(pair):
    return rg.softmax(score_of(pair), where=rg.key_feature("real"))


@_known("+ - + - + + + - +")
def self_or_real(pair):
    return rg.softmax(
        score_of(pair), where=(pair.j <= pair.i) & (rg.key_feature("real") | (pair.j == pair.i))
    )


# ── What is counted, chosen, or looked at over all keys ──────────────────────────────────────
@_known("+ - + - + + + - +")
def scaled_by_visible(pair):
    return rg.softmax(score_of(pair) * rg.log(1 + pair.visible), where=pair.j <= pair.i)


@_known("- - + - + + + - +")
def scaled_by_keys(pair):
    return rg.softmax(score_of(pair) * rg.log(1 + pair.keys), where=pair.j <= pair.i)


@_known("+ - + - + + + - +")
def best_of_the_past(pair):
    return rg.softmax(score_of(pair), where=rg.topk(score_of(pair), 2, where=pair.j <= pair.i))


@_known("- - + - + + + - -")
def past_of_the_best(pair):
    return rg.softmax(score_of(pair), where=rg.topk(score_of(pair), 2) & (pair.j <= pair.i))


@_known("- - + - + + + - +")
def laser(pair):
    top = rg.max_over_keys(pair.v)
    weights = rg.softmax(score_of(pair), where=pair.j <= pair.i)
    values = rg.exp(pair.v - top)
    return rg.output(weights, values=values, finish=lambda row: top + rg.log(row))


# ── Biases and positions ─────────────────────────────────────────────────────────────────────
@_known("+ - + - + - + - +")
def alibi(pair):
    slope = rg.parameter("slope", per="head", init=init.alibi)
    return rg.softmax(score_of(pair) - slope * (pair.i - pair.j), where=pair.j <= pair.i)


@_known("- - + - + - + - +")
def slope_by_number(pair):
    return rg.softmax(score_of(pair) - abs(pair.i - pair.j) / (pair.head + 1))


@_known("- - + - - + + + +")
def by_batch(pair):
    return rg.softmax(score_of(pair) * (1 + pair.batch))


@_known("- - + - + + + - +")
def rotary(pair):
    query = rg.rotate(pair.q, rg.rotary(pair.i))
    return rg.softmax(rg.dot(query, rg.rotate(pair.k, rg.rotary(pair.j))))


@_known("- - + - + + - - +")
def rotary_of_keys_alone(pair):
    return rg.softmax(rg.dot(pair.q, rg.rotate(pair.k, rg.rotary(pair.j))))


@_known("- - + - + + - - +")
def learned_positions(pair):
    bias = rg.parameter("bias", per=9, init=init.normal(1.0))
    return rg.softmax(score_of(pair) + bias[pair.j])


@_known("- - + - + + + - +")
def relative_positions(pair):
    bias = rg.parameter("bias", per=9, init=init.normal(1.0))
    return rg.softmax(score_of(pair) + bias[rg.clip(pair.i - pair.j + 4, 0, 8)])


# ── Bounds ───────────────────────────────────────────────────────────────────────────────────
@_known("+ - + + + + + - +")
def capped(pair):
    return rg.softmax(20 * rg.tanh(score_of(pair) / 20), where=pair.j <= pair.i)


@_known("- - + - + + + + +")
def capped_higher(pair):
    return rg.softmax(70 * rg.tanh(score_of(pair)))


@_known("- - + + + + + + +")
def cosine(pair):
    return rg.softmax(50 * rg.dot(unit(pair.q), unit(pair.k)))


@_known("- - + + + + + + +")
def gaussian(pair):
    difference = pair.q - pair.k
    return rg.weigh(rg.exp(-rg.sum(difference * difference)))


@_known("+ - + + + + + - +")
def sigmoid(pair):
    return rg.weigh(rg.sigmoid(score_of(pair)), where=pair.j <= pair.i)


@_known("+ - + - + + + - -")
def distances(pair):
    return rg.softmax(-0.5 * (pair.i - pair.j), where=pair.j < pair.i)


# ── The algebra of weights ───────────────────────────────────────────────────────────────────
@_known("+ - + - + + + - +")
def difference_of_two(pair):
    first = rg.softmax(score_of(pair), where=pair.j <= pair.i)
    return first - 0.5 * rg.softmax(2 * score_of(pair), where=pair.j < pair.i)


@_known("- - + - + + + - +")
def one_term_looks_ahead(pair):
    first = rg.softmax(score_of(pair), where=pair.j <= pair.i)
    return first - 0.5 * rg.softmax(2 * score_of(pair), where=pair.j <= pair.i + 2)


@_known("+ + + - + + + + -")
def apart(pair):
    """A product sees what both see: nothing, so that nothing matters, which is not proved."""
    later = rg.softmax(score_of(pair), where=pair.j > pair.i)
    return rg.softmax(score_of(pair), where=pair.j <= pair.i) * later


@_known("+ - + - + + + - +")
def with_sink(pair):
    return rg.softmax(score_of(pair), where=pair.j < pair.i, sink=0.0)


@_known("+ - + - + + + - +")
def retention(pair):
    decay = rg.exp(-0.1 * (pair.i - pair.j))
    return rg.weigh(score_of(pair) * decay, where=pair.j <= pair.i)


@_known("- - + - + + + - +")
def weighed_by_zero(pair):
    """0 · NaN is NaN: a future value that is NaN reaches the present."""
    return rg.weigh(rg.where(pair.j <= pair.i, score_of(pair), 0.0))


@_known("+ + + - + + + - +")
def entmax_window(pair):
    return rg.entmax(score_of(pair), 1.5, where=(pair.j <= pair.i) & (pair.i - pair.j <= 8))


@_known("+ - + - + + + - +")
def ratio_of_two(pair):
    seen = pair.j <= pair.i
    return rg.ratio(rg.relu(score_of(pair)), abs(score_of(pair)), where=seen, add=1.0)


@_known("+ - + - + + + - +")
def dropped_out(pair):
    return rg.dropout(rg.softmax(score_of(pair), where=pair.j <= pair.i), 0.1)


@_known("+ - + - + + + - -")
def dropped_keys(pair):
    return rg.softmax(score_of(pair), where=rg.keep(0.5) & (pair.j <= pair.i))


# ── Bug classes that live in a program ───────────────────────────────────────────────────────
# What is meant, the contract it declares, and the bug; each mutant breaks the contract.
MUTANTS = {
    "the mask is dropped": ("causal", lambda p: rg.softmax(score_of(p))),
    "weights are masked after the softmax": (
        "causal",
        lambda p: rg.softmax(score_of(p)) * rg.where(p.j <= p.i, 1.0, 0.0),
    ),
    "causal is off by one": ("causal", lambda p: rg.softmax(score_of(p), where=p.j <= p.i + 1)),
    "causal is turned around": ("causal", lambda p: rg.softmax(score_of(p), where=p.j >= p.i)),
    "and became or": (
        "causal",
        lambda p: rg.softmax(score_of(p), where=(p.j <= p.i) | (p.i - p.j < 8)),
    ),
    "the window is off by one": (
        "window <= 7",
        lambda p: rg.softmax(score_of(p), where=(p.j <= p.i) & (p.i - p.j <= 8)),
    ),
    "the window bounds one side": (
        "window <= 7",
        lambda p: rg.softmax(score_of(p), where=p.i - p.j < 8),
    ),
    "causal is aligned to the other corner": (
        "causal",
        lambda p: rg.softmax(score_of(p), where=p.j <= p.i + p.keys - p.queries),
    ),
    "padding is forgotten": (
        "padding-blind by real",
        lambda p: rg.softmax(
            score_of(p) + rg.where(rg.key_feature("real"), 0.0, -1.0), where=p.j <= p.i
        ),
    ),
    "padding is hidden where it is not padding": (
        "padding-blind by real",
        lambda p: rg.softmax(score_of(p), where=~rg.key_feature("real")),
    ),
    "padding hides by a large number": (
        "padding-blind by real",
        lambda p: rg.softmax(rg.where(rg.key_feature("real"), score_of(p), -1e9)),
    ),
    "padding is counted": (
        "padding-blind by real",
        lambda p: rg.weigh(score_of(p) / p.keys, where=rg.key_feature("real")),
    ),
    "rows before the window's start are empty": (
        "never empty",
        lambda p: rg.softmax(score_of(p), where=(p.j < p.i) & (p.i - p.j < 8)),
    ),
    "padding on the left empties the first row": (
        "never empty",
        lambda p: rg.softmax(score_of(p), where=(p.j <= p.i) & rg.key_feature("real")),
    ),
    "a bias is added after the mask": (
        "causal",
        lambda p: rg.softmax(
            rg.where(p.j <= p.i, score_of(p), -1e4) + rg.pair_input("bias") * 1e4
        ),
    ),
    "the gradient leaks, and of the output too little to see": (
        "causal",
        lambda p: rg.softmax(rg.where(p.j <= p.i, score_of(p), -30.0)),
    ),
    "the best are chosen before the mask": (
        "causal",
        lambda p: rg.softmax(score_of(p), where=rg.topk(score_of(p), 2) & (p.j <= p.i)),
    ),
    "a head's number reaches another head": (
        "head-independent",
        lambda p: rg.softmax(score_of(p) * (1 + p.head // 2 * 2 + p.head)),
    ),
    "positions are absolute": (
        "shift-invariant",
        lambda p: rg.softmax(rg.dot(rg.rotate(p.q, rg.rotary(p.i)), p.k), where=p.j <= p.i),
    ),
    "half of a rotation is forgotten": (
        "shift-invariant",
        lambda p: rg.softmax(
            rg.dot(rg.rotate(p.q, rg.rotary(p.i)), rg.rotate(p.k, 2 * rg.rotary(p.j)))
        ),
    ),
    "ties are broken by position": (
        "permutation-equivariant",
        lambda p: rg.softmax(score_of(p), where=rg.topk(score_of(p), 1)),
    ),
    "the cap is forgotten": (
        "bounded <= 20",
        lambda p: rg.softmax(score_of(p) + 20 * rg.tanh(score_of(p) / 20)),
    ),
    "a batch row's number is read": (
        "batch-independent",
        lambda p: rg.softmax(score_of(p), where=p.j <= p.i + p.batch),
    ),
}  # fmt: skip
