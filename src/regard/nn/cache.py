"""A key-value cache for decoding step by step.

Leaves to others: attention over what it holds (`attention`).
"""

import torch
from torch import Tensor

from regard.errors import InputError


class KeyValueCache:
    """Keys and values of the tokens seen so far, grown in place by doubling.

    Attributes:
        length: How many tokens are held.
    """

    def __init__(self) -> None:
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add tokens and return all of them.

        Args:
            keys: (B, G, new, D).
            values: (B, G, new, E).

        Returns:
            Keys (B, G, length, D) and values (B, G, length, E), views of the cache.

        Raises:
            InputError: If the shapes or dtypes differ from what is held, or a gradient is wanted.
        """
        if torch.is_grad_enabled() and (keys.requires_grad or values.requires_grad):
            raise InputError("a cache holds no gradients; decode under torch.no_grad()")
        self._keys = self._grown(self._keys, keys)
        self._values = self._grown(self._values, values)
        end = self.length + keys.shape[2]
        self._keys[:, :, self.length : end] = keys
        self._values[:, :, self.length : end] = values
        self.length = end
        return self.held()

    def held(self) -> tuple[Tensor, Tensor]:
        """Return keys (B, G, length, D) and values (B, G, length, E).

        Returns:
            Views of the cache.

        Raises:
            InputError: If nothing is held yet.
        """
        if self._keys is None or self._values is None:
            raise InputError("the cache is empty")
        return self._keys[:, :, : self.length], self._values[:, :, : self.length]

    def _grown(self, held: Tensor | None, new: Tensor) -> Tensor:
        needed = self.length + new.shape[2]
        if held is None:
            return new.new_zeros((*new.shape[:2], max(16, needed), new.shape[3]))
        same = (
            held.shape[:2] == new.shape[:2]
            and held.shape[3] == new.shape[3]
            and held.dtype == new.dtype
        )
        if not same:
            raise InputError(
                f"the cache holds {tuple(held.shape)} {held.dtype}; "
                f"new tokens are {tuple(new.shape)} {new.dtype}"
            )
        if held.shape[2] >= needed:
            return held
        larger = held.new_zeros((*held.shape[:2], max(needed, 2 * held.shape[2]), held.shape[3]))
        larger[:, :, : self.length] = held[:, :, : self.length]
        return larger

    def reorder(self, rows: Tensor) -> None:
        """Keep the given batch rows, in order (beam search).

        Args:
            rows: Integers (B',).
        """
        if self._keys is not None and self._values is not None:
            self._keys, self._values = self._keys[rows], self._values[rows]
