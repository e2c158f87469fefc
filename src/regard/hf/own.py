"""What a model's attention computes by itself, as a program: scale, soft cap, sinks, position bias.

Leaves to others: masks (`masks`, `sight`), running it (`interface`).
"""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from regard.errors import UnsupportedError
from regard.hf.bias import DistanceBias
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.lang import functions as f
from regard.lang.pair import Pair, pair_input, table
from regard.lang.program import program
from regard.lang.trace import Expr
from regard.lang.weights import softmax
from regard.nn.programmed import Variants, variants_of

# What a mode's program may read of the model's own attention, by these names.
BIAS, SINKS, SCALING = "position_bias", "sinks", "scaling"
# What a model's own mask of numbers adds to the scores.
MASK_BIAS = "mask_bias"

# What transformers passes beside the tensors and that changes nothing here. A sliding window is in
# the mask, and so is causality.
_HARMLESS = {
    "position_ids", "cache_position", "output_attentions", "output_hidden_states", "use_cache",
    "return_dict", "past_key_values", "labels", "layer_idx", "num_items_in_batch", "is_causal",
    "sliding_window", "position_embeddings", "output_router_logits", "logits_to_keep",
}  # fmt: skip


class Own(NamedTuple):
    """What a module's call says of its own attention.

    Attributes:
        scaling: What dot products are multiplied by.
        softcap: c of c · tanh(score / c), or None.
        inputs: Tensors by the names programs read them by: `position_bias` (1 or B, H, N, M), or
            its table by distance (H, 2R + 1), `sinks` (H,), `mask_bias` (B or 1, H or 1, N, M).
        reach: R where the position bias is a table by distance, else None.
    """

    scaling: float
    softcap: float | None = None
    inputs: Mapping[str, Tensor] = MappingProxyType({})
    reach: int | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """Which of the three inputs there are."""
        given = self.inputs
        return tuple(name for name in (BIAS, MASK_BIAS, SINKS) if name in given) if given else ()

    @property
    def program(self) -> AttentionProgram:
        """The attention that the model computes unless a mode says otherwise."""
        return model_attention(self.scaling, self.softcap, self.reads)

    @property
    def variants(self) -> Variants:
        """The same, prepared for calls in a layer."""
        return _variants(self.scaling, self.softcap, self.reads)


@lru_cache(maxsize=256)
def _variants(scaling: float, softcap: float | None, names: tuple[str, ...]) -> Variants:
    return variants_of(model_attention(scaling, softcap, names))


@lru_cache(maxsize=256)
def model_attention(
    scaling: float, softcap: float | None = None, names: tuple[str, ...] = ()
) -> AttentionProgram:
    """Return what a model computes unless a mode says otherwise: scaled dot-product attention.

    Args:
        scaling: What dot products are multiplied by.
        softcap: c of c · tanh(score / c), or None.
        names: Which of `position_bias`, `mask_bias` and `sinks` it reads.

    Returns:
        The program.
    """

    @program
    def attention(pair: Pair) -> Expr:
        score = f.dot(pair.q, pair.k) * scaling
        if softcap is not None:
            score = softcap * f.tanh(score / softcap)
        for name in (BIAS, MASK_BIAS):
            if name in names:
                score = score + pair_input(name)
        return softmax(score, sink=table(SINKS, per="head") if SINKS in names else None)

    return attention


@lru_cache(maxsize=256)
def by_distance(program: AttentionProgram, reach: int) -> AttentionProgram:
    """Return a program that reads the position bias of a pair from a table by distance.

    Args:
        program: A program that may read the pair input `position_bias`.
        reach: R, from which distance on the bias stays the same.

    Returns:
        The program; its table is (H, 2R + 1).
    """
    distance = n.Call("sub", (n.Index("j"), n.Index("i")))
    low, high = n.Const(-reach), n.Const(reach)
    near = n.Call("min", (n.Call("max", (distance, low)), high))
    place = n.Call("add", (near, high))
    read = n.Gather(n.Array("table", BIAS, ("head", 2 * reach + 1)), (place,))
    dense = n.PairInput(BIAS)
    root = n.rewrite(program.root, lambda node: read if node is dense else None)
    assert isinstance(root, n.Output)
    return AttentionProgram(root, program.name, program.doc)


def read_own(
    module: nn.Module, query: Tensor, scaling: float | None, options: dict[str, Any]
) -> Own:
    """Return what a call says of the model's own attention, and refuse what nobody would honour.

    Args:
        module: The attention module that calls.
        query: (B, H, N, D).
        scaling: As passed.
        options: What else is passed, by name.

    Returns:
        The model's own attention.

    Raises:
        UnsupportedError: If something passed would have to be ignored.
    """
    softcap, inputs, reach = None, {}, None
    for name, value in options.items():
        if value is None or value is False or name in _HARMLESS:
            continue
        if name == BIAS:
            bias = _position_bias(value)
            if bias is not None:
                inputs[BIAS] = bias.table if isinstance(bias, DistanceBias) else bias
                reach = bias.reach if isinstance(bias, DistanceBias) else None
        elif name == "softcap":
            softcap = float(value)
        elif name in ("s_aux", SINKS) and isinstance(value, Tensor) and value.dim() == 1:
            inputs[SINKS] = value
        else:
            raise UnsupportedError(
                f"{where(module)} passes '{name}', "
                "which re-programmed attention would have to ignore"
            )
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return Own(float(scale), softcap, inputs, reach)


def _position_bias(bias: Tensor) -> Tensor | None:
    """Return a bias unless it is nothing but zeros, which T5 makes for layers without one."""
    if isinstance(bias, DistanceBias) or bias.requires_grad or torch.compiler.is_compiling():
        return bias
    # One tensor goes through all layers, so what is found is kept with it.
    if not hasattr(bias, "regard_is_zero"):
        bias.regard_is_zero = not bool(bias.any())  # type: ignore[attr-defined]
    return None if bias.regard_is_zero else bias  # type: ignore[attr-defined]


def where(module: nn.Module) -> str:
    """Return how errors name a module: by its path once a mode was applied, by its class else."""
    place = getattr(module, "regard_place", None)
    kind = type(module).__name__
    return kind if place is None else f"{place.path} ({kind})"
