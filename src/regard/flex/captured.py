"""Captured tensors: where each came from, and how a later call finds it again.

A tensor that a score_mod reads is one its closure holds (a slot), or was made from such tensors
while the function ran (replayed at every call, so that gradients pass through). Leaves to others:
what indexing makes of it (`index`), finding what a closure holds (`fingerprint`).
"""

from __future__ import annotations

import contextvars
import keyword
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map, tree_map_only

from regard.ir import nodes as n
from regard.ir.verify import CALL_OPTIONS
from regard.lang.trace import build, fail

Given = Sequence[Tensor]


class Sizes(NamedTuple):
    """The sizes of a call that captured tensors are cut to.

    Attributes:
        B: Batch rows.
        H: Query heads.
        G: Key heads.
        N: Queries.
        M: Keys.
    """

    B: int
    H: int
    G: int
    N: int
    M: int


@dataclass(frozen=True)
class Recipe:
    """How a tensor is made of those that a function captures.

    Attributes:
        key: Equal for recipes that make the same.
        make: Makes it of the captured tensors, in order.
        shape: Its shape.
        dtype: Its dtype.
    """

    key: tuple
    make: Callable[[Given], Tensor] = field(compare=False)
    shape: torch.Size = field(compare=False)
    dtype: torch.dtype = field(compare=False)

    def then(self, step: tuple, change: Callable[[Tensor], Tensor]) -> Recipe:
        """Return the recipe with one more step, which `step` names.

        Args:
            step: What tells the step from others.
            change: The step.

        Returns:
            The longer recipe.
        """
        with torch._C.DisableTorchFunction():
            example = change(torch.empty(self.shape, dtype=self.dtype, device="meta"))
        return Recipe(
            (*self.key, step),
            lambda given: change(self.make(given)),
            example.shape,
            example.dtype,
        )


class Tracing:
    """What one tracing has found: the program's inputs, and the tensors they are made of.

    Args:
        captured: The tensors that the functions hold, in order.
        names: What the functions call them.
        sizes: The sizes of the call, where they are known.
    """

    def __init__(
        self, captured: Sequence[Tensor], names: Sequence[str], sizes: Sizes | None
    ) -> None:
        self.sizes = sizes
        self.inputs: dict[str, Recipe] = {}
        # Whether another call with the same functions would be traced to the same program.
        self.repeatable = True
        # Numbers that the function wrote as 0-d tensors, by their id.
        self.written: dict[int, Any] = {}
        self._places = {id(tensor): place for place, tensor in enumerate(captured)}
        self._names = list(names)
        self._made: dict[int, Recipe] = {}
        self._chosen: dict[tuple, str] = {}
        self._kept: list[Tensor] = list(captured)

    def recipe(self, tensor: Tensor) -> Recipe:
        """Return how a tensor that the function reads is made."""
        place = self._places.get(id(tensor))
        if place is not None:
            return Recipe(("slot", place), lambda given: given[place], tensor.shape, tensor.dtype)
        if id(tensor) in self._made:
            return self._made[id(tensor)]
        # It came from somewhere the closure does not show, such as an attribute of an object.
        self.repeatable = False
        self._kept.append(tensor)
        return Recipe(("kept", len(self._kept)), lambda given: tensor, tensor.shape, tensor.dtype)

    def replay(self, function: Callable[..., Any], args: tuple, kwargs: dict, made: Tensor) -> None:
        """Remember how a tensor was made while the function ran.

        Args:
            function: The function of torch that made it.
            args: Its arguments.
            kwargs: Its keyword arguments.
            made: What it returned.
        """
        self._kept.append(made)
        plan = tree_map_only(Tensor, self.recipe, (args, kwargs))

        def make(given: Given) -> Tensor:
            is_recipe = lambda leaf: isinstance(leaf, Recipe)  # noqa: E731
            again, options = tree_map(
                lambda leaf: leaf.make(given) if is_recipe(leaf) else leaf, plan, is_leaf=is_recipe
            )
            return function(*again, **options)

        self._made[id(made)] = Recipe(("made", len(self._kept)), make, made.shape, made.dtype)

    def name_input(self, role: str, recipe: Recipe, make: Callable[[str], n.Node]) -> n.Node:
        """Return the leaf that reads an input, the same for the same input in the same role.

        Args:
            role: The kind of leaf, which tells apart what is read in several ways.
            recipe: How the input is made.
            make: Makes the leaf of a name.

        Returns:
            The leaf.
        """
        key = (role, recipe.key)
        if key not in self._chosen:
            name = self._free_name(recipe)
            self._chosen[key], self.inputs[name] = name, recipe
        return make(self._chosen[key])

    def _free_name(self, recipe: Recipe) -> str:
        kind, place, *_ = recipe.key
        name = self._names[place] if kind == "slot" else "captured"
        if not name.isidentifier() or keyword.iskeyword(name) or name in _TAKEN:
            name = f"captured_{name}" if name.isidentifier() else "captured"
        if name not in self.inputs:
            return name
        number = 2
        while f"{name}_{number}" in self.inputs:
            number += 1
        return f"{name}_{number}"


_TAKEN = (*CALL_OPTIONS, "q", "k", "v")
CURRENT: contextvars.ContextVar[Tracing] = contextvars.ContextVar("flex_tracing")


def bound(inputs: dict[str, Recipe], given: Given) -> dict[str, Tensor]:
    """Return a program's inputs, made of the captured tensors.

    Args:
        inputs: How each is made.
        given: The captured tensors.

    Returns:
        Tensors by name.
    """
    return {name: recipe.make(given) for name, recipe in inputs.items()}


def cut(recipe: Recipe, axis: int, size: int, what: str) -> Recipe:
    """Return the recipe with an axis cut to the rows that there are.

    Args:
        recipe: How the tensor is made.
        axis: The axis.
        size: How many rows the call has.
        what: What indexes it, for the error.

    Returns:
        The recipe.

    Raises:
        ProgramError: If the tensor has too few rows.
    """
    found = recipe.shape[axis]
    if found == size:
        return recipe
    if found < size:
        fail(
            f"a captured tensor has {found} rows along axis {axis}, which {what} indexes; "
            f"the call has {size}"
        )
    return recipe.then(("cut", axis, size), lambda tensor: tensor.narrow(axis, 0, size))


def arranged(recipe: Recipe, letters: Iterable[str], wanted: str) -> Recipe:
    """Return the recipe with its axes in the wanted order, and size 1 where it has none.

    Args:
        recipe: How the tensor is made.
        letters: What each axis stands for.
        wanted: The order of letters.

    Returns:
        The recipe.
    """
    have = list(letters)
    order = [have.index(letter) for letter in wanted if letter in have]
    missing = [place for place, letter in enumerate(wanted) if letter not in have]

    def change(tensor: Tensor) -> Tensor:
        tensor = tensor.permute(order)
        for place in missing:
            tensor = tensor.unsqueeze(place)
        return tensor

    return recipe.then(("arranged", tuple(order), tuple(missing)), change)


def number_of(tensor: Tensor) -> n.Node:
    """Return the leaf that reads a captured 0-d tensor."""
    tracing = CURRENT.get()
    return tracing.name_input(
        "number", tracing.recipe(tensor), lambda name: build(n.Array, "table", name, (), None)
    )
