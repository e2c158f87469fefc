"""The gradient of a linear program, part by part and last part first.

Each part is run again under torch's autograd, from the state that forward kept, so that memory
holds the graph of one part alone. Leaves to others: running a part (`kernel`).
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from regard.backends.linear.forward import (
    causal_tiles,
    key_tiles,
    query_tiles,
    unpack,
    unpack_sums,
)
from regard.backends.linear.kernel import (
    Kernel,
    Memory,
    attend_causally,
    read_memory,
    remember_keys,
)
from regard.backends.linear.rows import Part, RowLeaf
from regard.backends.linear.sums import State
from regard.backends.values.layout import Tile, widen
from regard.ir.bound import Bound


class _Gradients:
    """Collects the gradients of a call.

    Args:
        kernel: The program.
        bound: The call.
    """

    def __init__(self, kernel: Kernel, bound: Bound) -> None:
        self.kernel, self.bound = kernel, bound
        rows = {leaf.name for leaf in kernel.leaves}
        self.whole = {
            name: widen(bound.tensors[name], bound).detach().requires_grad_()
            for name in sorted(kernel.wanted - rows)
        }
        self.widened = bound.with_tensors(self.whole)
        self.totals = {
            name: torch.zeros_like(self.whole[name]) if name in self.whole else self._room(name)
            for name in kernel.wanted
        }

    def _room(self, name: str) -> Tensor:
        """Return room for the rows of a leaf, each of which its own part fills, but a lone one."""
        data = self.bound.tensors[name]
        room = torch.empty_like(widen(data, self.bound))
        if data.shape[2] == 1:
            return room.zero_()
        if self.kernel.program.causal:
            # Keys behind the last query belong to no part.
            room[:, :, self.bound.queries :] = 0
        return room if self.bound.queries else room.zero_()

    def _fill(self, part: Part, leaf: RowLeaf, grad: Tensor | None) -> None:
        rows = self.totals[leaf.name][:, :, part.rows_of(leaf)]
        if self.bound.tensors[leaf.name].shape[2] == 1:
            rows += 0 if grad is None else grad
        elif grad is None:
            rows.zero_()
        else:
            rows.copy_(grad)

    def part(self, tile: Tile) -> Part:
        """Return a part whose wanted leaves are leaves of torch's graph too."""
        empty = {"query": tile.i0 == tile.i1, "key": tile.j0 == tile.j1}
        part = self.kernel.part(self.widened, tile)
        for leaf in self.kernel.leaves:
            if leaf.name in self.kernel.wanted and not empty[leaf.side]:
                data = self.bound.tensors[leaf.name][:, :, part.rows_of(leaf)]
                part.rows[leaf] = widen(data, self.bound).detach().requires_grad_()
        return part

    def add(
        self, part: Part, states: list[Tensor], results: list[Tensor], received: list[Tensor]
    ) -> list[Tensor]:
        """Add what a part's leaves receive, and return what the states before it do."""
        leaves: list[RowLeaf] = list(part.rows)
        inputs = [*part.rows.values(), *self.whole.values(), *states]
        rooted = [(one, grad) for one, grad in zip(results, received, strict=True) if _has(one)]
        if not rooted or not inputs:
            for leaf in leaves:
                self._fill(part, leaf, None)
            return [torch.zeros_like(state) for state in states]
        found = torch.autograd.grad(
            [one for one, _ in rooted], inputs, [grad for _, grad in rooted], allow_unused=True
        )
        for leaf, grad in zip(leaves, found, strict=False):
            self._fill(part, leaf, grad)
        for name, grad in zip(self.whole, found[len(leaves) :], strict=False):
            if grad is not None:
                self.totals[name] += grad
        before = found[len(leaves) + len(self.whole) :]
        return [
            torch.zeros_like(state) if grad is None else grad
            for state, grad in zip(states, before, strict=True)
        ]

    def finished(self) -> dict[str, Tensor]:
        """Return the gradients by name, in the dtypes of the tensors."""
        tensors = self.bound.tensors
        return {name: total.to(tensors[name].dtype) for name, total in self.totals.items()}


def _has(result: Tensor) -> bool:
    return result.requires_grad


def run_backward(
    kernel: Kernel, bound: Bound, saved: dict[str, Tensor], grad: Tensor
) -> dict[str, Tensor]:
    """Return the gradients of a call.

    Args:
        kernel: The program.
        bound: The call.
        saved: The memories of `run_forward`, packed.
        grad: What the output receives.

    Returns:
        The gradients of the wanted tensors, by name.
    """
    found = _Gradients(kernel, bound)
    if bound.queries:
        with torch.enable_grad():
            run = _of_causal if kernel.program.causal else _of_all
            run(found, saved, grad.to(bound.compute_dtype))
    return found.finished()


def _recorded(memory: Memory) -> tuple[Memory, list[Tensor]]:
    """Return a memory whose sums are leaves of torch's graph, and these."""
    fresh = tuple(
        _mapped(state, lambda one: one.detach().requires_grad_()) for state in memory.states
    )
    memory = replace(memory, states=fresh)
    return memory, _sums(memory)


def _mapped(state: State, change: Callable[[Tensor], Tensor]) -> State:
    totals = None if state.totals is None else change(state.totals)
    return replace(state, sums=change(state.sums), totals=totals)


def _sums(memory: Memory) -> list[Tensor]:
    found = [one for state in memory.states for one in (state.sums, state.totals)]
    return [one for one in found if one is not None]


def _of_causal(found: _Gradients, saved: dict[str, Tensor], grad: Tensor) -> None:
    tiles = causal_tiles(found.bound)
    carried: list[Tensor] = []
    for number in reversed(range(len(tiles))):
        tile, part = tiles[number], found.part(tiles[number])
        before, states = _recorded(unpack(saved, number))
        known = unpack_sums(saved, number)
        output, after, _ = attend_causally(found.kernel, part, before, known)
        results, received = [output], [grad[:, :, tile.i0 : tile.i1]]
        # Nothing reads what the last part leaves behind.
        if carried:
            results, received = [*results, *_sums(after)], [*received, *carried]
        carried = found.add(part, states, results, received)


def _of_all(found: _Gradients, saved: dict[str, Tensor], grad: Tensor) -> None:
    memory, states = _recorded(unpack(saved, 0))
    carried = [torch.zeros_like(state) for state in states]
    for tile in query_tiles(found.bound):
        part = found.part(tile)
        output = read_memory(found.kernel, part, memory)
        received = found.add(part, states, [output], [grad[:, :, tile.i0 : tile.i1]])
        carried = [total + one for total, one in zip(carried, received, strict=True)]
    empty = replace(memory, states=tuple(_mapped(one, torch.zeros_like) for one in memory.states))
    # What each part adds is taken relative to the largest exponent of all keys, as forward left it.
    for tile in key_tiles(found.bound):
        part = found.part(tile)
        found.add(part, [], _sums(remember_keys(found.kernel, part, empty)), carried)
