"""A call of a linear program, part by part, so that its numbers stay in the processor's cache.

Leaves to others: one part (`kernel`), gradients (`backward`).
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from regard.backends.linear.kernel import (
    Kernel,
    Memory,
    attend_causally,
    empty_memory,
    read_memory,
    remember_keys,
)
from regard.backends.linear.rows import Part, refuse_infinite
from regard.backends.linear.sums import CHUNK, Known, State, Sums, is_compiled
from regard.backends.values.layout import Tile
from regard.ir.bound import Bound

# Numbers of a part's rows of one kind, and its fewest rows: each part keeps a state for backward.
_NUMBERS, _FEWEST = 1 << 19, 4 * CHUNK


def part_size(bound: Bound) -> int:
    """Return how many rows a part has.

    Args:
        bound: The call.

    Returns:
        A multiple of a chunk.
    """
    width = max(bound.q.shape[-1], bound.tensors["v"].shape[-1], 1)
    rows = _NUMBERS // max(1, bound.batch * bound.heads * width)
    return max(_FEWEST, rows // CHUNK * CHUNK)


def spans(count: int, size: int) -> list[tuple[int, int]]:
    """Return ranges of rows, in order.

    Args:
        count: How many rows.
        size: The most of a range.

    Returns:
        First rows, and rows after the last.
    """
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def causal_tiles(bound: Bound) -> list[Tile]:
    """Return the parts of a causal call: as many keys as queries, where there are.

    Args:
        bound: The call.

    Returns:
        The tiles, in order.
    """
    size, keys = part_size(bound), bound.keys
    return [Tile(a, b, min(a, keys), min(b, keys)) for a, b in spans(bound.queries, size)]


def query_tiles(bound: Bound) -> list[Tile]:
    """Return the parts of a call's queries."""
    return [Tile(a, b, 0, 0) for a, b in spans(bound.queries, part_size(bound))]


def key_tiles(bound: Bound) -> list[Tile]:
    """Return the parts of a call's keys."""
    return [Tile(0, 0, a, b) for a, b in spans(bound.keys, part_size(bound))]


def checked_part(kernel: Kernel, bound: Bound, tile: Tile) -> Part:
    """Return a part, whose rows are finite if some pairs are hidden.

    Args:
        kernel: The program.
        bound: The call.
        tile: The part's rows.

    Returns:
        The part.

    Raises:
        Declined: If a vector or feature holds NaN or infinity.
    """
    program, part = kernel.program, kernel.part(bound, tile)
    hides = program.causal or program.keys is not None or program.queries is not None
    if hides or bound.key_lengths is not None or bound.query_lengths is not None:
        refuse_infinite(part)
    return part


def run_forward(kernel: Kernel, bound: Bound) -> tuple[Tensor, list[Memory], list[list[Sums]]]:
    """Run a call.

    Args:
        kernel: The program.
        bound: The call.

    Returns:
        The output (B, H, N, E); the memory before each part, or, if the program is not causal, that
        of all keys; and each part's sums where a gradient needs not compute them again.

    Raises:
        Declined: If the call's numbers cannot be carried by a state.
    """
    none = kernel.part(bound, Tile(0, 0, 0, 0))
    memory = empty_memory(kernel, none)
    memories, whole = [memory], read_memory(kernel, none, memory)
    if bound.queries:
        whole = whole.new_empty((*whole.shape[:2], bound.queries, whole.shape[3]))
    if kernel.program.causal:
        found = []
        for tile, output, after, sums in _causal_parts(kernel, bound, memory):
            whole[:, :, tile.i0 : tile.i1] = output
            memories.append(after)
            if kernel.wanted and _compiled(bound, memory):
                found.append(sums)
        return whole, memories[:-1], found
    for tile in key_tiles(bound):
        memory = remember_keys(kernel, checked_part(kernel, bound, tile), memory)
    for tile in query_tiles(bound):
        part = checked_part(kernel, bound, tile)
        whole[:, :, tile.i0 : tile.i1] = read_memory(kernel, part, memory)
    return whole, [memory], []


def _compiled(bound: Bound, memory: Memory) -> bool:
    """Tell whether the sums of every part but the last, which may be short, are compiled."""
    return all(is_compiled(bound.q, state) for state in memory.states)


def continue_causally(kernel: Kernel, bound: Bound, memory: Memory) -> tuple[Tensor, Memory]:
    """Run a causal call behind keys that a memory holds; torch's autograd can differentiate it.

    Args:
        kernel: The program.
        bound: The call.
        memory: The memory.

    Returns:
        The output, and the memory after the call's keys.

    Raises:
        Declined: If the call's numbers cannot be carried by a state.
    """
    outputs = []
    for _, output, after, _ in _causal_parts(kernel, bound, memory):
        outputs.append(output)
        memory = after
    if not outputs:
        outputs.append(read_memory(kernel, kernel.part(bound, Tile(0, 0, 0, 0)), memory))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, 2), memory


def _causal_parts(
    kernel: Kernel, bound: Bound, memory: Memory
) -> Iterator[tuple[Tile, Tensor, Memory, list[Sums]]]:
    """Yield the rows of each part, their output, the memory after them, and their sums."""
    for tile in causal_tiles(bound):
        part = checked_part(kernel, bound, tile)
        output, memory, sums = attend_causally(kernel, part, memory)
        yield tile, output, memory, sums


_PARTS = ("sums", "totals", "largest")


def pack(memories: list[Memory], sums: list[list[Sums]]) -> dict[str, Tensor]:
    """Return memories, and each part's sums, as tensors by name."""
    found = {"seen": torch.stack([memory.seen for memory in memories])} if memories else {}
    for number, states in enumerate(zip(*(memory.states for memory in memories), strict=True)):
        for name in _PARTS:
            held = [getattr(state, name) for state in states]
            if held[0] is not None:
                found[f"{name} {number}"] = torch.stack(held)
    for at, groups in enumerate(sums):
        for number, one in enumerate(groups):
            found[f"values {at} {number}"] = one.values
            if one.totals is not None:
                found[f"row totals {at} {number}"] = one.totals
    return found


def unpack_sums(saved: dict[str, Tensor], at: int) -> list[Known]:
    """Return what a part's sums came to, if that was packed; nothing reads the last one's state."""
    last = at + 1 == len(saved["seen"])
    after = unpack(saved, at if last else at + 1).states
    return [
        Known(saved[f"values {at} {number}"], saved.get(f"row totals {at} {number}"), state)
        for number, state in enumerate(after)
        if f"values {at} {number}" in saved
    ]


def unpack(saved: dict[str, Tensor], at: int) -> Memory:
    """Return one of the memories that were packed."""
    states = []
    for number in range(sum(name.startswith("sums") for name in saved)):
        held = (saved.get(f"{name} {number}") for name in _PARTS)
        sums, *rest = (None if one is None else one[at] for one in held)
        assert sums is not None
        states.append(State(sums, *rest))
    return Memory(tuple(states), saved["seen"][at])
