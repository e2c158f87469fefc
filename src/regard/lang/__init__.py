"""The language: how a person writes a program, and the words it is written in.

Its own files name each other alone, so that any of them can be imported first.
"""

from regard.lang import init
from regard.lang.functions import (
    clip,
    cos,
    dot,
    erf,
    exp,
    floor,
    log,
    max,
    max_over_keys,
    min,
    project,
    relu,
    rotary,
    rotate,
    running_sum,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    sum,
    tanh,
    where,
)
from regard.lang.pair import (
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
from regard.lang.weights import (
    dropout,
    entmax,
    keep,
    linear,
    map,
    output,
    ratio,
    softmax,
    sparsemax,
    topk,
    weigh,
)

__all__ = [
    "channel", "clip", "cos", "dot", "dropout", "entmax", "erf", "exp", "floor", "init", "keep",
    "key_feature", "key_vector", "linear", "log", "map", "max", "max_over_keys", "min", "output",
    "pair_input", "parameter", "program", "project", "query_feature", "query_vector", "ratio",
    "relu", "rotary", "rotate", "running_sum", "scalar", "sigmoid", "sign", "sin", "softmax",
    "softplus", "sparsemax", "sqrt", "sum", "table", "tanh", "topk", "weigh", "where",
]  # fmt: skip
