"""Calls of a kernel's sweeps on one call's tensors.

Leaves to others: which sweeps run (`forward`, `backward`), how tensors are described (`call`).
"""

import ctypes
from collections.abc import Container, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from regard.backends.base import Declined
from regard.backends.cpu.call import (
    FIELDS,
    SIZES,
    Values,
    describe,
    describe_result,
    kind_of,
    lay_out,
)
from regard.backends.cpu.kernel import Kernel
from regard.backends.cpu.keysweep import KeySweep
from regard.backends.cpu.matrix import matrix_defines
from regard.backends.cpu.module import (
    KEY_BLOCK,
    KEY_STEP,
    QUERY_BLOCK,
    QUERY_STEP,
    WHOLE,
    Layout,
    Module,
)
from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.cpu.slots import place_kind
from regard.backends.values.blocks import classify_blocks
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.passes.split_pairs import Input

# A call of fewer multiplications than this is over before other threads have woken up.
_SERIAL_MULTIPLICATIONS = 1 << 20
# Tasks of a gradient, whatever its threads: enough for any machine, few enough to add up.
_LEAST_TASKS = 8
# Tasks of a decoding call, whatever its threads.
_DECODING_TASKS = 64
# Tasks of a call in which keys receive, whatever its threads.
_RECEIVING_TASKS = 64
# Layouts that a sweep remembers: training sees many lengths.
_MOST_LAYOUTS = 512
# What a block of pairs is: `Block` in template/call.h.
_FULL, _MIXED = 1, 2
# What a call returns: `Status` in template/call.h.
_DONE, _NOT_FINITE = 0, 1


