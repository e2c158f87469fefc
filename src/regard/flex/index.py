"""What indexing a captured tensor becomes: a feature, a pair input, a table, or a row of one.

A tensor indexed by b, h, q_idx and kv_idx themselves is given data per query, per key or per pair;
any other whole number makes it a table. Leaves to others: where tensors come from (`captured`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from regard.backends.flex.in_torch import Lines, function_of, made_of
from regard.flex.captured import CURRENT, Recipe, Sizes, arranged, cut
from regard.flex.elementwise import fused, where
from regard.flex.ranges import range_of
from regard.flex.rows import Row
from regard.flex.traced import Operand, Traced
from regard.ir import nodes as n
from regard.ir.types import axes_of
from regard.lang.trace import build, fail

_LETTERS: dict[n.Node, str] = {
    n.Index("batch"): "b",
    n.Index("head"): "h",
    n.Index("i"): "i",
    n.Index("j"): "j",
}
_WORDS = {"b": "the batch", "h": "the head", "i": "q_idx", "j": "kv_idx"}
# Tables of more indices are not what compiled kernels read.
_MOST_INDICES = 3
# One index per axis of the tensor; None where the axis is not indexed yet.
Indices = tuple[Traced | None, ...]


class Picked(Row):
    """A captured tensor of which some axes are indexed; one left makes it a row.

    Args:
        recipe: How the tensor is made.
        indices: What indexes each of its axes.
    """

    __slots__ = ("free", "indices", "recipe")

    def __init__(self, recipe: Recipe, indices: Indices) -> None:
        self.recipe, self.indices = recipe, indices
        free = [size for size, index in zip(recipe.shape, indices, strict=True) if index is None]
        super().__init__(free[-1], self._make)
        self.free = free

    @property
    def shape(self) -> torch.Size:
        """The sizes of the axes that are not indexed."""
        return torch.Size(self.free)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the tensor."""
        return self.recipe.dtype

    def __getitem__(self, index: Any) -> Operand:
        return pick(self.recipe, self.indices, index)

    def _make(self, place: int | None) -> Traced:
        if len(self.free) > 1:
            fail(
                f"{len(self.free)} axes of a captured tensor are not indexed; a pair's value has "
                "at most one, a row"
            )
        if place is None:
            return _row(self.recipe, self.indices)
        found = pick(self.recipe, self.indices, place)
        assert isinstance(found, Traced)
        return found


def picked(tensor: Tensor, index: Any) -> Operand:
    """Return what a captured tensor becomes when traced values index it.

    Args:
        tensor: The captured tensor.
        index: As Python gives it to `__getitem__`.

    Returns:
        A traced number, or a row where an axis is not indexed.
    """
    recipe = CURRENT.get().recipe(tensor)
    return pick(recipe, (None,) * tensor.ndim, index)


def whole_row(tensor: Tensor) -> Row:
    """Return a captured 1-d tensor as a row that is the same for every pair."""
    if tensor.ndim != 1:
        fail(
            f"a captured tensor of shape {tuple(tensor.shape)} meets a pair's number\n"
            "index it to the number of this pair, e.g. tensor[h, q_idx]"
        )
    return Picked(CURRENT.get().recipe(tensor), (None,))


def pick(recipe: Recipe, indices: Indices, index: Any) -> Operand:
    """Index the axes that are not indexed yet.

    Args:
        recipe: How the tensor is made.
        indices: What indexes each of its axes.
        index: As Python gives it to `__getitem__`.

    Returns:
        A traced number, or a row where an axis is not indexed.
    """
    free = [axis for axis, found in enumerate(indices) if found is None]
    items = _expanded(index, len(free))
    now: list[Traced | None] = list(indices)
    for axis, item in reversed(list(zip(free, items, strict=True))):
        if isinstance(item, Traced):
            now[axis] = _checked(item, recipe.shape[axis])
        elif isinstance(item, int):
            size = recipe.shape[axis]
            if not -size <= item < size:
                fail(f"index {item} is outside of an axis of {size}")
            recipe = recipe.then(
                ("select", axis, item), lambda t, axis=axis, item=item: t.select(axis, item)
            )
            del now[axis]
        elif item != slice(None):
            recipe = _sliced(recipe, axis, item)
    if any(found is None for found in now):
        return Picked(recipe, tuple(now))
    return _number(recipe, [found for found in now if found is not None])


