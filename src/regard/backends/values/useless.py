"""What is wrong with a mask: it reads nothing, or it hides every pair, with any data or with these.

Leaves to others: telling the user (`ops/warn_of_masks`).
"""

from dataclasses import replace
from functools import lru_cache

import torch

from regard.backends.values.blocks import EMPTY, classify_blocks
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.types import type_of

_DATA = (n.Feature, n.Array, n.Scalar, n.PairInput, n.Vector)
_PAIR = ("i", "j", "row_i", "row_j", "head", "batch")
# Positions that a mask is tried at, on either side of 0, and the most of them.
_REACH, _FAR = 1 << 11, 1 << 17
# Rows and keys of the blocks of a call that are looked at.
_LOOKED_AT = (32, 64)


@lru_cache(maxsize=1024)
def why_useless(condition: n.Node, heads: int) -> str | None:
    """Return what is wrong with a condition at all positions, with an example.

    Args:
        condition: A `where`.
        heads: H.

    Returns:
        The end of a sentence that begins with the mask, or None.
    """
    if not any(_reads(node) for node in n.walk(condition)):
        return (
            "reads neither i nor j nor any data, so it says the same of every pair, of query 0 "
            "and key 0 as of any other; leave it out, or compare pair.i with pair.j"
        )
    far = _REACH + 2 * sum(abs(x.value) for x in n.walk(condition) if isinstance(x, n.Const))
    reaches = (_REACH, int(far)) if far <= _FAR else ()
    if reaches and all(_hides_all(condition, heads, 2 * x, 2 * x, -x) for x in reaches):
        return (
            f"contradicts itself: it hides every pair, i = j = 0 as all others from {-reaches[1]} "
            f"to {reaches[1] - 1}; look for two conditions that exclude each other"
        )
    return None


def why_hidden(condition: n.Node, heads: int, queries: int, keys: int) -> str | None:
    """Return how a condition hides all pairs of a call whose rows r have position r, or None.

    Args:
        condition: A `where`.
        heads: H.
        queries: N.
        keys: M.

    Returns:
        The end of a sentence that begins with the mask, or None.
    """
    if queries * keys <= 1 or not _hides_all(condition, heads, queries, keys, 0):
        return None
    return (
        f"hides every pair of this call: its {queries} queries are at i = 0 … {queries - 1} and "
        f"its {keys} keys at j = 0 … {keys - 1}, and not even the last two, i = {queries - 1} "
        f"and j = {keys - 1}, meet; a call that goes on where another ended gives query_offset"
    )


def why_hidden_by_data(condition: n.Node, bound: Bound) -> str | None:
    """Return how a condition hides all pairs because what queries and keys hold never meets.

    A condition on one side alone, such as padding, may well hide all of a call.

    Args:
        condition: A `where`.
        bound: The call; its lengths do not count.

    Returns:
        The end of a sentence that begins with the mask, or None.
    """
    read = [node for node in n.walk(condition) if isinstance(node, n.Feature)]
    if (
        len({node.side for node in read}) < 2
        or bound.queries * bound.keys <= 1
        or not bound.batch * bound.heads
    ):
        return None
    whole = replace(bound, query_lengths=None, key_lengths=None)
    if not bool((classify_blocks(condition, whole, *_LOOKED_AT) == EMPTY).all()):
        return None
    told = " and ".join(f"'{node.name}'" for node in read)
    return (
        f"hides every pair of this call: with what {told} holds, not even query 0 and key 0 meet, "
        "nor any others; look whether queries and keys are numbered alike"
    )


def _reads(node: n.Node) -> bool:
    """Tell whether a node may differ from pair to pair, or from call to call."""
    return isinstance(node, (*_DATA, n.Keep, n.TopK, n.Running, n.Hole)) or (
        isinstance(node, n.Index) and node.name in _PAIR
    )


def _without_data(node: n.Node) -> n.Node | None:
    """Put a hole, which may be anything, in place of data, and of heads: a call may have some."""
    if node in (n.Index("head"), n.Index("heads")):
        return n.Hole("data", "h", "int")
    if isinstance(node, n.Gather) or (isinstance(node, _DATA) and not isinstance(node, n.Array)):
        kind = type_of(node)
        return n.Hole("data", kind.axes, kind.kind)
    if isinstance(node, n.Array) and type_of(node).axes in ("", "h"):
        return n.Hole("data", type_of(node).axes, type_of(node).kind)
    return None


def _hides_all(condition: n.Node, heads: int, queries: int, keys: int, first: int) -> bool:
    condition = n.rewrite(condition, _without_data)
    shape = torch.zeros(()).expand(1, heads, queries, 1), torch.zeros(()).expand(1, heads, keys, 1)
    bound = Bound(
        {"q": shape[0], "k": shape[1], "v": shape[1]},
        first + torch.arange(queries).view(1, -1),
        first + torch.arange(keys).view(1, -1),
    )
    rows, columns = max(1, queries // 32), max(1, keys // 32)
    return bool((classify_blocks(condition, bound, rows, columns) == EMPTY).all())
