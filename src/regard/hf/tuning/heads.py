"""LoRA on chosen heads: only their rows and columns of the projections change.

The update of a chosen head's rows is a product of its own, so no mask is needed: what is not
chosen has no parameters. Leaves to others: the projections (`structure`), merging (`layer`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel

from regard.errors import InputError, UnsupportedError, nearest
from regard.hf.apply import Place, find_places
from regard.hf.tuning.layer import Adapter
from regard.hf.tuning.structure import FUSED, NAMES, Part, find_parts, sizes
from regard.hf.tuning.tuner import AdapterConfig, Method, register


@dataclass
class HeadLoraConfig(AdapterConfig):
    """LoRA on chosen heads.

    Attributes:
        heads: By role, (layer, head) pairs, e.g. {"decoder": [(5, 1), (6, 9)]}; layers count among
            those of the role.
        projections: Which of "q", "k", "v" (rows of the chosen heads) and "o" (their columns).
        r: The rank of each update, which a projection's chosen heads share.
        lora_alpha: Updates are scaled by lora_alpha / r.
        lora_dropout: The probability of dropping what an update reads, while training.

    Source: Hu et al. 2021 (arXiv 2106.09685), equation 3, on rows and columns of heads.
    """

    heads: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    projections: tuple[str, ...] = ("q", "k", "v", "o")
    r: int = 8
    lora_alpha: float = 16
    lora_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        self.peft_type = Method.HEAD_LORA
        self.projections = tuple(self.projections)
        unknown = [name for name in self.projections if name not in NAMES]
        if unknown or not self.projections:
            raise InputError(f"projections={self.projections!r} must be some of q, k, v, o")
        if type(self.r) is not int or self.r < 1:
            raise InputError(f"r={self.r!r} must be a number from 1")
        if not 0 <= self.lora_dropout < 1:
            raise InputError(f"lora_dropout={self.lora_dropout!r} must be from 0 to below 1")
        self.heads = {role: _pairs(role, pairs) for role, pairs in self.heads.items()}
        if not any(self.heads.values()):
            raise InputError('no heads are chosen; give heads={"decoder": [(layer, head), …]}')

    def plan(self, model: PreTrainedModel) -> dict[str, Callable[[], Adapter]]:
        """Return which projections get an update, and how to make each.

        Args:
            model: The model.

        Returns:
            Makers by the projection's path.

        Raises:
            InputError: If the model has no such role, layer or head, or a key head is split.
            UnsupportedError: If a projection is not found.
        """
        places = [place for _, place in find_places(model).values()]
        chosen: dict[tuple[str, bool], list[int]] = {}
        for place, heads in _chosen(self.heads, places):
            parts = self._parts(model, place)
            for letter in self.projections:
                key = (parts[letter].path, letter == "o")
                chosen.setdefault(key, []).extend(_numbers(letter, parts, place, heads))
        scale = self.lora_alpha / self.r
        plans: dict[str, Callable[[], Adapter]] = {}
        for (path, columns), numbers in chosen.items():
            width = sizes(model.get_submodule(path))
            plans[path] = partial(
                HeadUpdate, width, sorted(numbers), columns, self.r, scale, self.lora_dropout
            )
        return plans

    def _parts(self, model: PreTrainedModel, place: Place) -> dict[str, Part]:
        found = find_parts(model, place)
        # Which keys belong to a head is told by the width of the keys' projection.
        for letter in {*self.projections, "k"} if "v" in self.projections else self.projections:
            if letter not in found:
                names = ", ".join(NAMES[letter] + (FUSED if letter != "o" else ()))
                raise UnsupportedError(
                    f"{place.path}: no '{letter}' projection found; looked for a linear layer "
                    f"named {names}"
                )
        return found


def _pairs(role: str, pairs: object) -> list[tuple[int, int]]:
    try:
        made: list[Any] = [(layer, head) for layer, head in pairs]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        made = [(None, None)]
    if any(type(number) is not int or number < 0 for pair in made for number in pair):
        raise InputError(f"heads of role '{role}' must be (layer, head) pairs, not {pairs!r}")
    return list(dict.fromkeys(made))


def _chosen(
    heads: dict[str, list[tuple[int, int]]], places: list[Place]
) -> list[tuple[Place, list[int]]]:
    """Return the places that hold chosen heads, with these; every pair must have one."""
    found: dict[str, tuple[Place, list[int]]] = {}
    for role, pairs in heads.items():
        layers = {_roles(one)[role]: one for one in places if role in _roles(one)}
        if not layers:
            roles = sorted({role for place in places for role in _roles(place)})
            raise InputError(
                f"this model has no attention of role '{role}'; {nearest(role, roles)}"
            )
        for layer, head in pairs:
            if layer not in layers:
                raise InputError(f"{role} layer {layer}: there are {len(layers)} layers, from 0")
            place = layers[layer]
            if head >= place.heads:
                raise InputError(
                    f"{role} layer {layer}, head {head}: there are {place.heads} heads, from 0"
                )
            found.setdefault(place.path, (place, []))[1].append(head)
    return list(found.values())


def _roles(place: Place) -> dict[str, int]:
    """Return a place's number in each role it has."""
    return getattr(place, "numbers", None) or {place.role: place.layer}


