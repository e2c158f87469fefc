"""Adding up the gradients of a call's tensors, tile by tile, in a fixed order.

Leaves to others: the expressions (`passes/differentiate`), one tensor's layout (`layout`).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from regard.backends.values import layout
from regard.backends.values.evaluate import Evaluator
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.program import Leaf
from regard.passes.differentiate import Gradient


class Totals:
    """Collects the gradient of every wanted tensor, in the dtype it is computed with.

    Args:
        wanted: The names of the tensors whose gradient is asked for.
        bound: The call.
    """

    def __init__(self, wanted: Iterable[str], bound: Bound) -> None:
        self.bound, self.wanted = bound, tuple(wanted)
        self._by_name: dict[str, Tensor] = {}

    def of(self, name: str) -> Tensor:
        """Return the tensor that collects the gradient of a wanted one, to be added to."""
        found = self._by_name.get(name)
        if found is None:
            data = self.bound.tensors[name]
            dtype = torch.promote_types(data.dtype, self.bound.compute_dtype)
            found = torch.zeros(data.shape, dtype=dtype, device=data.device)
            self._by_name[name] = found
        return found

    def give(self, name: str, value: Tensor) -> None:
        """Add a gradient of the tensor's shape; the first is kept as it is and may be added to."""
        if name in self._by_name:
            self._by_name[name] += value
        else:
            self._by_name[name] = value

    def add(self, gradient: Gradient, at: Evaluator) -> None:
        """Add what the leaves receive in the evaluator's tile."""
        for leaf, value in gradient.dense.items():
            if isinstance(leaf, Leaf):
                total = self.of(leaf.name)
                layout.add_leaf(total, leaf, at.real(value), self.bound, at.tile)
            else:
                assert isinstance(leaf, n.Hole), leaf
        for array, parts in gradient.indexed.items():
            for indices, value in parts:
                places = [at(index) for index in indices]
                layout.scatter(self.of(array.name), array, places, at.real(value), self.bound)
        for array, nodes in gradient.outer.items():
            for node in nodes:
                layout.add_matrix(self.of(array.name), array, at(node), self.bound)

    def finished(self) -> dict[str, Tensor]:
        """Return the gradients by name, in the dtypes of the tensors."""
        found = {}
        for name in self.wanted:
            total, dtype = self.of(name), self.bound.tensors[name].dtype
            # Asking `to` for nothing takes as long as asking for something.
            found[name] = total if total.dtype == dtype else total.to(dtype)
        return found
