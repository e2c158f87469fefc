"""Scores, dense, written from the papers; `CALLS` says how those that read more are called."""

import math

from tests.catalogue.oracles.calls import Call
from tests.catalogue.oracles.dense import heads, softmax


def scaled_dot_product(q, k, v):
    """Vaswani et al. 2017, equation 1."""
    k, v = heads(q, k, v)
    return softmax(q @ k.mT / math.sqrt(q.shape[-1])) @ v


CALLS: dict[str, Call] = {}
