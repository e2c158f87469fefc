"""FlexAttention's functions, run once on traced values, as an attention program.

Leaves to others: what torch's functions become (`mode`), captured tensors (`captured`, `index`),
the blocks of a BlockMask (`blocks`), calls that repeat (`remember`).
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regard.errors import ProgramError
from regard.flex.captured import CURRENT, Sizes, Tracing
from regard.flex.elementwise import as_dtype, lifted, number
from regard.flex.functions import operand
from regard.flex.mode import Listening
from regard.flex.ranges import KNOWN, Known
from regard.flex.traced import DEVICE, Traced
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.lang.trace import build
from regard.passes.bound_scores import Bounds

ScoreMod = Callable[..., Any]
_CPU = torch.device("cpu")
_MINUS_INFINITY = n.Const(-math.inf)
_PLACES = tuple(n.Index(name) for name in ("batch", "head", "i", "j"))


@dataclass(frozen=True)
class Origin:
    """What a call says beside its functions.

    Attributes:
        scale: What scores are multiplied by; 1 / √D if None.
        dtype: The dtype of scores.
        device: Where tensors are.
        sizes: The sizes of the call, where they are known.
    """

    scale: float | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device = _CPU
    sizes: Sizes | None = None


def trace(
    score_mod: ScoreMod | None,
    mask_mod: ScoreMod | None,
    captured: tuple[Sequence[Tensor], Sequence[str]],
    origin: Origin,
    blocks: Callable[[n.Node | None], n.Node | None] | None = None,
) -> tuple[AttentionProgram, Tracing]:
    """Run both functions on traced values.

    Args:
        score_mod: (score, b, h, q_idx, kv_idx) -> score, or None.
        mask_mod: (b, h, q_idx, kv_idx) -> bool, or None.
        captured: The tensors that they hold, and what they call them.
        origin: What the call says beside them.
        blocks: Makes of the mask's condition that of a BlockMask, or None.

    Returns:
        The program, and what was found of the captured tensors.
    """
    tracing = Tracing(*captured, origin.sizes)
    known = Known(_ranges(origin.sizes))
    tokens = CURRENT.set(tracing), DEVICE.set(origin.device), KNOWN.set(known)
    try:
        places = tuple(Traced(place, torch.int64) for place in _PLACES)
        score = _score(origin)
        seen: n.Node | None = None
        if mask_mod is not None:
            seen = _mask(_run(mask_mod, "mask_mod", places), mask_mod)
        if blocks is not None:
            seen = blocks(seen)
        if score_mod is not None:
            score = _number_of(_run(score_mod, "score_mod", (score, *places)), score_mod)
        node, seen = _unhidden(score.node, seen)
        weights = build(n.Softmax, node, seen, None, "a")
        root = build(n.Output, weights, build(n.Vector, "key", "v"), None)
    finally:
        CURRENT.reset(tokens[0])
        DEVICE.reset(tokens[1])
        KNOWN.reset(tokens[2])
    assert isinstance(root, n.Output)
    return AttentionProgram(root, _name(score_mod, mask_mod)), tracing


def _ranges(sizes: Sizes | None) -> dict[n.Node, Bounds]:
    """Return between which numbers the pair's places lie."""
    counts = (math.inf,) * 4 if sizes is None else (sizes.B, sizes.H, sizes.N, sizes.M)
    found = zip(_PLACES, counts, strict=True)
    return {place: (0.0, max(count - 1.0, 0.0)) for place, count in found}


def _score(origin: Origin) -> Traced:
    product = build(n.Call, "mul", (build(n.Vector, "query", "q"), build(n.Vector, "key", "k")))
    node = build(n.Reduce, product, "c")
    if origin.scale is None:
        node = build(n.Call, "div", (node, build(n.Call, "sqrt", (build(n.Index, "width"),))))
    elif origin.scale != 1:
        node = build(n.Call, "mul", (node, build(n.Const, float(origin.scale))))
    return Traced(node, origin.dtype)


def _run(function: ScoreMod, what: str, args: tuple[Traced, ...]) -> Any:
    if not callable(function):
        found = repr(function) if isinstance(function, str) else f"a {type(function).__name__}"
        hint = "; give it as block_mask" if hasattr(function, "mask_mod") else ""
        raise ProgramError(f"{what} must be a function, not {found}{hint}")
    try:
        inspect.signature(function).bind(*args)
    except TypeError as problem:
        names = "(b, h, q_idx, kv_idx)" if what == "mask_mod" else "(score, b, h, q_idx, kv_idx)"
        raise ProgramError(f"{what} '{_word(function)}' must take {names}: {problem}") from None
    except ValueError:
        pass  # A builtin that does not say what it takes.
    with Listening():
        return function(*args)


def _mask(found: Any, function: ScoreMod) -> n.Node | None:
    value = operand(found)
    if isinstance(value, bool):
        value = lifted(value)
    if not isinstance(value, Traced) or value.dtype != torch.bool:
        raise ProgramError(
            f"a mask_mod returns a condition such as q_idx >= kv_idx, not {_found(found)}\n"
            f"  {_place(function)}"
        )
    node = value.node
    return None if isinstance(node, n.Const) and node.value is True else node


def _number_of(found: Any, function: ScoreMod) -> Traced:
    value = operand(found)
    if not isinstance(value, Traced | bool | int | float):
        raise ProgramError(
            f"a score_mod returns one score per pair, not {_found(found)}\n  {_place(function)}\n"
            "index every captured tensor to one number, e.g. bias[h, q_idx]"
        )
    value = number(lifted(value))
    return value if value.is_floating else as_dtype(value, torch.float32)


def _found(value: Any) -> str:
    if value is None:
        return "nothing (is a `return` missing?)"
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _place(function: ScoreMod) -> str:
    code = getattr(getattr(function, "func", function), "__code__", None)
    where = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code is not None else ""
    return f"{_word(function)}{where}"


def _unhidden(score: n.Node, seen: n.Node | None) -> tuple[n.Node, n.Node | None]:
    """Hide by `where` what a score of minus infinity hides, so that plans can skip it."""
    while isinstance(score, n.Call) and score.op == "where" and _MINUS_INFINITY in score.args[1:]:
        chosen, yes, no = score.args
        if yes is _MINUS_INFINITY:
            chosen, yes = build(n.Call, "not", (chosen,)), no
        if yes is _MINUS_INFINITY:
            break
        seen = chosen if seen is None else build(n.Call, "and", (seen, chosen))
        score = yes
    return score, seen


def _name(*functions: ScoreMod | None) -> str:
    names = [_word(function) for function in functions if function is not None]
    return "_and_".join(names) or "flex_attention"


def _word(function: ScoreMod) -> str:
    name = getattr(function, "__name__", None) or getattr(
        getattr(function, "func", None), "__name__", type(function).__name__
    )
    return name if name.isidentifier() else "function"
