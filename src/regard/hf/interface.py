"""The attention function and the mask function that transformers calls, under one name.

Both registries need the same name: with the attention function alone, transformers hands over no
mask at all, and causality and padding are lost without a word. Leaves to others: which module runs
what (`apply`), what it may see (`masks`, `sight`), what it computes by itself (`own`).
"""

import sys
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from regard.errors import InputError, UnsupportedError
from regard.hf.bias import stand_in
from regard.hf.masks import dense_mask, make_mask
from regard.hf.own import BIAS, MASK_BIAS, SCALING, Own, by_distance, read_own, where
from regard.hf.sight import Sight, offset_of, seen_keys, sight_of
from regard.hf.watching import watched
from regard.ir import nodes as n
from regard.ir.program import AttentionProgram
from regard.nn.programmed import Programmed, attend_in_layer, draw_seed
from regard.ops.autocast import as_autocast
from regard.passes.restrict_where import restrict_where

NAME = "regard"


class _Progress(threading.local):
    """What attention functions of this thread know of each other.

    Attributes:
        tokens: How many tokens the decoder had seen whose own attention ran last.
        called: The programmed modules that called, by id, until `apply` has looked.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.called: set[int] = set()


progress = _Progress()


@dataclass(frozen=True)
class _Change:
    """What a call makes of a program: the mask's condition in it, the position bias by distance.

    Attributes:
        condition: What must hold for a pair beside what the program says, or None.
        reach: From which distance on a position bias stays the same, or None if it is dense.
    """

    condition: n.Node | None
    reach: int | None

    def __call__(self, program: AttentionProgram) -> AttentionProgram:
        """Return the program that runs."""
        if self.reach is not None:
            program = by_distance(program, self.reach)
        if self.condition is None:
            return program
        # What the program declares was checked of itself: a mask may leave a row empty.
        root = restrict_where(program.root, self.condition)
        return AttentionProgram(root, program.name, program.doc)


@lru_cache(maxsize=1024)
def change_of(condition: n.Node | None, reach: int | None) -> _Change | None:
    """Return what a call makes of a program.

    Args:
        condition: What must hold for a pair beside what the program says, or None.
        reach: From which distance on a position bias stays the same, or None if it is dense.

    Returns:
        The change, the same object for the same; None if there is nothing to change.
    """
    return None if condition is None and reach is None else _Change(condition, reach)


@lru_cache(maxsize=1024)
def _reads_positions(change: _Change | None) -> bool:
    """Return whether a model's own attention reads positions: most decoding steps need not."""
    if change is None or change.reach is not None:
        return change is not None
    return any(isinstance(node, n.Index) for node in n.walk(change.condition))


def mask_function(**options: Any) -> Tensor:
    """Return the mask of a forward pass, true where visible, with the position of its first query.

    Args:
        **options: As transformers passes them to `sdpa_mask`, with the config of the model.

    Returns:
        Bool (B, 1, N, M), a `masks.Mask` unless its function cannot be traced; dense while
        torch.compile traces.

    Raises:
        UnsupportedError: If the model never asks for attention functions by name.
    """
    if torch.compiler.is_compiling():
        return dense_mask(**options)
    config = options.pop("config", None)
    if config is not None and not _asks_by_name(type(config)):
        raise UnsupportedError(
            f"models of type '{config.model_type}' run attention of their own and never ask for "
            f'attn_implementation; load the model with "eager" instead of "{NAME}"'
        )
    return make_mask(**options)


@lru_cache(maxsize=1024)
def _asks_by_name(config: type) -> bool:
    """Return whether the file with a config's models knows transformers' attention functions."""
    name = config.__module__.replace("configuration_", "modeling_")
    models = sys.modules.get(name)
    if models is None or name == config.__module__:
        return True
    return any(
        isinstance(value, AttentionInterface) or _is_model_of_another_file(value, name)
        for value in vars(models).values()
    )


def _is_model_of_another_file(value: Any, name: str) -> bool:
    if not isinstance(value, type) or value.__module__ in (name, PreTrainedModel.__module__):
        return False
    return issubclass(value, PreTrainedModel) or value.__name__.startswith("AutoModel")


