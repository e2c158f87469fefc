"""Which keys a query sees.

Leaves to others: the other families.
"""

from regard import lang as rg
from regard.catalogue.variant import variant


def _score(pair):
    return rg.dot(pair.q, pair.k) / rg.sqrt(pair.width)


def _near(place, other, side, window):
    """Within a window around a place, moved inwards where it would cross the border."""
    reach = window // 2
    return abs(other - rg.clip(place, reach, side - 1 - reach)) <= reach


# ── By position ───────────────────────────────────────────────────────────────────────────────
@variant("Causal mask", "Vaswani et al. 2017", "1706.03762", ("causal", "never empty"))
def causal(pair):
    """See the token itself and all before it.

    For models that write a text token by token: all positions are trained at once, and keys of old
    tokens can be kept. An encoder that may read both ways loses by it. Half the pairs are skipped.
    """
    return rg.softmax(_score(pair), where=pair.j <= pair.i)


@variant(
    "Sliding-window attention",
    "Beltagy et al. 2020",
    "2004.05150",
    ("causal", "window <= 4095", "never empty"),
)
def sliding_window(pair, *, window=4096):
    """See the token itself and the last ones before it, `window` in all.

    For long texts: time grows with the length and not with its square, and older keys can be
    forgotten. What lies further back arrives only through the layers below, a window each, so mix
    in some layers that see everything. 4096 is what Mistral 7B uses.
    """
    return rg.softmax(_score(pair), where=(pair.j <= pair.i) & (pair.i - pair.j < window))


