"""What a head may do instead: see its neighbourhood, blocks, or everything through a state.

A candidate is the model's own attention under a further condition, so that it starts where the
model is. Leaves to others: which of them a head can do with (`look`), and what it saves (`price`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from regard.hf.own import Own
from regard.ir.program import AttentionProgram
from regard.lang.functions import exp, relu
from regard.lang.functions import min as least
from regard.lang.pair import Pair
from regard.lang.program import program
from regard.lang.trace import Expr
from regard.lang.weights import linear, softmax
from regard.passes.restrict_where import restrict_where

# First tokens that everybody sees: trained models rest there what they do not need (Xiao et al.
# 2023, arXiv 2309.17453).
FIRST = 4
WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
# In backend cpu a block of pairs that is seen in part costs as much as one that is seen whole:
# blocks of as many rows as its own have no such parts.
_BLOCK, _BLOCKS = 64, (2, 3, 5)
PLAIN = "plain"


@dataclass(frozen=True)
class Candidate:
    """A way of attending that a head may be given.

    Attributes:
        name: What it is called.
        kind: "plain", "local", "sparse" or "linear".
        reach: Of how many last keys a query may see anything; None for all.
        make: Makes its program of what the model's own attention is, and whether it is causal.
    """

    name: str
    kind: str
    reach: int | None
    make: Callable[[Own, bool], AttentionProgram]


def candidates_for(tokens: int) -> list[Candidate]:
    """Return what there is to choose from for pieces of a length, plain attention first.

    Args:
        tokens: N.

    Returns:
        Candidates whose reach is at most half of it.
    """
    found = [Candidate(PLAIN, PLAIN, None, _plain)]
    found += [_local(one) for one in WINDOWS if one <= tokens // 2]
    found += [_blocks(one) for one in _BLOCKS if one * _BLOCK <= tokens // 2]
    return [*found, Candidate("linear", "linear", 0, _linear)]


def _restricted(
    own: Own, causal: bool, name: str, near: Callable[[Pair], Expr] | None
) -> AttentionProgram:
    """Return a model's own attention, of fewer pairs."""

    def seen(pair: Pair) -> Expr | None:
        if near is None:
            return pair.j <= pair.i if causal else None
        kept = near(pair) | (pair.j < FIRST)
        # Of an encoder the first tokens gather the text: they see all of it.
        return (pair.j <= pair.i) & kept if causal else kept | (pair.i < FIRST)

    where = program(lambda pair: softmax(0.0 * pair.i, where=seen(pair))).root.weights
    condition = getattr(where, "where", None)
    root = own.program.root
    if condition is not None:
        root = restrict_where(root, condition)
    return AttentionProgram(root, name, own.program.doc, ("causal",) if causal else ())


def _plain(own: Own, causal: bool) -> AttentionProgram:
    return _restricted(own, causal, PLAIN, None)


def _local(window: int) -> Candidate:
    def make(own: Own, causal: bool) -> AttentionProgram:
        def near(pair: Pair) -> Expr:
            away = pair.i - pair.j
            return away < window if causal else abs(away) <= window // 2

        return _restricted(own, causal, f"local_{window}", near)

    return Candidate(f"local {window}", "local", window, make)


def _blocks(count: int) -> Candidate:
    def make(own: Own, causal: bool) -> AttentionProgram:
        def near(pair: Pair) -> Expr:
            away = pair.i // _BLOCK - pair.j // _BLOCK
            return away < count if causal else abs(away) <= count // 2

        return _restricted(own, causal, f"blocks_{count}", near)

    return Candidate(f"{count} blocks", "sparse", count * _BLOCK, make)


def _linear(own: Own, causal: bool) -> AttentionProgram:
    """Katharopoulos et al. 2020 (arXiv 2006.16236), of rows scaled as the model scales scores."""

    def features(row: Expr) -> Expr:
        row = row * own.scaling**0.5
        return relu(row) + exp(least(row, 0.0))

    def whole(pair: Pair) -> Expr:
        seen = pair.j <= pair.i if causal else None
        return linear(features(pair.q), features(pair.k), where=seen)

    whole.__name__ = "linear"
    made = program(whole)
    return AttentionProgram(made.root, made.name, "", ("causal",) if causal else ())
