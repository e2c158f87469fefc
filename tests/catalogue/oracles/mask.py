"""Masks, dense: each is the set of pairs that its paper defines, asked pair by pair.

`CALLS` says how those that read more are called.
"""

import math

import torch

from tests.catalogue.oracles.calls import Call, Sizes
from tests.catalogue.oracles.dense import heads, softmax
from tests.catalogue.oracles.rules import pairs


def _attend(q, k, v, rule, of_queries=(), of_keys=()):
    """Softmax of q·k / √D over the pairs that the rule admits."""
    seen = pairs(q, k, rule, of_queries, of_keys)
    k, v = heads(q, k, v)
    return softmax(q @ k.mT / math.sqrt(q.shape[-1]), seen) @ v


def causal(q, k, v):
    """Vaswani et al. 2017, section 3.2.3: no position sees a later one."""
    return _attend(q, k, v, lambda i, j: j <= i)


def sliding_window(q, k, v, window=4096):
    """Mistral 7B (2310.06825), sliding window: the last `window` positions, its own among them."""
    return _attend(q, k, v, lambda i, j: j in range(i - window + 1, i + 1))


def symmetric_window(q, k, v, window=512):
    """Longformer (2004.05150), section 3.1: window / 2 positions on each side."""
    return _attend(q, k, v, lambda i, j: j in range(i - window // 2, i + window // 2 + 1))


def dilated_window(q, k, v, window=64, dilation=2):
    """Longformer, section 3.1: as many positions, with gaps between them; those not after i."""
    return _attend(q, k, v, lambda i, j: j in [i - dilation * step for step in range(window)])


def strided(q, k, v, stride=128):
    """Sparse Transformer (1904.10509), section 4.3: A⁽¹⁾ ∪ A⁽²⁾ with t = max(0, i − l)."""

    def rule(i, j):
        near = range(max(0, i - stride), i + 1)
        far = [other for other in range(i + 1) if (i - other) % stride == 0]
        return j in near or j in far

    return _attend(q, k, v, rule)


def fixed(q, k, v, stride=128, summary=8):
    """Sparse Transformer, section 4.3: its own block, and the last `summary` of each, t = l − c."""

    def rule(i, j):
        block = [other for other in range(i + 1) if other // stride == i // stride]
        last = range(stride - summary, stride)
        ends = [other for other in range(i + 1) if other % stride in last]
        return j in block or j in ends

    return _attend(q, k, v, rule)


def big_bird(q, k, v, chosen, block=64):
    """BigBird (2007.14062), section 2 and appendix D: window, random and global, by blocks."""
    chosen = chosen.tolist()

    def rule(i, j):
        row, column = i // block, j // block
        window = column in (row - 1, row, row + 1)
        return window or 0 in (row, column) or chosen[row][column]

    return _attend(q, k, v, rule)


def global_window(q, k, v, global_q, global_k, window=512):
    """Longformer, section 3.1: a window; a global token sees all, and all see it."""

    def rule(i, j, all_seen, by_all):
        return abs(i - j) <= window // 2 or all_seen or by_all

    return _attend(q, k, v, rule, [global_q], [global_k])


def axial_row(q, k, v, row_q, row_k):
    """Axial attention (1912.12180): along one axis, here within a row."""
    return _attend(q, k, v, lambda i, j, row, other: row == other, [row_q], [row_k])


def axial_column(q, k, v, column_q, column_k):
    """Axial attention (1912.12180): along the other axis, within a column."""
    return _attend(q, k, v, lambda i, j, column, other: column == other, [column_q], [column_k])


def prefix_lm(q, k, v, in_prefix):
    """T5 (1910.10683), section 3.2.1: causal, and the prefix fully visible."""
    return _attend(q, k, v, lambda i, j, prefix: j <= i or prefix, of_keys=[in_prefix])


def packed_documents(q, k, v, document_q, document_k):
    """Packing (2107.02027): a block-diagonal mask, no attention across documents."""
    return _attend(q, k, v, lambda i, j, mine, its: mine == its, [document_q], [document_k])


def packed_causal(q, k, v, document_q, document_k):
    """Packing without contamination across documents (2107.02027), for a decoder."""

    def rule(i, j, mine, its):
        return mine == its and j <= i

    return _attend(q, k, v, rule, [document_q], [document_k])


def chunked(q, k, v, chunk=8192):
    """Llama 4's local layers: causal within chunks of fixed length."""
    return _attend(q, k, v, lambda i, j: j in range(i // chunk * chunk, i + 1))


def tree(q, k, v, place, first, last):
    """SpecInfer (2305.09781), tree attention: a token sees its ancestors and itself."""

    def rule(i, j, own, entry, leave):
        return entry <= own <= leave

    return _attend(q, k, v, rule, [place], [first, last])


def _neighbours(place, length, window):
    """NATTEN (2204.07143): the `window` places nearest to one, as many at the borders."""
    start = place - window // 2
    while start < 0:
        start += 1
    while start + window > length:
        start -= 1
    return range(start, start + window)


def neighbourhood_1d(q, k, v, length=56, window=7):
    """NATTEN (2204.07143), along a line."""
    return _attend(q, k, v, lambda i, j: j in _neighbours(i, length, window))


def neighbourhood_2d(q, k, v, row_q, column_q, row_k, column_k, side=56, window=7):
    """NATTEN (2204.07143), on a square."""

    def rule(i, j, row, column, its_row, its_column):
        near = its_row in _neighbours(row, side, window)
        return near and its_column in _neighbours(column, side, window)

    return _attend(q, k, v, rule, [row_q, column_q], [row_k, column_k])


def neighbourhood_3d(
    q, k, v, time_q, row_q, column_q, time_k, row_k, column_k, times=8, side=28, window=7
):
    """NATTEN (2204.07143), on the frames of a video."""

    def rule(i, j, time, row, column, its_time, its_row, its_column):
        near = its_time in _neighbours(time, times, window)
        near = near and its_row in _neighbours(row, side, window)
        return near and its_column in _neighbours(column, side, window)

    return _attend(q, k, v, rule, [time_q, row_q, column_q], [time_k, row_k, column_k])


def sinks_and_window(q, k, v, window=1020, sinks=4):
    """StreamingLLM (2309.17453), section 3.2: the first tokens and the last ones."""

    def rule(i, j):
        return j <= i and (j in range(sinks) or j in range(i - window + 1, i + 1))

    return _attend(q, k, v, rule)


def block_diffusion(q, k, v, length=1024, block=16):
    """Block diffusion (2503.09573), the mask in training: M_BD, M_OBC above 0, M_BC."""

    def rule(i, j):
        row, column = i % length // block, j % length // block
        if i < length and j < length:
            return row == column
        if i < length:
            return row > column
        return j >= length and row >= column

    return _attend(q, k, v, rule)


def vision_language(q, k, v, image_q, image_k):
    """Flamingo (2204.14198), per-image masking: the image just before the text, no other."""
    return _attend(q, k, v, lambda i, j, mine, its: mine == its, [image_q], [image_k])


def shared_prefix(q, k, v, sample_q, sample_k):
    """Samples of one prompt in one row: each sees the prompt (number 0) and itself, causally."""

    def rule(i, j, mine, its):
        return j <= i and its in (0, mine)

    return _attend(q, k, v, rule, [sample_q], [sample_k])


def padding(q, k, v, real):
    """Vaswani et al. 2017: keys that are padding are not seen."""
    return _attend(q, k, v, lambda i, j, it: it, of_keys=[real])


def cross_padding(q, k, v, real_q, real_k):
    """The same for both sides of cross-attention."""
    return _attend(q, k, v, lambda i, j, own, it: own and it, [real_q], [real_k])


def top_k(q, k, v, kept=32):
    """Explicit sparse transformer (1912.11637): −∞ below the row's k-th largest score; causal."""
    k, v = heads(q, k, v)
    score = q @ k.mT / math.sqrt(q.shape[-1])
    seen = torch.zeros_like(score, dtype=torch.bool)
    for row, marks in zip(score.detach().flatten(0, 1), seen.flatten(0, 1), strict=True):
        for i in range(q.shape[-2]):
            order = sorted(range(min(i + 1, k.shape[-2])), key=lambda j: -row[i, j].item())
            marks[i, order[:kept]] = True
    return softmax(score, seen) @ v


def block_choice(q, k, v, chosen, block=512):
    """MoBA (2502.13189), section 2.2: the chosen blocks and always its own; nothing later."""

    def rule(i, j, mine):
        return j <= i and (mine[j // block] or i // block == j // block)

    return _attend(q, k, v, rule, [chosen[None]])


def selected_blocks(q, k, v, chosen, block=64):
    """NSA (2502.11089), equations 11 and 12: the tokens of the selected blocks."""
    return _attend(q, k, v, lambda i, j, mine: j <= i and mine[j // block], [chosen[None]])


def block_causal(q, k, v, block=256):
    """Causal by blocks (frames, chunks): a block sees itself whole and all before it."""
    return _attend(q, k, v, lambda i, j: j in range((i // block + 1) * block))


def _per_batch(*rows):
    """Features that all heads share, another row for each batch: (B, 1, n)."""
    return torch.tensor(rows)[:, None]


def _both(**features):
    """The same numbers for queries and for keys."""
    return {f"{name}_{side}": one for name, one in features.items() for side in "qk"}


def _grid(draw, **sides):
    """Coordinates of tokens that stand on a grid, in another order for each batch row."""
    axes = torch.meshgrid(*(torch.arange(side) for side in sides.values()), indexing="ij")
    size = math.prod(sides.values())
    orders = [torch.randperm(size, generator=draw.generator) for _ in range(draw.sizes.B)]
    places = [torch.stack([axis.flatten()[order] for order in orders])[:, None] for axis in axes]
    return _both(**dict(zip(sides, places, strict=True)))


def _only(axis, features):
    return {name: one for name, one in features.items() if name.startswith(axis)}


def _intervals(*parents):
    """Entry and exit numbers of the nodes of trees; a node's parent is −1 or another node."""
    trees = [_walk(tree) for tree in parents]
    first = _per_batch(*([entry for entry, _ in tree] for tree in trees))
    last = _per_batch(*([leave for _, leave in tree] for tree in trees))
    return {"place": first, "first": first, "last": last}


def _walk(parents):
    numbers = [(0, 0)] * len(parents)
    clock = 0

    def visit(node):
        nonlocal clock
        entry, clock = clock, clock + 1
        for child in range(len(parents)):
            if parents[child] == node:
                visit(child)
        numbers[node] = (entry, clock)
        clock += 1

    for root in range(len(parents)):
        if parents[root] < 0:
            visit(root)
    return numbers


BUSHY = [-1, 0, 0, 0, 1, 1, 2, 2, 3, 4, 4, 6, 6, 6, 11, 14]
FOREST = [3, 0, 0, -1, 2, 2, 5, -1, 7, 7, 8, 10, 10, 9, 13, 6]  # roots 3 and 7
DOCUMENTS = _per_batch([0] * 5 + [1] + [2] * 7 + [3] * 3, [4] * 9 + [1] * 7)
SAMPLES = _per_batch([0] * 4 + [1] * 6 + [2] * 6, [0] * 2 + [1] * 3 + [2] * 5 + [3] * 6)

CALLS: dict[str, Call] = {
    "sliding_window": Call(knobs={"window": 5}),
    "symmetric_window": Call(knobs={"window": 6}),
    "dilated_window": Call(knobs={"window": 3, "dilation": 2}),
    "strided": Call(knobs={"stride": 4}, sizes=Sizes(N=18, M=18)),
    "fixed": Call(knobs={"stride": 4, "summary": 1}, sizes=Sizes(N=18, M=18)),
    "big_bird": Call(
        lambda draw: {"chosen": draw.truth(6, 6, chance=0.3)},
        knobs={"block": 4},
        sizes=Sizes(N=22, M=22),
    ),
    "global_window": Call(
        lambda draw: _both(**{"global": draw.truth(2, 1, 16, chance=0.15)}), knobs={"window": 4}
    ),
    "axial_row": Call(
        lambda draw: _only("row", _grid(draw, row=3, column=5)), sizes=Sizes(N=15, M=15)
    ),
    "axial_column": Call(
        lambda draw: _only("column", _grid(draw, row=3, column=5)), sizes=Sizes(N=15, M=15)
    ),
    "prefix_lm": Call(
        lambda draw: {"in_prefix": _per_batch([True] * 5 + [False] * 11, [False] * 16)}
    ),
    # Query 0 belongs to a document without keys.
    "packed_documents": Call(
        lambda draw: {
            "document_q": _per_batch([9] + [1] * 4 + [2] * 7, [1] * 3 + [2] * 5 + [3] * 4),
            "document_k": _per_batch([1] * 12 + [2] * 8, [1] * 6 + [2] + [3] * 13),
        },
        sizes=Sizes(N=12, M=20),
    ),
    "packed_causal": Call(lambda draw: _both(document=DOCUMENTS)),
    "chunked": Call(knobs={"chunk": 4}, sizes=Sizes(N=18, M=18)),
    "tree": Call(lambda draw: _intervals(BUSHY, FOREST)),
    "neighbourhood_1d": Call(knobs={"length": 16, "window": 5}),
    "neighbourhood_2d": Call(
        lambda draw: _grid(draw, row=5, column=5),
        knobs={"side": 5, "window": 3},
        sizes=Sizes(N=25, M=25),
    ),
    "neighbourhood_3d": Call(
        lambda draw: _grid(draw, time=5, row=4, column=4),
        knobs={"times": 5, "side": 4, "window": 3},
        sizes=Sizes(B=1, H=2, G=1, N=80, M=80),
    ),
    "sinks_and_window": Call(knobs={"window": 4, "sinks": 2}),
    "block_diffusion": Call(knobs={"length": 8, "block": 2}),
    # Text before any image sees nothing.
    "vision_language": Call(
        lambda draw: {
            "image_q": _per_batch([0] * 3 + [1] * 6 + [2] * 2 + [3] * 5, [1] * 4 + [3] * 12),
            "image_k": _per_batch([1] * 4 + [2] * 4 + [3] * 4, [1] * 2 + [2] * 4 + [3] * 6),
        },
        sizes=Sizes(N=16, M=12),
    ),
    "shared_prefix": Call(lambda draw: _both(sample=SAMPLES)),
    # The second batch row of each is padding only, or has queries that are.
    "padding": Call(lambda draw: {"real": _per_batch([True] * 11 + [False] * 5, [False] * 16)}),
    "cross_padding": Call(
        lambda draw: {
            "real_q": _per_batch([True] * 12, [True] * 7 + [False] * 5),
            "real_k": _per_batch([False] * 3 + [True] * 17, [True] * 15 + [False] * 5),
        },
        sizes=Sizes(N=12, M=20),
    ),
    "top_k": Call(knobs={"kept": 3}),
    "block_choice": Call(
        lambda draw: {"chosen": draw.truth(4, 18, 5, chance=0.4)},
        knobs={"block": 4},
        sizes=Sizes(N=18, M=18),
    ),
    "selected_blocks": Call(
        lambda draw: {"chosen": draw.truth(4, 18, 5, chance=0.4)},
        knobs={"block": 4},
        sizes=Sizes(N=18, M=18),
    ),
    "block_causal": Call(knobs={"block": 4}, sizes=Sizes(N=18, M=18)),
}