def _sliced(recipe: Recipe, axis: int, part: slice) -> Recipe:
    step = ("slice", axis, part.start, part.stop, part.step)
    before = (slice(None),) * axis
    return recipe.then(step, lambda tensor: tensor[(*before, part)])


def _expanded(index: Any, axes: int) -> list[Any]:
    items = list(index) if isinstance(index, tuple) else [index]
    items = [_plain(item) for item in items]
    if any(item is Ellipsis for item in items):
        place = next(p for p, item in enumerate(items) if item is Ellipsis)
        items[place : place + 1] = [slice(None)] * (axes - len(items) + 1)
    if len(items) > axes:
        fail(f"{len(items)} indices for a captured tensor of {axes} axes")
    return items + [slice(None)] * (axes - len(items))


def _plain(item: Any) -> Any:
    if item is Ellipsis or isinstance(item, Traced):
        return item
    if isinstance(item, slice):
        if any(isinstance(end, Operand) for end in (item.start, item.stop, item.step)):
            fail(
                "a slice cannot begin or end at a traced value: how many it holds would differ\n"
                "index single numbers, and hide those that should not count with torch.where"
            )
        return item
    if isinstance(item, int) and not isinstance(item, bool):
        return item
    fail(f"a captured tensor is indexed by whole numbers, slices and traced numbers, not {item!r}")


def _checked(index: Traced, size: int) -> Traced:
    """Return an index counted from the start; torch counts negative ones from the end."""
    if index.dtype == torch.bool or index.is_floating:
        fail(f"an index must be a whole number, not {index.dtype}; write x.long()")
    if range_of(index.node)[0] >= 0:
        return index
    return where(fused("lt", index, 0), fused("add", index, size), index)


def _sizes(letter: str, sizes: Sizes) -> int:
    return dict(zip("bhij", (sizes.B, sizes.H, sizes.N, sizes.M), strict=True))[letter]


def _fitted(recipe: Recipe, letters: Sequence[str]) -> Recipe:
    """Cut each axis that a coordinate itself indexes to the rows of the call."""
    sizes = CURRENT.get().sizes
    if sizes is None:
        return recipe
    for axis, letter in enumerate(letters):
        if letter in _WORDS:
            recipe = cut(recipe, axis, _sizes(letter, sizes), _WORDS[letter])
    return recipe


def _number(recipe: Recipe, indices: Sequence[Traced]) -> Traced:
    """Return the number of a captured tensor that an index per axis picks."""
    letters = [_LETTERS.get(index.node, "?") for index in indices]
    recipe = _fitted(recipe, letters)
    plain = "?" not in letters and len(set(letters)) == len(letters)
    given = CURRENT.get().name_input
    if plain and {"i", "j"} <= set(letters):
        recipe = arranged(recipe, letters, "bhij")
        leaf = given("pair", recipe, lambda name: build(n.PairInput, name))
    elif plain and ("i" in letters or "j" in letters):
        side = "query" if "i" in letters else "key"
        recipe = arranged(recipe, letters, "bhi" if side == "query" else "bhj")
        leaf = given(side, recipe, lambda name: build(n.Feature, side, name))
    else:
        leaf = _table(recipe, letters, indices, ())
    return Traced(leaf, recipe.dtype)


