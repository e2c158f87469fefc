"""Traces that are kept, so that a call like an earlier one neither traces nor compiles anew.

A trace is found again by the code of the functions and by what they hold: numbers count by value,
tensors by shape and dtype, and each call reads the tensors that are held now. A changed closure,
default or global is therefore another trace, a changed tensor another input. Nothing kept holds a
tensor. Leaves to others: telling functions apart (`fingerprint`), tracing (`tracing`).
"""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regard.flex.blocks import BlockTable
from regard.flex.captured import Recipe, bound
from regard.flex.fingerprint import Captured
from regard.flex.tracing import Origin, trace
from regard.ir.program import AttentionProgram

_MOST_KEPT = 256
_kept: OrderedDict[Hashable, "Trace"] = OrderedDict()
_lock = Lock()


class Trace(NamedTuple):
    """A program, and how its inputs are made of what the functions hold.

    Attributes:
        program: The program.
        inputs: Recipes by name.
    """

    program: AttentionProgram
    inputs: dict[str, Recipe]


class FlexProgram(NamedTuple):
    """FlexAttention's functions as a program: `rg.attend(p.program, q, k, v, **p.inputs)`.

    Attributes:
        program: The program.
        inputs: The tensors that the functions hold, by the program's names for them.
    """

    program: AttentionProgram
    inputs: dict[str, Tensor]


def find_program(
    score_mod: Any, mask_mod: Any, origin: Origin, table: BlockTable | None = None
) -> FlexProgram:
    """Return the program of two functions, and the tensors that they hold as its inputs.

    Args:
        score_mod: FlexAttention's score_mod, or None.
        mask_mod: FlexAttention's mask_mod, or None.
        origin: What the call says beside them.
        table: The blocks of a BlockMask that its mask_mod does not tell, or None.

    Returns:
        The program and its inputs.
    """
    captured = Captured()
    functions = tuple(captured.fingerprint(function) for function in (score_mod, mask_mod))
    if table is not None:
        captured.tensors.append(table.codes)
        captured.names.append("blocks")
    key = None
    if None not in functions:
        # Settings of torch that dtypes of numbers follow, and that a function may ask for.
        settings = torch.get_default_dtype(), torch.is_grad_enabled()
        key = (functions, origin, None if table is None else table.key, settings)
        with _lock:
            if key in _kept:
                _kept.move_to_end(key)
                found = _kept[key]
                return FlexProgram(found.program, bound(found.inputs, captured.tensors))
    program, tracing = trace(
        score_mod,
        mask_mod,
        (captured.tensors, captured.names),
        origin,
        None if table is None else table.condition,
    )
    if key is not None and tracing.repeatable:
        with _lock:
            _kept[key] = Trace(program, tracing.inputs)
            if len(_kept) > _MOST_KEPT:
                _kept.popitem(last=False)
    return FlexProgram(program, bound(tracing.inputs, captured.tensors))
