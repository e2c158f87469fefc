"""Where attention is in a model: which modules call transformers' attention functions, as what.

A module is known by what its code does, not by its name: it looks up an attention function in an
`AttentionInterface`. Leaves to others: what runs in a place (`apply`).
"""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from types import CodeType, FunctionType
from typing import Any

from torch import nn
from transformers import AttentionInterface, PreTrainedModel

from regard.errors import UnsupportedError

_CROSS = re.compile(r"encoder_attn|cross_?attn|cross_?attention|EncDecAttention", re.IGNORECASE)
_MODALITIES = {"image": "vision", "video": "vision", "audio": "audio", "text": "text"}
_HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "num_attn_heads", "heads")
_WIDTHS = ("head_dim", "attention_head_size", "qk_head_dim", "key_value_proj_dim", "head_size",
           "dim_head", "d_kv")  # fmt: skip
_QUERIES = ("q_proj", "query", "q", "q_lin", "to_q", "wq", "query_proj", "q_b_proj", "linear_q")
_QUERIES_KEYS_VALUES = ("qkv", "qkv_proj", "query_key_value", "c_attn", "Wqkv", "in_proj")


@dataclass(frozen=True)
class Place:
    """Where an attention module stands in its model.

    Attributes:
        path: Its name in the model.
        role: "encoder", "decoder" or "cross".
        layer: Its number among the modules of that role.
        heads: H.
        width: D.
        key_heads: G; H where None.
        value_width: E; D where None.
        numbers: Its number among the modules of every role it has: its own role, and for
            self-attention "vision", "text" or "audio" too, by what its part of the model reads.
        given: What its calls give beside q, k and v, by the names that programs read it by.
    """

    path: str
    role: str
    layer: int
    heads: int
    width: int
    key_heads: int | None = None
    value_width: int | None = None
    numbers: dict[str, int] = field(default_factory=dict)
    given: frozenset[str] = frozenset()


def find_places(model: nn.Module) -> dict[str, tuple[nn.Module, Place]]:
    """Return a model's attention modules by path, with their places.

    Args:
        model: The model.

    Returns:
        (module, place) by path, in the order of the model. A module that several layers share is
        there once.

    Raises:
        UnsupportedError: If no module of the model asks transformers for its attention function.
    """
    found: dict[str, tuple[nn.Module, Place]] = {}
    counts: dict[str, int] = {}
    writes = isinstance(model, PreTrainedModel) and model.can_generate()
    for path, module, owner in _modules(model):
        passed = passed_names(type(module))
        if passed is None:
            continue
        role = _role(path, module, owner, writes)
        roles = [role] if role == "cross" else [role, *_modality(owner)]
        numbers = {name: counts.get(name, 0) for name in roles}
        counts.update({name: number + 1 for name, number in numbers.items()})
        heads, key_heads, width, value_width = _sizes(module)
        found[path] = (
            module,
            Place(
                path, role, numbers[role], heads, width, key_heads, value_width, numbers,
                _given(passed, path, model),
            ),
        )  # fmt: skip
    if not found:
        config = getattr(model, "config", None)
        kind = getattr(config, "model_type", None) or type(model).__name__
        raise UnsupportedError(
            f"models of type '{kind}' run attention of their own and never ask transformers for an "
            f"attention function, so it cannot be replaced{_named(own_attention(model))}"
        )
    return found


def own_attention(model: nn.Module) -> list[str]:
    """Return the paths of modules that look like attention and that nothing can replace.

    Args:
        model: The model.

    Returns:
        Paths of modules called …Attention… that neither ask for an attention function, nor hold or
        belong to a module that does.
    """
    asking = [path for path, one in model.named_modules() if passed_names(type(one)) is not None]
    found: list[str] = []
    for path, module in model.named_modules():
        if "Attention" not in type(module).__name__:
            continue
        related = any(_holds(path, other) or _holds(other, path) for other in asking + found)
        if not related:
            found.append(path)
    return found


def _holds(path: str, other: str) -> bool:
    return path in (other, "") or other.startswith(path + ".")


def _named(paths: list[str]) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f": {paths[0]}{more}"


