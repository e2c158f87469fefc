"""What every part of one evaluation shares: the call's inputs, channel counts, existing pairs."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from regard.ir.bound import Bound
from regard.reference.points import Points
from regard.reference.widths import Widths


@dataclass(frozen=True, eq=False)
class Context:
    """One call.

    Attributes:
        bound: Its inputs.
        widths: How many channels each of its expressions has.
    """

    bound: Bound
    widths: Widths

    @property
    def grid(self) -> dict[str, int]:
        """The lengths B, H, N and M by axis."""
        bound = self.bound
        return {"b": bound.batch, "h": bound.heads, "i": bound.queries, "j": bound.keys}

    @property
    def dtype(self) -> torch.dtype:
        """What numbers without a wider dtype of their own are computed in."""
        return self.bound.compute_dtype

    @cached_property
    def rows(self) -> Tensor:
        """Which query rows exist, bool (B, H, N)."""
        return self._present("i", self.bound.query_lengths)

    @cached_property
    def keys(self) -> Tensor:
        """Which key rows exist, bool (B, H, M)."""
        return self._present("j", self.bound.key_lengths)

    @property
    def exists(self) -> Tensor:
        """Which pairs exist, bool (B, H, N, M)."""
        return self.rows[..., :, None] & self.keys[..., None, :]

    def points(self, mask: Tensor) -> Points:
        """Return the points of a mask over (B, H, N, M), or over (B, H, N).

        Args:
            mask: bool, three or four dimensions.

        Returns:
            Its points along b, h, i and, if it has four dimensions, j.
        """
        return Points.where(mask, "bhij"[: mask.ndim], self.grid)

    def key_points(self) -> Points:
        """Return the existing key rows as points along b, h and j."""
        return Points.where(self.keys, "bhj", self.grid)

    def as_float(self, value: Tensor) -> Tensor:
        """Return a number as a floating one, in the compute dtype unless it is floating already.

        Args:
            value: Any dtype.

        Returns:
            The same numbers.
        """
        return value if value.is_floating_point() else value.to(self.dtype)

    def _present(self, axis: str, lengths: Tensor | None) -> Tensor:
        grid = self.grid
        number = torch.arange(grid[axis], device=self.bound.q.device)
        shape = (grid["b"], grid["h"], grid[axis])
        if lengths is None:
            return torch.ones(shape, dtype=torch.bool, device=number.device)
        return (number < lengths[:, None, None]).expand(shape)
