"""Rows of traced values: what indexing only some axes of a captured tensor leaves.

A row is computed along the program's channels where it is summed, and written out number by number
where it is not. Leaves to others: which input a number or row of a captured tensor becomes
(`captured`).
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from regard.flex.elementwise import both, either, fused, lifted, where
from regard.flex.traced import Operand, Traced
from regard.ir import nodes as n
from regard.ir.types import axes_of
from regard.lang.trace import build, fail

# Beyond so many numbers a row is not written out.
_MOST_WRITTEN = 256
# Up to so many conditions are combined one by one; each is then a condition the plan can see.
_FEW_CONDITIONS = 32


class WrittenOut(Exception):
    """A row does not lie along channels: its values stand one by one."""


class Row(Operand):
    """A 1-d tensor of traced values.

    Args:
        width: How many there are.
        make: Called with a place it returns that value; with None, all of them along channels.
    """

    __slots__ = ("make", "width")

    def __init__(self, width: int, make: Callable[[int | None], Traced]) -> None:
        self.width, self.make = width, make

    def __repr__(self) -> str:
        return f"<traced tensor of shape {tuple(self.shape)}>"

    @property
    def shape(self) -> torch.Size:
        """Its one size."""
        return torch.Size((self.width,))

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of its values."""
        return self.make(0).dtype

    @property
    def device(self) -> torch.device:
        """The device of the call."""
        return self.make(0).device

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Traced]:
        return iter(self.values())

    def __getitem__(self, index: Any) -> Operand:
        if index is Ellipsis or index == slice(None):
            return self
        if isinstance(index, slice):
            kept = range(self.width)[index]
            return Row(len(kept), lambda place: self._part(kept, place))
        if isinstance(index, int) and -self.width <= index < self.width:
            return self.make(index % self.width)
        fail(
            f"a row of {self.width} computed values cannot be indexed by {index!r}\n"
            "index the captured tensor with all its indices at once: tensor[q_idx, index]"
        )

    def _part(self, kept: range, place: int | None) -> Traced:
        if place is not None:
            return self.make(kept[place])
        if kept.step != 1:
            fail("only slices without a step can be summed; slice the captured tensor before")
        whole = self.along_channels()
        node = build(n.Slice, whole.node, kept.start, kept.stop)
        return Traced(node, whole.dtype)

    def values(self) -> list[Traced]:
        """Return its values one by one."""
        if self.width > _MOST_WRITTEN:
            fail(
                f"a row of {self.width} values can be summed, but is too wide to be written out\n"
                "index the captured tensor to single numbers instead"
            )
        return [self.make(place) for place in range(self.width)]

    def along_channels(self) -> Traced:
        """Return its values along the program's channels.

        Returns:
            All of them as one value that varies over channels.

        Raises:
            WrittenOut: If they do not lie so.
        """
        return self.make(None)


def elementwise(function: Callable[..., Traced]) -> Callable[..., Operand]:
    """Return a function of traced values as one that takes rows as well, value by value."""

    def applied(*args: Any, **kwargs: Any) -> Operand:
        given = (*args, *kwargs.values())
        rows = [arg for arg in given if isinstance(arg, Row)]
        if not rows:
            return function(*args, **kwargs)
        widths = {row.width for row in rows if row.width != 1} or {1}
        if len(widths) > 1:
            fail(f"rows of {' and '.join(map(str, sorted(widths)))} values do not fit each other")

        def make(place: int | None) -> Traced:
            picked = [
                arg.make(0 if arg.width == 1 else place) if isinstance(arg, Row) else arg
                for arg in given
            ]
            named = dict(zip(kwargs, picked[len(args) :], strict=True))
            return function(*picked[: len(args)], **named)

        return Row(widths.pop(), make)

    return applied


def as_row(value: Any, what: str) -> Row:
    """Return a value that must be a row."""
    if not isinstance(value, Row):
        fail(f"{what} takes a row, such as tensor[b, h, q_idx] of a captured tensor")
    return value


def total(value: Any) -> Traced:
    """Return the sum of a row."""
    row = as_row(value, "torch.sum")
    try:
        values = row.along_channels()
    except WrittenOut:
        return _folded(row, lambda x, y: fused("add", x, y))
    if values.dtype == torch.bool:
        values = where(values, 1, 0)
    if "c" not in axes_of(values.node):
        return fused("mul", values, row.width)
    dtype = values.dtype if values.is_floating else torch.int64
    return Traced(build(n.Reduce, values.node, "c"), dtype)


def dot(first: Any, second: Any) -> Traced:
    """Return the dot product of two rows."""
    rows = [as_row(value, "torch.dot") for value in (first, second)]
    if rows[0].width != rows[1].width:
        fail(f"torch.dot of rows of {rows[0].width} and {rows[1].width} values")
    product = elementwise(lambda x, y: fused("mul", x, y))(*rows)
    return total(product)


def average(value: Any) -> Traced:
    """Return the mean of a row."""
    row = as_row(value, "torch.mean")
    return fused("div", total(row), row.width)


def any_of(value: Any) -> Traced:
    """Return whether one of a row's conditions holds."""
    return _combined(value, "torch.any", either)


def all_of(value: Any) -> Traced:
    """Return whether all of a row's conditions hold."""
    return _combined(value, "torch.all", both)


def _combined(value: Any, name: str, combine: Callable[..., Traced]) -> Traced:
    row = as_row(value, name)
    if row.width > _FEW_CONDITIONS:
        counted = total(elementwise(lambda x: where(x, 1, 0))(row))
        return fused("gt", counted, 0) if combine is either else fused("eq", counted, row.width)
    return _folded(row, lambda x, y: combine(x, y))


def largest(value: Any) -> Traced:
    """Return the largest of a row."""
    return _folded(as_row(value, "torch.amax"), lambda x, y: fused("max", x, y))


def smallest(value: Any) -> Traced:
    """Return the smallest of a row."""
    return _folded(as_row(value, "torch.amin"), lambda x, y: fused("min", x, y))


def product(value: Any) -> Traced:
    """Return the product of a row."""
    return _folded(as_row(value, "torch.prod"), lambda x, y: fused("mul", x, y))


def _folded(row: Row, combine: Callable[[Traced, Traced], Traced]) -> Traced:
    first, *others = row.values()
    for other in others:
        first = combine(first, other)
    return first


def widened(value: Any) -> Row:
    """Return a number as a row of one value, which fits every width."""
    if isinstance(value, Row):
        fail("a row has one axis; a pair's value can have no more")
    only = lifted(value)
    return Row(1, lambda place: only)


def stacked(values: Any) -> Row:
    """Return numbers as a row."""
    parts = [lifted(value) for value in values]

    def make(place: int | None) -> Traced:
        if place is None:
            raise WrittenOut
        return parts[place]

    return Row(len(parts), make)
