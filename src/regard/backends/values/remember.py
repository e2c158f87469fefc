"""What was made of tensors, kept for calls with the same ones or with the same numbers in them.

Leaves to others: what is made.
"""

import weakref
from collections.abc import Callable

import torch
from torch import Tensor

_MOST_ENTRIES, _MOST_BYTES = 256, 1 << 26


class Memory:
    """Tensors made of tensors; forgets all of them when they are many."""

    def __init__(self) -> None:
        self.entries: dict[tuple, tuple[list, Tensor]] = {}
        self.bytes = 0

    def clear(self) -> None:
        """Forget everything."""
        self.entries.clear()
        self.bytes = 0

    def of_same(
        self, key: tuple, tensors: tuple[Tensor, ...], make: Callable[[], Tensor]
    ) -> Tensor:
        """Return what was made of these very tensors before, or make it.

        Args:
            key: What it depends on besides.
            tensors: Kept weakly; one that was written to since is another.
            make: Makes it.

        Returns:
            What is made.
        """
        key = (key, *map(id, tensors))
        found = self.entries.get(key)
        if found is not None and _same(found[0], tensors):
            return found[1]
        made = make()
        # Writing to an inference tensor leaves no trace.
        if not any(tensor.is_inference() for tensor in tensors):
            seen = [(weakref.ref(tensor), tensor._version) for tensor in tensors]
            self._keep(key, seen, made, _size(made))
        return made

    def of_equal(
        self, key: tuple, tensors: tuple[Tensor, ...], make: Callable[[], Tensor]
    ) -> Tensor:
        """Return what was made of equal tensors the last time, or make it.

        Args:
            key: What it depends on besides.
            tensors: Compared by their numbers, so that nothing written to them is missed.
            make: Makes it.

        Returns:
            What is made.
        """
        found = self.entries.get(key)
        if found is not None and all(map(_equal, found[0], tensors)):
            return found[1]
        made = make()
        seen = [tensor.detach().clone() for tensor in tensors]
        self._keep(key, seen, made, sum(map(_size, seen), _size(made)))
        return made

    def _keep(self, key: tuple, seen: list, made: Tensor, size: int) -> None:
        if len(self.entries) >= _MOST_ENTRIES or self.bytes + size > _MOST_BYTES:
            self.clear()
        self.bytes += size
        self.entries[key] = seen, made


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _same(seen: list[tuple[weakref.ref, int]], tensors: tuple[Tensor, ...]) -> bool:
    """Tell whether tensors are those seen: an id is given again, and a tensor may be written to."""
    for (ref, version), tensor in zip(seen, tensors, strict=True):
        if ref() is not tensor or tensor._version != version:
            return False
    return True


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
