"""What one call gives to a program: every tensor by name, checked and in standard shape.

`ops/check` makes it; the reference and the backends read it. Leaves to others: finding mistakes
in what the user gave.
"""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


# Not frozen, because each warm call makes two and a frozen one takes three times as long to make.
@dataclass(eq=False)
class Bound:
    """The inputs of one call; nobody changes one.

    Attributes:
        tensors: By name. Vectors (B, H or G, N or M, width), q, k and v among them; features
            (B or 1, H or G or 1, N or M); parameters and tables in the shape of their `per`;
            run-time scalars (); pair inputs (B or 1, H or 1, N, M).
        query_positions: int64 (B or 1, N), what `pair.i` reads.
        key_positions: int64 (B or 1, M), what `pair.j` reads.
        query_lengths: int64 (B,) or None; query rows from there on give 0.
        key_lengths: int64 (B,) or None; key rows from there on are as if absent.
        first_head: The number of this call's head 0 in the whole layer.
        total_heads: How many heads the whole layer has.
        seed: What random booleans are drawn from; None draws nothing: every `keep` is true.
    """

    tensors: dict[str, Tensor]
    query_positions: Tensor
    key_positions: Tensor
    query_lengths: Tensor | None = None
    key_lengths: Tensor | None = None
    first_head: int = 0
    total_heads: int = 0
    seed: int | None = None

    @property
    def q(self) -> Tensor:
        """The queries, (B, H, N, D)."""
        return self.tensors["q"]

    @property
    def batch(self) -> int:
        """B."""
        return self.q.shape[0]

    @property
    def heads(self) -> int:
        """H, the query heads of this call."""
        return self.q.shape[1]

    @property
    def groups(self) -> int:
        """G, the key heads of this call."""
        return self.tensors["k"].shape[1]

    @property
    def queries(self) -> int:
        """N."""
        return self.q.shape[2]

    @property
    def keys(self) -> int:
        """M."""
        return self.tensors["k"].shape[2]

    @cached_property
    def compute_dtype(self) -> torch.dtype:
        """float64 if q is float64, else float32: scores are never narrower."""
        return torch.float64 if self.q.dtype == torch.float64 else torch.float32

    def with_tensors(self, tensors: dict[str, Tensor]) -> "Bound":
        """Return the same call with some tensors replaced."""
        return self._with({**self.tensors, **tensors})

    def without(self, names: Collection[str]) -> "Bound":
        """Return the same call without some tensors, for who keeps those elsewhere."""
        return self._with(
            {name: tensor for name, tensor in self.tensors.items() if name not in names}
        )

    def _with(self, tensors: dict[str, Tensor]) -> "Bound":
        # Written out, because `replace` takes three times as long and every warm call pays for it.
        return Bound(
            tensors, self.query_positions, self.key_positions, self.query_lengths, self.key_lengths,
            self.first_head, self.total_heads, self.seed,
        )  # fmt: skip
