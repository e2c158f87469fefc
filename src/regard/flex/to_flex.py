"""to_flex(): a program as functions that FlexAttention runs, where FlexAttention can say it.

Leaves to others: writing the functions (`backends/flex`), the way back (`from_flex`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from regard.backends.flex.in_torch import made_of
from regard.backends.flex.write import KEY, QUERY, VALUE, why_not_flex, write_functions
from regard.errors import InputError, UnsupportedError, nearest, no_program
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram, Leaf
from regard.ops.parameters import initial_tensor


class FlexFunctions(NamedTuple):
    """What to give `torch.nn.attention.flex_attention.flex_attention`.

    Attributes:
        score_mod: The score_mod, or None.
        mask_mod: The mask_mod, for `create_block_mask`, or None.
        scale: The scale; None stands for 1 / √D.
        source: The functions as they are written.
    """

    score_mod: Callable[..., Tensor] | None
    mask_mod: Callable[..., Tensor] | None
    scale: float | None
    source: str


def to_flex(
    program: AttentionProgram, *, q: Tensor | None = None, k: Tensor | None = None, **inputs: Any
) -> FlexFunctions:
    """Return a program as functions that FlexAttention runs.

    Args:
        program: One softmax over scores made of dot(q, k), positions and given data.
        q: Queries, (B, H, N, D), where the program reads sizes or heads share keys; numbers of it
            are not read.
        k: Keys, (B, G, M, D), likewise.
        **inputs: What the program reads by name, as for `rg.attend`; parameters start as their
            initialisers say unless given. The functions hold these tensors.

    Returns:
        The functions, the scale to call FlexAttention with, and their source.

    Raises:
        UnsupportedError: If FlexAttention cannot say it; the message gives the reason.
        InputError: If an input is missing or unknown.
    """
    if not isinstance(program, AttentionProgram):
        raise InputError(
            f"to_flex takes a program, which @rg.program makes; found {no_program(program)}"
        )
    reason = why_not_flex(program.root)
    if reason is not None:
        raise UnsupportedError(f"FlexAttention cannot run '{program.name}': {reason}")
    term = program.root.weights
    assert isinstance(term, n.Softmax)
    sizes = _sizes(q, k)
    source, names, scale = write_functions(term, _tensors(program, inputs, sizes), sizes)
    made = made_of(source, names)
    return FlexFunctions(made.get("score_mod"), made.get("mask_mod"), scale, source)


def _sizes(q: Tensor | None, k: Tensor | None) -> dict[str, int]:
    sizes: dict[str, int] = {}
    if q is not None:
        sizes |= {"heads": q.shape[1], "queries": q.shape[2], "width": q.shape[3]}
    if k is not None:
        sizes |= {"groups": k.shape[1], "keys": k.shape[2], "width": k.shape[3]}
    return sizes


def _tensors(
    program: AttentionProgram, inputs: dict[str, Any], sizes: dict[str, int]
) -> dict[str, Any]:
    leaves: dict[str, Leaf] = {
        leaf.name: leaf for leaf in program.inputs if leaf not in (QUERY, KEY, VALUE)
    }
    for name in inputs:
        if name not in leaves:
            raise InputError(f"the program reads no '{name}'; {nearest(name, leaves)}")
    return {
        name: inputs[name] if name in inputs else _initial(leaf, sizes)
        for name, leaf in leaves.items()
    }


def _initial(leaf: Leaf, sizes: dict[str, int]) -> Any:
    if isinstance(leaf, n.Scalar) and leaf.default is not None:
        return leaf.default
    if isinstance(leaf, n.Array) and leaf.source == "parameter":
        if "head" in leaf.per and "heads" not in sizes:
            raise InputError(f"'{leaf.name}' has one row per head; pass {leaf.name}=… or q=…")
        return initial_tensor(
            leaf, tuple(sizes["heads"] if axis == "head" else int(axis) for axis in leaf.per)
        )
    raise InputError(f"the program reads '{leaf.name}', which was not given; pass {leaf.name}=…")
