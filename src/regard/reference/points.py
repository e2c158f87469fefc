"""The pairs an expression is evaluated at, as a list, and the coarser sites below them.

Hidden pairs are not in the list. That is how the reference keeps its promise about them: what is
never computed can hold NaN, and no gradient can reach it. Leaves to others: which pairs those are
(`context`, `interpret`) and what is computed there.
"""

import math

import torch
from torch import Tensor


def ravel(coordinates: list[Tensor], sizes: list[int]) -> Tensor:
    """Number the points of a grid, the last axis fastest.

    Args:
        coordinates: int64, one per axis; they broadcast together.
        sizes: The grid's length along each axis.

    Returns:
        int64 of the broadcast shape.
    """
    numbers = torch.zeros((), dtype=torch.int64, device=coordinates[0].device)
    for coordinate, size in zip(coordinates, sizes, strict=True):
        numbers = numbers * size + coordinate
    return numbers


class Points:
    """Distinct points of a grid, in ascending order.

    Attributes:
        grid: The length of b, h, i and j, whether or not these points vary along them.
        coordinates: int64 (count,) by axis.
        count: How many points there are; one if there are no axes.
        device: Where the coordinates are.
    """

    def __init__(self, grid: dict[str, int], coordinates: dict[str, Tensor], device: torch.device):
        """Hold points.

        Args:
            grid: The length of b, h, i and j.
            coordinates: int64 (count,) by axis, in the order of the grid.
            device: Where the coordinates are.
        """
        self.grid = grid
        self.coordinates = coordinates
        self.device = device
        self.count = len(next(iter(coordinates.values()))) if coordinates else 1
        self._coarser: dict[str, tuple[Points, Tensor]] = {}

    @classmethod
    def where(cls, mask: Tensor, axes: str, grid: dict[str, int]) -> "Points":
        """Return the points at which a mask holds.

        Args:
            mask: bool, one dimension per axis.
            axes: The axes of the mask, in the order of the grid.
            grid: The length of b, h, i and j.

        Returns:
            The points.
        """
        return cls(grid, dict(zip(axes, mask.nonzero(as_tuple=True), strict=True)), mask.device)

    @property
    def axes(self) -> str:
        """The axes the points vary along."""
        return "".join(self.coordinates)

    @property
    def shape(self) -> list[int]:
        """The grid's lengths along the axes of these points."""
        return [self.grid[axis] for axis in self.axes]

    @property
    def size(self) -> int:
        """How many points the grid of these axes has."""
        return math.prod(self.shape)

    @property
    def numbers(self) -> Tensor:
        """Each point's number in the grid of its axes, int64 (count,)."""
        if not self.coordinates:
            return torch.zeros(1, dtype=torch.int64, device=self.device)
        return ravel(list(self.coordinates.values()), self.shape)

    def onto(self, axes: str) -> tuple["Points", Tensor]:
        """Forget all but some axes.

        Args:
            axes: A subset of the axes of these points, in the same order.

        Returns:
            The distinct points along these axes, and for each of our points the place of its own
            in that list, int64 (count,).
        """
        if axes not in self._coarser:
            self._coarser[axes] = self._project(axes)
        return self._coarser[axes]

    def _project(self, axes: str) -> tuple["Points", Tensor]:
        if axes == self.axes:
            return self, torch.arange(self.count, device=self.device)
        kept = Points(self.grid, {axis: self.coordinates[axis] for axis in axes}, self.device)
        if not axes:
            return kept, torch.zeros(self.count, dtype=torch.int64, device=self.device)
        numbers = kept.numbers
        present = torch.zeros(kept.size, dtype=torch.bool, device=self.device)
        present[numbers] = True
        distinct = Points.where(present.view(kept.shape), axes, self.grid)
        return distinct, (present.cumsum(0) - 1)[numbers]

    def scatter(self, values: Tensor, fill: float | bool = 0) -> Tensor:
        """Spread a value per point over the whole grid of its axes.

        Args:
            values: (count,) or (count, channels).
            fill: What stands where there is no point.

        Returns:
            A dimension per axis, then channels if there are any.
        """
        tail = values.shape[1:]
        grid = values.new_full((self.size, *tail), fill)
        return grid.index_copy(0, self.numbers, values).view(*self.shape, *tail)