class Caller:
    """Calls kernels on one call's tensors.

    Args:
        kernel: The compiled program.
        bound: The call.
        holes: Row values known beforehand.
        conditions: When each term sees a pair; as the kernel says unless given.

    Attributes:
        make_values: What finds the inputs of a call as tensors.
    """

    make_values: type[Values] = Values

    def __init__(
        self,
        kernel: Kernel,
        bound: Bound,
        holes: dict[str, Tensor],
        conditions: tuple[n.Node | None, ...] | None = None,
    ) -> None:
        self.kernel, self.bound = kernel, bound
        self.values = self.make_values(bound, holes)
        b, h, rows, _ = bound.q.shape
        _, groups, keys, _ = bound.tensors["v"].shape
        self.sizes = b, h, groups, rows, keys
        self.conditions = kernel.conditions if conditions is None else conditions
        # How the last call was laid out and what it was called with.
        self.ran: tuple[Layout, ctypes.Array] | None = None
        # Whether a result may stay as it was: rows that do not exist are not written.
        self.unwritten = bound.query_lengths is not None or not keys

    def run(self, module: Module, results: Sequence[Tensor | None], chunks: int = 1) -> None:
        """Run one sweep.

        Args:
            module: The sweep.
            results: Where its results go; None for what nobody wants.
            chunks: How many parts the keys are cut into, where a sweep does.

        Raises:
            Declined: If a row holds NaN or infinity, or if memory runs out.
            Failed: If the sweep cannot be built here.
        """
        given, computed = self.bound.tensors, self.values.tensor
        tensors = [given[name] if name else computed(item) for name, item in module.sources]
        layout = self._layout(module, tensors, results, chunks)
        words = type(layout.words).from_buffer_copy(layout.words)
        words[SIZES:FIELDS] = self._fields()
        for place, tensor in zip(layout.places, [*tensors, *results], strict=True):
            if tensor is not None:
                words[place] = tensor.data_ptr()
        status = layout.entry(words)
        self.ran = layout, words
        if status == _NOT_FINITE:
            raise Declined("a row holds NaN or infinity, which products would let through")
        if status != _DONE:
            raise Declined("a kernel got no memory for its blocks")

    def _layout(
        self, module: Module, tensors: list[Tensor], results: Sequence[Tensor | None], chunks: int
    ) -> Layout:
        """Return how the call's tensors lie; known at once if others lay so before.

        Results are made for the call, so that their shapes tell how they lie: those of chosen keys
        are as wide as the data say.
        """
        shapes = (None if result is None else result.shape for result in results)
        parts: list[Any] = [*self.sizes, chunks, *shapes]
        for tensor in tensors:
            parts += tensor.shape, tensor.stride(), tensor.dtype
        key = tuple(parts)
        found = module.layouts.get(key)
        if found is None:
            narrow = self.kernel.dtype != torch.float64
            if narrow and any(tensor.dtype == torch.float64 for tensor in tensors):
                raise Declined("an input is float64 and q is not")
            inputs = list(zip(module.inputs, tensors, strict=True))
            kinds = tuple(kind_of(t, item) for item, t in inputs)
            entry = module.entry(kinds, module.unit([t.dtype for t in tensors]))
            heads = self.bound.heads
            described = [describe(item, t, heads) for item, t in inputs]
            ends = [
                describe_result(tensor, chunked and chunks > 1, heads)
                for tensor, chunked in zip(results, module.chunked, strict=True)
            ]
            found = lay_out(entry, [*self.sizes, chunks], described, ends)
            if len(module.layouts) >= _MOST_LAYOUTS:
                module.layouts.clear()
            module.layouts[key] = found
        return found

    @staticmethod
    def multiplies(dtype: torch.dtype) -> bool:
        """Tell whether rows stored in a dtype are multiplied as they are, by a matrix unit."""
        return dtype == torch.bfloat16 and bool(matrix_defines())

    def receive(self, module: Module[KeySweep]) -> list[Tensor]:
        """Run an adjoint sweep.

        Args:
            module: The sweep.

        Returns:
            What each of its receivers receives, (B, H or G, …).
        """
        blocks = -(-self.bound.keys // KEY_BLOCK)
        chunks = max(1, min(blocks, -(-_LEAST_TASKS // (self.bound.batch * self.bound.groups))))
        received = [self._receiver(item, chunks) for item in module.receivers]
        self.run(module, received, chunks)
        return [
            found if chunks == 1 or item.kind in WHOLE else found.sum(0)
            for item, found in zip(module.receivers, received, strict=True)
        ]

    def _receiver(self, item: Input, chunks: int) -> Tensor:
        """Return a tensor for what an input receives: (B, H or G, …), behind chunks if several."""
        bound, dtype = self.bound, self.kernel.dtype
        b, h, groups, rows, keys = self.sizes
        each = (b, h) if chunks == 1 else (chunks, b, h)
        value, place = self.values.tensor(item), place_kind(item)
        channels = value.shape[-1]
        if place in ("query_row", "key_row"):
            # Whole vectors are written.
            channels = -(-channels // self.kernel.lanes) * self.kernel.lanes
        match place:
            case "query_row":
                return torch.empty((*each, rows, channels), dtype=dtype)
            case "key_row":
                heads = groups if isinstance(item.node, n.Vector) else h
                make = torch.empty if bound.key_lengths is None and rows else torch.zeros
                return make((b, heads, keys, channels), dtype=dtype)
            case "pair":
                return torch.zeros((b, h, rows, keys), dtype=dtype)
            case "key":
                return torch.zeros((b, h, keys), dtype=dtype)
            case "query_table":
                return torch.zeros((*each, rows, channels), dtype=dtype)
            case "key_table":
                return torch.zeros((b, h, keys, channels), dtype=dtype)
            case "table":
                return torch.zeros((*each, value[0].numel()), dtype=dtype)
        size = {"query": rows, "number": 1, "channels": channels, "diagonal": channels}[place]
        return torch.zeros((*each, size), dtype=dtype)

    @cached_property
    def blocks(self) -> Tensor | None:
        """What each block of pairs is, if blocks are told apart."""
        if not self.conditions or is_one_block(self.bound):
            return None
        return joint_blocks(self.conditions, self.bound)

    def _fields(self) -> list[int]:
        """Return the words of `Call` between its sizes and its pointers."""
        bound, blocks = self.bound, self.blocks
        otherwise = _MIXED if self.conditions else _FULL
        threads = 1 if is_serial(bound) else torch.get_num_threads()
        queries_at = 0 if bound.query_lengths is None else bound.query_lengths.data_ptr()
        keys_at = 0 if bound.key_lengths is None else bound.key_lengths.data_ptr()
        place, by_batch, by_head = 0, 0, 0
        if blocks is not None:
            place = blocks.data_ptr()
            by_batch = blocks.stride(0) if blocks.shape[0] > 1 else 0
            by_head = blocks.stride(1) if blocks.shape[1] > 1 else 0
        seed = (bound.seed or 0) & 0xFFFFFFFFFFFFFFFF
        seed = seed - (1 << 64) if seed >= 1 << 63 else seed
        return [
            threads, bound.first_head, seed, queries_at, keys_at, place, otherwise, by_batch,
            by_head,
        ]  # fmt: skip

    def decoding_chunks(self) -> int:
        """Return into how many parts the keys are cut when query rows are few."""
        b, _, groups, _, keys = self.sizes
        return max(1, min(-(-keys // KEY_BLOCK), -(-_DECODING_TASKS // (b * groups))))

    def receiving_chunks(self) -> int:
        """Return into how many parts the queries are cut when each adds to what keys receive."""
        b, h, _, queries, _ = self.sizes
        return max(1, min(-(-queries // QUERY_BLOCK), -(-_RECEIVING_TASKS // (b * h))))

    def rows(self, *channels: int) -> Tensor:
        """Return a tensor for rows of results, (B, H, N, *channels); those not written are 0."""
        b, h, _, rows, _ = self.sizes
        make = torch.zeros if self.unwritten else torch.empty
        return make((b, h, rows, *channels), dtype=self.kernel.dtype, device=self.bound.q.device)

    def row_results(self, module: Module[RowSweep], read: Container[str]) -> dict[str, Tensor]:
        """Return tensors (B, H, N, 1, 1) for the row values of a sweep that are read, by name."""
        return {name: self.rows(1, 1) for name in module.row_results if name in read}


def joint_blocks(conditions: tuple[n.Node | None, ...], bound: Bound) -> Tensor:
    """Return what blocks all terms together see: full if all see them fully.

    Args:
        conditions: When each term sees a pair.
        bound: The call.

    Returns:
        int8 (B or 1, H or 1, steps of queries, steps of keys), as `classify_blocks`.
    """
    found = None
    for condition in conditions:
        one = classify_blocks(condition, bound, QUERY_STEP, KEY_STEP)
        found = one if found is None else torch.where(found == one, one, _MIXED)
    assert found is not None
    return found.to(torch.int8).contiguous()


def is_one_block(bound: Bound) -> bool:
    """Tell whether a call is so small that its blocks are not told apart.

    Args:
        bound: The call.

    Returns:
        Whether all of its pairs are taken for a mixed block.
    """
    return bound.queries <= QUERY_BLOCK and bound.keys <= KEY_STEP


def is_serial(bound: Bound) -> bool:
    """Tell whether a call is too little work for more than one thread.

    Args:
        bound: The call.

    Returns:
        Whether one thread runs it.
    """
    b, h, rows, width = bound.q.shape
    _, _, keys, value_width = bound.tensors["v"].shape
    return b * h * rows * keys * (width + value_width) < _SERIAL_MULTIPLICATIONS
