"""Published attention that a program over one pair cannot say, and why.

Leaves to others: what can be said (the families); related variants are named in the reasons.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Absent:
    """A published mechanism that is no variant.

    Attributes:
        name: What it would be found by.
        title: What its authors call it.
        source: Who published it and when.
        link: Where to read it.
        reason: What it needs that the language lacks, and what comes nearest.
    """

    name: str
    title: str
    source: str
    link: str
    reason: str


def _arxiv(name: str, title: str, source: str, number: str, reason: str) -> Absent:
    return Absent(name, title, source, f"https://arxiv.org/abs/{number}", reason)


ABSENT: tuple[Absent, ...] = (
    _arxiv(
        "selective",
        "Selective attention",
        "Leviathan et al. 2024",
        "2410.02703",
        "What a pair loses is the sum of one head's scores for the same key over earlier queries. "
        "A program can sum over a query's keys (`rg.running_sum`), not over a key's queries. With "
        "the sums computed beforehand, `rg.pair_input` subtracts them, at N × M memory.",
    ),
    _arxiv(
        "delta_rule",
        "DeltaNet",
        "Yang et al. 2024",
        "2406.06484",
        "What a token writes is its value less what the state already returns for its key, so the "
        "weight of a pair holds a product of matrices, one for each key in between; a triangular "
        "system has to be solved. A pair sees numbers summed over keys, not such products. With "
        "the solved values as v, what is left is causal linear attention.",
    ),
    _arxiv(
        "gated_delta_rule",
        "Gated DeltaNet",
        "Yang et al. 2024",
        "2412.06464",
        "As `delta_rule`, with a decay besides. The decay alone: `gated_decay`.",
    ),
    _arxiv(
        "kimi_delta",
        "Kimi delta attention (KDA)",
        "Kimi Team 2025",
        "2510.26692",
        "As `delta_rule`, with a decay for each channel besides. The decays alone: `gated_linear`.",
    ),
    _arxiv(
        "test_time_training",
        "Test-time training layers (TTT)",
        "Sun et al. 2024",
        "2407.04620",
        "The state is the weights of a small network, changed by a gradient step at each token. "
        "No weight belongs to a pair of tokens, but for the linear network with one step for all "
        "tokens, which is linear attention.",
    ),
    _arxiv(
        "two_simplicial",
        "2-simplicial attention",
        "Roy et al. 2025",
        "2507.02754",
        "Weights belong to a query and two keys, and values to pairs of keys: a program is over "
        "one query and one key, and the sum over the second key is under the same softmax.",
    ),
    _arxiv(
        "nystrom",
        "Nyströmformer",
        "Xiong et al. 2021",
        "2102.03902",
        "The weights are a product of three matrices, one of them a pseudo-inverse. It is two "
        "calls of `scaled_dot_product`, keys by landmarks and landmarks by queries, with the "
        "inverse of landmarks by landmarks multiplied in between; no program is left to write.",
    ),
    _arxiv(
        "linformer",
        "Linformer",
        "Wang et al. 2020",
        "2006.04768",
        "It mixes keys along the length by a learned matrix before any pair exists. Multiply k "
        "and v by that matrix and call `scaled_dot_product`.",
    ),
)
"""The mechanisms, those nearest to the language first."""