def _numbers(letter: str, parts: dict[str, Part], place: Place, heads: list[int]) -> list[int]:
    """Return the rows (of "o": columns) of a projection that belong to chosen heads."""
    part, count = parts[letter], place.heads
    if letter in "kv":
        count = parts["k"].width // place.width
        heads = _key_heads(letter, place, heads, place.heads // count)
    width = part.width // count
    return [part.start + head * width + channel for head in heads for channel in range(width)]


def _key_heads(letter: str, place: Place, heads: list[int], shared: int) -> list[int]:
    """Return the key heads of chosen heads; all heads that share one must be chosen."""
    for head in heads:
        first = head // shared * shared
        left = [other for other in range(first, first + shared) if other not in heads]
        if left:
            raise InputError(
                f"{place.role} layer {place.layer}: heads {first}–{first + shared - 1} share a "
                f"key head, and head {left[0]} is not chosen; choose all of them, or leave "
                f"'{letter}' out of projections"
            )
    return sorted({head // shared for head in heads})


class HeadUpdate(Adapter):
    """A low-rank update of some rows, or of some columns, of a projection; nothing, at the start.

    Args:
        width: (inputs, outputs) of the projection.
        chosen: The numbers of the rows or columns.
        columns: Whether they are columns.
        rank: The rank.
        scale: What the update is multiplied by.
        dropout: The probability of dropping what it reads.
    """

    chosen: Tensor

    def __init__(
        self,
        width: tuple[int, int],
        chosen: list[int],
        columns: bool,
        rank: int,
        scale: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.width, self.columns, self.scale, self.dropout = width, columns, scale, dropout
        inputs, outputs = (len(chosen), width[1]) if columns else (width[0], len(chosen))
        self.down = nn.Linear(inputs, rank, bias=False).weight
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.register_buffer("chosen", torch.tensor(chosen), persistent=False)

    def forward(self, x: Tensor, result: Tensor) -> Tensor:
        """Return the projection's output with the update's added.

        Args:
            x: (..., inputs).
            result: (..., outputs).

        Returns:
            (..., outputs).
        """
        read = functional.dropout(x, self.dropout, self.training).to(self.down.dtype)
        if self.columns:
            read = read.index_select(-1, self.chosen)
        added = functional.linear(functional.linear(read, self.down), self.up) * self.scale
        added = added.to(result.dtype)
        return result + added if self.columns else result.index_add(-1, self.chosen, added)

    def change(self) -> Tensor:
        """Return what merging adds to the projection's weight.

        Returns:
            (outputs, inputs), zero outside the chosen rows or columns.
        """
        inputs, outputs = self.width
        whole = self.up.new_zeros(outputs, inputs)
        return whole.index_add(int(self.columns), self.chosen, self.scale * self.up @ self.down)


register(Method.HEAD_LORA, HeadLoraConfig)