def attention_function(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Run a module's programs in the place of its own attention.

    Args:
        module: The attention module that calls.
        query: (B, H, N, D).
        key: (B, G, M, D).
        value: (B, G, M, E).
        attention_mask: From `mask_function`, or None where everything is visible.
        scaling: What the model multiplies dot products by; programs scale their own scores.
        dropout: The probability of dropping a weight.
        **options: What else transformers passes; unknown ones that are set are refused.

    Returns:
        (B, N, H, E), and the weights (B, H, N, M) before dropout if `output_attentions` asks for
        them, else None.

    Raises:
        UnsupportedError: If an argument would have to be ignored.
        InputError: If the mask was lost on the way.
    """
    # Under torch.compile a graph ends here: its tracing cannot look into ours.
    run = _outside_of_graphs if torch.compiler.is_compiling() else _attend
    return run(module, (query, key, value), attention_mask, scaling, dropout, options)


def _attend(
    module: nn.Module,
    rows: tuple[Tensor, ...],
    attention_mask: Tensor | None,
    scaling: float | None,
    dropout: float,
    options: dict[str, Any],
) -> tuple[Tensor, Tensor | None]:
    if NAME not in AttentionMaskInterface._global_mapping:
        raise _without_masks(module)
    query, key, _ = rows = as_autocast(*rows)
    own = read_own(module, query, scaling, options)
    sight = sight_of(module, query, key, attention_mask, options.get("is_causal"))
    if sight.bias is not None:
        own = own._replace(inputs={**own.inputs, MASK_BIAS: sight.bias})
    offset = _offset(module, query, key, sight)
    watch = watched(module, key.shape[2], _wants_weights(module, options))
    change = change_of(sight.condition, own.reach)
    common: dict[str, Any] = {
        "observe": watch.names,
        "change": change,
        **sight.inputs,
        **watch.features,
    }
    programmed: Any = module._modules.get(NAME)
    if programmed is not None or watch.names or _reads_positions(change):
        common["query_offset"] = offset
        if sight.key_offset:
            places = torch.arange(key.shape[2], device=key.device)
            common["key_positions"] = places + sight.key_offset
    if programmed is None:
        if dropout:
            common.update(dropout=dropout, seed=draw_seed())
        common.update(own.inputs, key_lengths=sight.key_lengths)
        found = attend_in_layer(own.variants, *rows, **common)
    else:
        common.update(_readable(programmed, own), key_lengths=seen_keys(sight, query, key))
        _note_call(module, programmed, query)
        found = programmed(*rows, dropout=dropout, **common)
    output, seen = found if watch.names else (found, {})
    if seen:
        watch.tell(seen)
    if own.reach is None and BIAS in own.inputs and hasattr(module, "compute_bias"):
        # From the next call on the bias needs no dense tensor.
        stand_in(module, NAME)
    return output.transpose(1, 2).contiguous(), seen.get("weights")


_outside_of_graphs = _disable_dynamo(_attend)


def _readable(programmed: Programmed, own: Own) -> dict[str, Any]:
    """Return what a mode's programs read of the model's own attention."""
    given = {SCALING: own.scaling, **own.inputs}
    if BIAS not in given and MASK_BIAS in given:
        given[BIAS] = given[MASK_BIAS]
    reads = programmed.reads
    return {name: value for name, value in given.items() if name in reads}


def _note_call(module: nn.Module, programmed: Programmed, query: Tensor) -> None:
    progress.called.add(id(module))
    if programmed.heads != query.shape[1]:
        raise InputError(
            f"{where(module)} calls with {query.shape[1]} heads; "
            f"the mode was applied for {programmed.heads}"
        )


def _wants_weights(module: nn.Module, options: dict[str, Any]) -> bool:
    if options.get("output_attentions"):
        return True
    config = vars(module).get("config")
    # A config answers by Python of its own, which took as long as all of attend.
    kept = {} if config is None else object.__getattribute__(config, "__dict__")
    return bool(kept.get("_output_attentions"))


def _without_masks(module: nn.Module) -> InputError:
    return InputError(
        f"{where(module)} may get no mask, because transformers knows no mask function named "
        f"'{NAME}' any more; regard.hf.interface.register() puts it back"
    )


def _offset(module: nn.Module, query: Tensor, key: Tensor, sight: Sight) -> int:
    """Return the position of the first query."""
    # Not getattr: torch's modules raise and catch an error for what they lack.
    place = vars(module).get("regard_place")
    if place is not None and place.role == "cross":
        # The cross mask does not know how far decoding is; the decoder's own attention, which ran
        # just before, does.
        return progress.tokens
    offset = sight.query_offset
    if offset is None:
        causal = getattr(module, "is_causal", False)
        offset = offset_of(sight, query, key) if causal else 0
    if place is not None and place.role == "decoder":
        progress.tokens = offset
    return offset


def register() -> None:
    """Put both functions into transformers' registries."""
    AttentionInterface.register(NAME, attention_function)
    AttentionMaskInterface.register(NAME, mask_function)


register()