@variant(
    "Symmetric sliding window",
    "Beltagy et al. 2020",
    "2004.05150",
    ("window <= 256", "never empty"),
)
def symmetric_window(pair, *, window=512):
    """See half a window on both sides.

    For encoders of long documents, where a word is mostly explained by its neighbours. Nothing
    gathers what the whole text says; add global tokens (`global_window`) for classifying it.
    """
    return rg.softmax(_score(pair), where=abs(pair.i - pair.j) <= window // 2)


@variant(
    "Dilated sliding window",
    "Beltagy et al. 2020",
    "2004.05150",
    ("causal", "window <= 127", "never empty"),
)
def dilated_window(pair, *, window=64, dilation=2):
    """See every second of the tokens before, or every `dilation`-th, `window` of them.

    A window of the same cost that reaches further, for some heads or upper layers: the gaps lose
    every neighbour, so others must see those. Sparse columns skip fewer blocks than their share.
    """
    step = pair.i - pair.j
    seen = (step >= 0) & (step < window * dilation) & (step % dilation == 0)
    return rg.softmax(_score(pair), where=seen)


@variant("Strided sparse attention", "Child et al. 2019", "1904.10509", ("causal", "never empty"))
def strided(pair, *, stride=128):
    """See the last `stride` tokens and, before them, every token a whole number of strides away.

    For data with a period, such as pixels in rows of `stride`: row and column are seen, and two
    layers connect everything. Text has no such period; `fixed` suits it better.
    """
    step = pair.i - pair.j
    seen = (step >= 0) & ((step < stride) | (step % stride == 0))
    return rg.softmax(_score(pair), where=seen)


@variant("Fixed sparse attention", "Child et al. 2019", "1904.10509", ("causal", "never empty"))
def fixed(pair, *, stride=128, summary=8):
    """See the own block, and the last `summary` tokens of every block before it.

    For long texts: the ends of blocks learn to sum their block up for all that follow. Give heads
    different parts of the block if a few summarising places are too narrow.
    """
    own = pair.j // stride == pair.i // stride
    ends = pair.j % stride >= stride - summary
    return rg.softmax(_score(pair), where=(pair.j <= pair.i) & (own | ends))


@variant(
    "Chunked attention",
    "Meta 2025 (Llama 4)",
    "https://ai.meta.com/blog/llama-4-multimodal-intelligence/",
    ("causal", "window <= 8191", "never empty"),
)
def chunked(pair, *, chunk=8192):
    """See the tokens before in the same chunk of the text.

    Cheaper to cache than a sliding window, as a chunk's keys are dropped all at once, but the first
    token of a chunk sees nothing of the text before: only beside layers that see across.
    """
    seen = (pair.j <= pair.i) & (pair.i // chunk == pair.j // chunk)
    return rg.softmax(_score(pair), where=seen)


@variant("Block-causal attention", "Assran et al. 2025 (V-JEPA 2)", "2506.09985", ("never empty",))
def block_causal(pair, *, block=256):
    """See the whole of the own block and of all before it.

    For what comes in blocks whose parts have no order, such as the patches of a video's frames: a
    frame reads itself both ways and never the future. Predict a block at a time, not a token.
    """
    return rg.softmax(_score(pair), where=pair.j // block <= pair.i // block)


@variant(
    "Attention sinks with a sliding window",
    "Xiao et al. 2023 (StreamingLLM)",
    "2309.17453",
    ("causal", "never empty"),
)
def sinks_and_window(pair, *, window=1020, sinks=4):
    """See the last tokens before, and always the very first ones.

    Runs a model that was trained with full attention on endless streams: it keeps pouring unneeded
    mass onto its first tokens, and fails when a plain window drops them. It extends the stream, not
    the memory: what leaves the window is gone. For cached keys, give positions within the cache.
    """
    seen = (pair.i - pair.j < window) | (pair.j < sinks)
    return rg.softmax(_score(pair), where=(pair.j <= pair.i) & seen)


@variant("BigBird", "Zaheer et al. 2020", "2007.14062", ("never empty",))
def big_bird(pair, *, block=64):
    """See the blocks next to the own, some chosen at random, and the first; the first sees all.

    For encoders of documents of several thousand tokens: any two tokens are few hops apart, at a
    cost linear in the length. Draw the table `chosen` (blocks, blocks) once and keep it with the
    weights. Where full attention still fits, it is simpler and no worse.
    """
    row, column = pair.i // block, pair.j // block
    chosen = rg.table("chosen", per=("rows", "rows"))[row, column]
    local = abs(row - column) <= 1
    return rg.softmax(_score(pair), where=chosen | local | (row == 0) | (column == 0))


@variant("Longformer", "Beltagy et al. 2020", "2004.05150", ("never empty",))
def global_window(pair, *, window=512):
    """See half a window on both sides and the global tokens, which themselves see everything.

    For classifying or questioning long documents: make the class token, or the question, global.
    Every global token costs a row and a column, so keep them to a few dozen.
    """
    near = abs(pair.i - pair.j) <= window // 2
    everywhere = rg.query_feature("global_q") | rg.key_feature("global_k")
    return rg.softmax(_score(pair), where=near | everywhere)


# ── Images and video ──────────────────────────────────────────────────────────────────────────
@variant("Axial attention along rows", "Ho et al. 2019", "1912.12180")
def axial_row(pair):
    """See the pixels of the same row.

    Half of axial attention: with `axial_column` in the next layer every pixel reaches every other
    at O(side³) instead of O(side⁴). Diagonal neighbours meet only in the second layer.
    """
    same = rg.query_feature("row_q") == rg.key_feature("row_k")
    return rg.softmax(_score(pair), where=same)


@variant("Axial attention along columns", "Ho et al. 2019", "1912.12180")
def axial_column(pair):
    """See the pixels of the same column.

    The other half of axial attention, see `axial_row`. With pixels in row order the seen keys lie
    far apart, so fewer blocks are skipped; transposing the image first is faster.
    """
    same = rg.query_feature("column_q") == rg.key_feature("column_k")
    return rg.softmax(_score(pair), where=same)


@variant("Neighborhood attention, 1-D", "Hassani et al. 2022", "2204.07143")
def neighbourhood_1d(pair, *, length=1024, window=7):
    """See the `window` nearest tokens; at a border the window moves inwards and keeps its size.

    For sequences of a known length without a direction, such as audio frames. Unlike
    `symmetric_window`, tokens at the ends see as many others as those in the middle.
    """
    return rg.softmax(_score(pair), where=_near(pair.i, pair.j, length, window))


@variant("Neighborhood attention", "Hassani et al. 2022", "2204.07143")
def neighbourhood_2d(pair, *, side=56, window=7):
    """See the `window` x `window` nearest pixels of a square image, moved inwards at its borders.

    A convolution's locality with attention's weights, for vision backbones: linear in the pixels,
    and shifts with the image but for its borders. Global structure needs pooling between stages.
    """
    row = _near(rg.query_feature("row_q"), rg.key_feature("row_k"), side, window)
    column = _near(rg.query_feature("column_q"), rg.key_feature("column_k"), side, window)
    return rg.softmax(_score(pair), where=row & column)


@variant("Neighborhood attention, 3-D", "Hassani et al. 2022", "2204.07143")
def neighbourhood_3d(pair, *, times=8, side=28, window=7):
    """See the cube of the nearest pixels in time, row and column, moved inwards at the borders.

    For video and volumes, where full attention over all frames does not fit. Motion faster than the
    window is missed in one layer. Window and sizes can differ by axis; write them out then.
    """
    time = _near(rg.query_feature("time_q"), rg.key_feature("time_k"), times, window)
    row = _near(rg.query_feature("row_q"), rg.key_feature("row_k"), side, window)
    column = _near(rg.query_feature("column_q"), rg.key_feature("column_k"), side, window)
    return rg.softmax(_score(pair), where=time & row & column)


# ── By what tokens belong to ──────────────────────────────────────────────────────────────────
@variant("Padding mask", "Vaswani et al. 2017", "1706.03762", ("padding-blind by real",))
def padding(pair):
    """See the keys that are real.

    For batches whose padding is scattered. Where all of it stands at the end, `key_lengths` says
    the same and skips it without reading a mask.
    """
    return rg.softmax(_score(pair), where=rg.key_feature("real"))


@variant("Padding mask of both sides", "Vaswani et al. 2017", "1706.03762")
def cross_padding(pair):
    """Let real queries see real keys; padded queries give 0.

    For cross-attention between padded batches when the padded rows' outputs are summed or averaged
    afterwards, and so must not hold anything. Otherwise `padding` is enough.
    """
    real = rg.query_feature("real_q") & rg.key_feature("real_k")
    return rg.softmax(_score(pair), where=real)


@variant("Prefix language model", "Raffel et al. 2019", "1910.10683", ("never empty",))
def prefix_lm(pair):
    """See the tokens before, and the whole of the prefix, wherever one is.

    For a decoder alone that reads an input (a prompt, an image) both ways before it writes. Only
    tokens after the prefix give a training signal; where every token should, use `causal`.
    """
    return rg.softmax(_score(pair), where=(pair.j <= pair.i) | rg.key_feature("in_prefix"))


@variant("Packed sequences", "Krell et al. 2021", "2107.02027")
def packed_documents(pair):
    """See the tokens of the same document.

    For encoders trained on several texts put end to end instead of padded. Documents in order make
    blocks of zeros, which are skipped. Positions should start anew in each.
    """
    same = rg.query_feature("document_q") == rg.key_feature("document_k")
    return rg.softmax(_score(pair), where=same)


@variant("Intra-document causal mask", "Zhao et al. 2024", "2402.13991", ("causal",))
def packed_causal(pair):
    """See the tokens before in the same document.

    For pretraining language models on packed texts without reading across them, which also saves
    the pairs between documents. Plain `causal` is simpler where texts are about as long as the row.
    """
    same = rg.query_feature("document_q") == rg.key_feature("document_k")
    return rg.softmax(_score(pair), where=same & (pair.j <= pair.i))


@variant("Shared-prefix attention", "Juravsky et al. 2024 (Hydragen)", "2402.05099", ("causal",))
def shared_prefix(pair):
    """See the tokens before that belong to the common prefix (0) or to the own sample.

    For many samples of one prompt, one after another in a row: the prompt is computed and kept
    once. Training on several answers to a question works the same. Position encodings should start
    anew after the prefix in each sample, from features: i and j must keep the rows' order.
    """
    sample = rg.key_feature("sample_k")
    seen = (sample == 0) | (sample == rg.query_feature("sample_q"))
    return rg.softmax(_score(pair), where=seen & (pair.j <= pair.i))


@variant("Tree attention", "Miao et al. 2023 (SpecInfer)", "2305.09781")
def tree(pair):
    """See the ancestors of the own place in a tree, and the place itself.

    For speculative decoding: a model checks all branches of a drafted tree in one call. Number the
    tree by a walk: `place` is when a token is entered, `first` … `last` the numbers within its
    subtree. Two comparisons stand for the usual (N, N) mask.
    """
    place = rg.query_feature("place")
    seen = (rg.key_feature("first") <= place) & (place <= rg.key_feature("last"))
    return rg.softmax(_score(pair), where=seen)


@variant("Block diffusion", "Arriola et al. 2025", "2503.09573", ("never empty",))
def block_diffusion(pair, *, length=1024, block=16):
    """Let noised blocks see themselves and the clean text before; clean ones see what is before.

    For training a model that writes block by block and denoises each block at once: the row is the
    noised text followed by the clean one, `length` tokens each, so all blocks train in one pass at
    twice the tokens. Give the clean tokens the places of the noised ones. Sampling needs
    `block_causal` only.
    """
    clean_q, clean_k = pair.i >= length, pair.j >= length
    row, column = pair.i % length // block, pair.j % length // block
    itself = (row == column) & (clean_q == clean_k)
    before = clean_k & ((column < row) | (clean_q & (column == row)))
    return rg.softmax(_score(pair), where=itself | before)


@variant("Gated cross-attention to the last image", "Alayrac et al. 2022 (Flamingo)", "2204.14198")
def vision_language(pair):
    """Let a text token see the image it follows, and no other.

    For text with images in between: earlier images reach a token through the text alone, so a model
    trained on few images copes with many. Tokens before the first image (0) give 0. The published
    layer gates what comes out by tanh of a number that starts at 0.
    """
    same = rg.query_feature("image_q") == rg.key_feature("image_k")
    return rg.softmax(_score(pair), where=same)


# ── By content ────────────────────────────────────────────────────────────────────────────────
@variant(
    "Explicit sparse attention (top-k)", "Zhao et al. 2019", "1912.11637", ("causal", "never empty")
)
def top_k(pair, *, kept=32):
    """Give weight to the keys with the `kept` largest scores of the row.

    Takes the noise of many small weights away, also from a trained model. It saves no products: all
    scores are computed first. No gradient reaches what was not chosen; start `kept` large.
    """
    score = _score(pair)
    return rg.softmax(score, where=rg.topk(score, kept, where=pair.j <= pair.i))


@variant(
    "Mixture of block attention (MoBA)", "Lu et al. 2025", "2502.13189", ("causal", "never empty")
)
def block_choice(pair, *, block=512):
    """See, of the tokens before, the own block and the blocks chosen for the query.

    For long contexts: choose the top few blocks by the query's product with their mean keys, as
    `chosen` (heads, queries, blocks). A model trained with full attention has to be trained on with
    it. The choice is the caller's and has no gradient; with a choice for each query, blocks of
    pairs are skipped only where neighbours agree.
    """
    column = pair.j // block
    chosen = rg.table("chosen", per=("head", "rows", "rows"))[pair.i, column]
    seen = chosen | (column == pair.i // block)
    return rg.softmax(_score(pair), where=seen & (pair.j <= pair.i))


@variant("Native sparse attention, selected blocks", "Yuan et al. 2025", "2502.11089", ("causal",))
def selected_blocks(pair, *, block=64):
    """See, of the tokens before, the blocks selected for the query.

    One of three branches: the published layer adds attention over compressed blocks, whose weights
    select these, and a `sliding_window`, and gates the three. Query heads that share keys should
    share the table `chosen` (heads, queries, blocks), so that keys are read once.
    """
    chosen = rg.table("chosen", per=("head", "rows", "rows"))[pair.i, pair.j // block]
    return rg.softmax(_score(pair), where=chosen & (pair.j <= pair.i))