def _table(
    recipe: Recipe, letters: Sequence[str], indices: Sequence[Traced], rest: tuple[str, ...]
) -> n.Node:
    """Read a table by an index per axis; `rest` names the axes that are not indexed."""
    # The head indexes an axis of that name by itself; an array has one such axis at most.
    named = letters.index("h") if "h" in letters and CURRENT.get().sizes is not None else None
    if len(indices) > _MOST_INDICES:
        recipe, indices, named = *_flattened(recipe, indices), None
    per = tuple("head" if axis == named else "rows" for axis in range(len(indices))) + rest
    kept = tuple(index.node for axis, index in enumerate(indices) if axis != named)
    role = "table " + " ".join(per)
    array = CURRENT.get().name_input(
        role, recipe, lambda name: build(n.Array, "table", name, per, None)
    )
    return build(n.Gather, array, kept) if kept else array


def _flattened(recipe: Recipe, indices: Sequence[Traced]) -> tuple[Recipe, list[Traced]]:
    """Return the table with its first axes as one, counted as one index counts them."""
    joined = len(indices) - _MOST_INDICES + 1
    first = indices[0]
    for size, index in zip(recipe.shape[1:joined], indices[1:joined], strict=True):
        first = fused("add", fused("mul", first, size), index)
    flat = recipe.then(("flat", joined), lambda tensor: tensor.flatten(0, joined - 1))
    return flat, [first, *indices[joined:]]


def _row(recipe: Recipe, indices: Indices) -> Traced:
    """Return a row of a captured tensor along the program's channels."""
    free = next(axis for axis, index in enumerate(indices) if index is None)
    last = recipe
    if free != len(indices) - 1:
        last = recipe.then(("last", free), lambda tensor: tensor.movedim(free, -1))
    used = [index for index in indices if index is not None]
    letters = [_LETTERS.get(index.node, "?") for index in used]
    sizes = CURRENT.get().sizes
    vector = None if sizes is None else _vector(last, letters, used, sizes)
    if vector is not None:
        return Traced(vector, recipe.dtype)
    return Traced(_table(_fitted(last, letters), letters, used, ("channel",)), recipe.dtype)


def _vector(
    recipe: Recipe, letters: list[str], indices: list[Traced], sizes: Sizes
) -> n.Node | None:
    """Return a row per query or per key as further rows beside q and k, or None."""
    side = {"i": "query", "j": "key"}.get("".join(x for x in letters if x in "ij"))
    if side is None or not recipe.dtype.is_floating_point:
        return None
    groups = sizes.H if side == "query" else sizes.G
    recipe = _fitted(recipe, letters)
    for axis, (letter, index) in enumerate(zip(letters, indices, strict=True)):
        if letter == "?" or (letter == "h" and groups != sizes.H):
            heads = _heads(index, sizes.H, groups)
            if heads is None:
                return None
            letters = [*letters[:axis], "h", *letters[axis + 1 :]]
            recipe = recipe.then(
                ("heads", axis, heads),
                lambda t, axis=axis, heads=heads: t.index_select(
                    axis, torch.tensor(heads, device=t.device)
                ),
            )
    if len(set(letters)) != len(letters):
        return None
    recipe = arranged(recipe, [*letters, "c"], "bhic" if side == "query" else "bhjc")
    full = recipe.then(("full", sizes.B, groups), lambda t: t.expand(sizes.B, groups, *t.shape[2:]))
    return CURRENT.get().name_input(f"{side} row", full, lambda name: build(n.Vector, side, name))


def _heads(index: Traced, heads: int, groups: int) -> tuple[int, ...] | None:
    """Return which row of a tensor each group of heads reads, if its heads read the same."""
    if not set(axes_of(index.node)) <= {"h"}:
        return None
    with torch._C.DisableTorchFunction():
        lines = Lines({n.Index("head"): "h"})
        source = function_of("row_of", "h", lines, lines.text(index.node))
        found = torch.as_tensor(made_of(source, {})["row_of"](torch.arange(heads)))
        each = found.expand(heads).view(groups, -1)
        if not bool((each == each[:, :1]).all()):
            return None
        return tuple(each[:, 0].tolist())
