"""Where a model's projections stand: those of its attention, and the last of its feed-forward.

They are found by structure: what an attention module and the layer around it hold. Leaves to
others: which modules are attention (`apply.find_places`), what is put there (`bottleneck`,
`heads`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from regard.errors import UnsupportedError
from regard.hf.apply import Place, find_places

NAMES = {
    "q": ("q_proj", "query", "q_lin", "q", "q_attn"),
    "k": ("k_proj", "key", "k_lin", "k"),
    "v": ("v_proj", "value", "v_lin", "v"),
    "o": ("o_proj", "out_proj", "out_lin", "o", "c_proj", "dense", "Wo"),
}
# One projection for what has none of its own: all queries, then all keys, then all values.
FUSED = ("c_attn", "qkv_proj", "Wqkv")


@dataclass(frozen=True)
class Part:
    """A projection, or the part of one that belongs to queries, keys or values.

    Attributes:
        path: The projection's name in the model.
        start: The first output (of "o": input) that belongs to it.
        width: How many belong to it.
    """

    path: str
    start: int
    width: int


def bare(module: nn.Module) -> Any:
    """Return what adapters wrap.

    Args:
        module: A module, wrapped by PEFT or not.

    Returns:
        The module of the model itself.
    """
    while hasattr(module, "base_layer"):
        module = module.base_layer  # type: ignore[assignment]
    return module


def sizes(linear: nn.Module) -> tuple[int, int]:
    """Return how many numbers a projection reads and gives.

    Args:
        linear: A Linear, or transformers' Conv1D, which stores the transpose.

    Returns:
        (inputs, outputs).
    """
    first, second = bare(linear).weight.shape
    return (first, second) if isinstance(bare(linear), Conv1D) else (second, first)


def is_linear(module: nn.Module) -> bool:
    """Return whether a module is a projection, wrapped or not.

    Args:
        module: The module.

    Returns:
        True for a Linear and transformers' Conv1D.
    """
    return isinstance(bare(module), nn.Linear | Conv1D)


def find_parts(model: PreTrainedModel, place: Place) -> dict[str, Part]:
    """Return an attention module's projections.

    Args:
        model: The model.
        place: The module's place.

    Returns:
        Parts by "q", "k", "v" and "o"; those that are not found are absent.
    """
    found, missing = {}, []
    for letter in ("q", "k", "v"):
        path = _named(model, place.path, NAMES[letter])
        if path is None:
            missing.append(letter)
        else:
            found[letter] = Part(path, 0, sizes(model.get_submodule(path))[1])
    fused = _named(model, place.path, FUSED)
    if fused is not None and missing:
        found.update(_split(fused, sizes(model.get_submodule(fused))[1], missing, place))
    output = find_output(model, place)
    if output is not None:
        found["o"] = Part(output, 0, sizes(model.get_submodule(output))[0])
    return found


def _split(path: str, width: int, letters: list[str], place: Place) -> dict[str, Part]:
    """Return the parts of a fused projection: queries, if they are missing, then keys, values."""
    queries = place.heads * place.width if "q" in letters else 0
    keys, odd = divmod(width - queries, 2)
    if odd or letters[-2:] != ["k", "v"] or keys % place.width:
        return {}
    starts = {"q": 0, "k": queries, "v": queries + keys}
    return {one: Part(path, starts[one], queries if one == "q" else keys) for one in letters}


def _named(model: nn.Module, path: str, names: tuple[str, ...]) -> str | None:
    """Return the path of the first projection of one of these names inside a module."""
    module = model.get_submodule(path)
    for name in names:
        child = getattr(module, name, None)
        if isinstance(child, nn.Module) and is_linear(child):
            return f"{path}.{name}" if path else name
    return None


def find_output(model: PreTrainedModel, place: Place) -> str | None:
    """Return the path of the projection that ends an attention module.

    Args:
        model: The model.
        place: The module's place.

    Returns:
        Its path; None if it is not found.
    """
    inside = _named(model, place.path, NAMES["o"])
    if inside is not None:
        return inside
    # BERT and its family keep it beside the module, not in it.
    beside = f"{place.path.rpartition('.')[0]}.output"
    try:
        model.get_submodule(beside)
    except AttributeError:
        return None
    return _named(model, beside, ("dense",))


def find_ends(model: PreTrainedModel) -> tuple[list[str], list[str]]:
    """Return where each layer's sublayers end, just before the residual addition.

    Args:
        model: The model.

    Returns:
        The paths of the last projections of its attention, and of its feed-forward blocks.

    Raises:
        UnsupportedError: If one is not found; the message says what was looked for.
    """
    places = [place for _, place in find_places(model).values()]
    attention: list[str] = []
    for place in places:
        output = find_output(model, place)
        if output is None:
            raise UnsupportedError(
                f"{place.path}: no last projection found; looked for a linear layer named "
                f"{', '.join(NAMES['o'])} in it, or output.dense beside it"
            )
        attention.append(output)
    forward = dict.fromkeys(
        _feed_forward(model, place, output, places)
        for place, output in zip(places, attention, strict=True)
    )
    return attention, list(forward)


def _feed_forward(model: PreTrainedModel, place: Place, output: str, places: list[Place]) -> str:
    """Return the path of the last projection of the feed-forward block beside an attention."""
    taken = {part.path for one in places for part in find_parts(model, one).values()}
    width = sizes(model.get_submodule(output))[1]
    above = place.path
    while above:
        above = above.rpartition(".")[0]
        block = model.get_submodule(above)
        alike = [one for one in places if one.role == place.role and _within(one.path, above)]
        if isinstance(block, PreTrainedModel) or len(alike) > 1:
            break
        found = [
            path
            for path, linear in _linears(block, above)
            if path not in taken and sizes(linear)[1] == width
        ]
        if found and not _has_experts(block):
            return found[-1]
    raise UnsupportedError(
        f"{place.path}: no feed-forward block found beside it; looked for a linear layer outside "
        f"attention that gives {width} numbers, in the layer around it (experts are not supported)"
    )


def _within(path: str, above: str) -> bool:
    return not above or path.startswith(f"{above}.")


def _has_experts(block: nn.Module) -> bool:
    return any(
        parameter.dim() == 3 and "regard" not in path.split(".")
        for path, parameter in block.named_parameters()
    )


def _linears(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the projections inside a module, without what adapters put into them."""
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if is_linear(child):
            yield inner, child
        elif name != "regard":
            yield from _linears(child, inner)
