"""Regard: attention as a small program over one (query, key) pair, held as data.

Write a program with `rg.program`, run it with `rg.attend`, put it into a model with `rg.nn` or
`rg.hf`. Importing this package needs torch and numpy alone.
"""

import importlib
from typing import Any

from regard.errors import (
    DataError,
    FileError,
    InputError,
    ProgramError,
    RegardError,
    TaskError,
    UnsupportedError,
)
from regard.ir.program import AttentionProgram
from regard.lang import (
    channel,
    clip,
    cos,
    dot,
    dropout,
    entmax,
    erf,
    exp,
    floor,
    init,
    keep,
    key_feature,
    key_vector,
    linear,
    log,
    map,
    max,
    max_over_keys,
    min,
    output,
    pair_input,
    parameter,
    program,
    project,
    query_feature,
    query_vector,
    ratio,
    relu,
    rotary,
    rotate,
    running_sum,
    scalar,
    sigmoid,
    sign,
    sin,
    softmax,
    softplus,
    sparsemax,
    sqrt,
    sum,
    table,
    tanh,
    topk,
    weigh,
    where,
)
from regard.modes.files import load, save
from regard.modes.mode import Assignment, Mode
from regard.ops.attend import attend
from regard.ops.contracts.check import check
from regard.ops.explain import explain
from regard.ops.guarantee_mass import guarantee_mass
from regard.ops.measure_machine import measure_machine
from regard.ops.merge import merge
from regard.ops.packed import attend_packed
from regard.ops.recurrent import RecurrentState, attend_recurrent

__version__ = "0.1.0"

# Rooms that need more than torch and numpy, or that a small program does not use, come when they
# are asked for.
_ROOMS = ("catalogue", "nn", "modes", "hf", "view")
_LATER = {
    "draw": "regard.view",
    "flex_attention": "regard.flex.attention",
    "from_flex": "regard.flex.from_flex",
    "to_flex": "regard.flex.to_flex",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"regard.{name}")
    if name in _LATER:
        return getattr(importlib.import_module(_LATER[name]), name)
    raise AttributeError(f"module 'regard' has no attribute '{name}'")


__all__ = [
    "Assignment", "AttentionProgram", "DataError", "FileError", "InputError", "Mode",
    "ProgramError", "RecurrentState", "RegardError", "TaskError", "UnsupportedError", "attend",
    "attend_packed", "attend_recurrent", "channel", "check", "clip", "cos", "dot", "dropout",
    "entmax", "erf", "exp", "explain", "floor", "guarantee_mass", "init", "keep", "key_feature",
    "key_vector", "linear", "load", "log", "map", "max", "max_over_keys", "measure_machine",
    "merge", "min", "output", "pair_input", "parameter", "program", "project", "query_feature",
    "query_vector", "ratio", "relu", "rotary", "rotate", "running_sum", "save",
    "scalar", "sigmoid", "sign", "sin", "softmax", "softplus", "sparsemax", "sqrt", "sum", "table",
    "tanh", "topk", "weigh", "where",
]  # fmt: skip
