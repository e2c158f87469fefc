"""The places that a search fills: roles, groups of layers and groups of heads; and modes as grids.

A genome is a grid: for each role, for each group of layers, for each group of heads, a program.
Before: encoder: local; encoder, layers 0–1, heads 2–3: alibi.
After: {"encoder": ((local, alibi), (local, local))}.
A mode and its grid say the same; of modes that say the same there is one grid, and one hash.
Leaves to others: what a place demands (`admit`), other grids made of this one (`children`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise

from regard.errors import InputError, nearest
from regard.ir.program import AttentionProgram
from regard.modes.mode import ROLES, Assignment, Mode

Row = tuple[AttentionProgram, ...]
Grid = dict[str, tuple[Row, ...]]


@dataclass(frozen=True)
class Layers:
    """The layers of one role.

    Attributes:
        layers: How many there are.
        heads: How many heads each has.
        layer_groups: Into how many groups of neighbours they fall; those of a group run the same.
        head_groups: Into how many groups of neighbours heads fall; heads that share keys must be
            in one group.
        causal: Whether no query may be told of later keys, as in a decoder. None: by the role.
    """

    layers: int
    heads: int
    layer_groups: int = 1
    head_groups: int = 1
    causal: bool | None = None

    def __post_init__(self) -> None:
        """Check that groups are of whole layers and heads."""
        for groups, count, what in (
            (self.layer_groups, self.layers, "layers"),
            (self.head_groups, self.heads, "heads"),
        ):
            if not (type(groups) is type(count) is int and 1 <= groups <= count):
                raise InputError(
                    f"{groups!r} groups of {count!r} {what}: give whole numbers, from one group to "
                    "as many as there are"
                )


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        roles: The layers of each role.
        length: About how many tokens an input has; ranges are drawn up to it.
        may_read: Features that the model gives to programs, beside q, k, v and parameters.
        most_nodes: The most nodes of a program.
        most_parameters: The most learned numbers of a program at 16 heads of 64 channels.
    """

    roles: Mapping[str, Layers]
    length: int = 128
    may_read: frozenset[str] = frozenset()
    most_nodes: int = 150
    most_parameters: int = 2**18

    def __post_init__(self) -> None:
        """Check the roles and numbers."""
        if not self.roles:
            raise InputError("a space needs the layers of a role, e.g. {'encoder': Layers(2, 4)}")
        for role in self.roles:
            if role not in ROLES:
                raise InputError(f"'{role}' is no role of attention; {nearest(role, ROLES)}")
            if role == "decoder" and self.roles[role].causal is False:
                raise InputError("the self-attention of a decoder is causal; leave causal out")
        for name in ("length", "most_nodes", "most_parameters"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                found = getattr(self, name)
                raise InputError(f"{name} must be a whole number from 1, not {found!r}")

    def is_causal(self, role: str) -> bool:
        """Tell whether the programs of a role must be causal."""
        causal = self.roles[role].causal
        return role == "decoder" if causal is None else causal

    def like(self, role: str) -> str:
        """Return which of encoder, decoder and cross a role is like."""
        if role == "cross":
            return role
        return "decoder" if self.is_causal(role) else "encoder"


def spans(count: int, groups: int) -> list[tuple[int, int]]:
    """Divide neighbours into groups of nearly the same size.

    Args:
        count: How many there are.
        groups: Into how many.

    Returns:
        (first, after the last) of each group.
    """
    ends = [count * number // groups for number in range(groups + 1)]
    return list(pairwise(ends))


def grid_of(mode: Mode, space: Space) -> Grid:
    """Return what a mode says, place by place.

    Args:
        mode: The mode. In each group, what its first layer and first head run stands for all.
        space: The places.

    Returns:
        The grid.

    Raises:
        InputError: If the mode leaves out a place, or names one that is not there.
    """
    check_fit(mode, space)
    grid: Grid = {}
    for role, shape in space.roles.items():
        rows = []
        for layer, _ in spans(shape.layers, shape.layer_groups):
            groups = mode.at(role, layer, shape.heads) or []
            firsts = [head for head, _ in spans(shape.heads, shape.head_groups)]
            rows.append(tuple(_running(groups, head) for head in firsts))
        grid[role] = tuple(rows)
    return grid


def check_fit(mode: Mode, space: Space) -> None:
    """Check that a mode fills every layer and head of a space, and no other.

    Args:
        mode: The mode.
        space: The places.

    Raises:
        InputError: If a layer or a head has no program, or an assignment no place.
    """
    for one in mode.assignments:
        count = space.roles[one.role].layers if one.role in space.roles else 0
        if (one.layers or (0, min(count, 1)))[1] > count or not count:
            raise InputError(
                f"mode '{mode.name}': there are {count} layers of role '{one.role}'; "
                f"it names layers {one.layers or 'of it'}"
            )
    for role, shape in space.roles.items():
        for layer in range(shape.layers):
            if mode.at(role, layer, shape.heads) is None:
                raise InputError(
                    f"mode '{mode.name}' has no program for role '{role}', layer {layer}; "
                    "a search is of modes that fill every place"
                )


def _running(groups: list[tuple[tuple[int, int], AttentionProgram]], head: int) -> AttentionProgram:
    return next(program for (start, stop), program in groups if start <= head < stop)


def mode_of(grid: Grid, space: Space, name: str, intent: str = "") -> Mode:
    """Return a grid as a mode, in as few assignments as say it.

    Args:
        grid: The grid.
        space: The places.
        name: What the mode is called.
        intent: What it is for.

    Returns:
        The mode.
    """
    return Mode(name, intent, [one for role in grid for one in _assigned(role, grid[role], space)])


def _assigned(role: str, rows: tuple[Row, ...], space: Space) -> Iterator[Assignment]:
    shape = space.roles[role]
    layers, heads = (
        spans(shape.layers, shape.layer_groups),
        spans(shape.heads, shape.head_groups),
    )
    for layer_span, (row, _) in _runs(rows, layers, shape.layers):
        for head_span, (program, _) in _runs(row, heads, shape.heads):
            yield Assignment(role, program, layer_span, head_span)


def _runs(items: tuple, places: list[tuple[int, int]], count: int) -> Iterator[tuple]:
    """Yield the span of neighbours that are alike, None if that is all, and what they are."""
    for item, run in groupby(zip(items, places, strict=True), key=lambda pair: pair[0]):
        spanned = [place for _, place in run]
        span = (spanned[0][0], spanned[-1][1])
        yield (None if span == (0, count) else span), (item, spanned)