def _modules(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Module]]:
    """Yield every module with its path and the transformers model it belongs to most closely."""
    owners: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        parent = path.rpartition(".")[0] if path else ""
        owner = owners.get(parent, model)
        if isinstance(module, PreTrainedModel):
            owner = module
        owners[path] = owner
        yield path, module, owner


@lru_cache(maxsize=4096)
def passed_names(kind: type) -> frozenset[str] | None:
    """Return what a class of modules passes to an attention function by keyword.

    Args:
        kind: The class.

    Returns:
        All names that its code passes by keyword; None if it asks for no attention function.
    """
    if issubclass(kind, PreTrainedModel):
        return None
    asks, names = False, set()
    for name in dir(kind):
        function = inspect.unwrap(getattr(kind, name, None))  # type: ignore[arg-type]
        if not isinstance(function, FunctionType) or function.__module__.startswith("torch."):
            continue
        for code in _all_code(function.__code__):
            asks = asks or any(
                isinstance(function.__globals__.get(used), AttentionInterface)
                for used in code.co_names
            )
            tuples = [constant for constant in code.co_consts if isinstance(constant, tuple)]
            names.update(item for one in tuples for item in one if isinstance(item, str))
    return frozenset(names) if asks else None


def _all_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _all_code(inner)


def _given(passed: frozenset[str], path: str, model: nn.Module) -> frozenset[str]:
    given = {"scaling"} | (passed & {"position_bias", "sinks"})
    if "s_aux" in passed:
        given.add("sinks")
    # BEiT and Swin add theirs to the mask, further out.
    parts = path.split(".")
    around = [model.get_submodule(".".join(parts[:end])) for end in range(len(parts) + 1)]
    if any(getattr(one, "relative_position_bias", None) is not None for one in around):
        given.add("position_bias")
    return frozenset(given)


def _role(path: str, module: nn.Module, owner: nn.Module, writes: bool) -> str:
    own_name = path.rpartition(".")[2]
    if getattr(module, "is_cross_attention", False) or "Cross" in type(module).__name__:
        return "cross"
    if _CROSS.search(own_name) or _CROSS.search(path):
        return "cross"
    return "decoder" if _decodes(path, module, owner, writes) else "encoder"


def _decodes(path: str, module: Any, owner: nn.Module, writes: bool) -> bool:
    """Return whether a module attends within what is being written, token after token."""
    if getattr(module, "is_causal", False) or getattr(module, "is_decoder", False):
        return True
    # A decoder on its own has no "decoder." in its paths.
    if re.search(r"(^|\.)decoder\.", path):
        return True
    # PaliGemma's words see each other both ways where they are given, and are written all the same.
    keeps = "past_key_values" in inspect.signature(type(module).forward).parameters
    return keeps and writes and not hasattr(module, "is_decoder") and "text" in _modality(owner)


def _modality(owner: nn.Module) -> tuple[str, ...]:
    """Return what a part of a model reads, or nothing where it reads several kinds."""
    given = getattr(owner, "input_modalities", "text")
    kinds = {_MODALITIES.get(one, one) for one in ([given] if isinstance(given, str) else given)}
    return tuple(kinds) if len(kinds) == 1 else ()


def _sizes(module: Any) -> tuple[int, int, int, int]:
    """Return H, G, D and E of an attention module."""
    config = getattr(module, "config", None)
    heads = _first(module, _HEADS) or _first(config, _HEADS) or 1
    width = _first(module, _WIDTHS) or _width_of_projection(module, heads)
    if not width:
        whole = _first(config, ("hidden_size", "d_model", "embed_dim")) or heads
        width = whole // heads
    groups = _first(module, ("num_key_value_heads", "num_kv_heads"))
    shared = _first(module, ("num_key_value_groups",))
    if not groups:
        groups = heads // shared if shared else heads
    value_width = _first(module, ("v_head_dim", "value_head_dim")) or width
    return heads, groups, width, value_width


def _first(holder: Any, names: tuple[str, ...]) -> int:
    for name in names:
        value = getattr(holder, name, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _width_of_projection(module: nn.Module, heads: int) -> int:
    for parts, names in ((1, _QUERIES), (3, _QUERIES_KEYS_VALUES)):
        for name in names:
            size = getattr(getattr(module, name, None), "out_features", None)
            if isinstance(size, int):
                return size // parts // heads
    return 0
