"""A call whose tensors lie as those of an earlier one: all of its words are known but addresses.

A step of decoding makes such a call in every layer, and runs no longer than the Python around it.
Leaves to others: the first call of its kind, and calls that need more than their rows (`caller`).
"""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from regard.backends.cpu.caller import Caller
from regard.backends.cpu.kernel import Kernel
from regard.backends.cpu.module import Entry, Module
from regard.ir.bound import Bound

# Calls that a kernel remembers: each step of decoding has another length.
_MOST = 512


@dataclass(frozen=True)
class Again:
    """What is left of an earlier call.

    Attributes:
        entry: The function that was called.
        words: What it was called with.
        inputs: Where the address of each tensor of the call stands among them, by its name.
        output: Where the address of the output stands.
        shape: Of the output.
        dtype: Of the output.
    """

    entry: Entry
    words: ctypes.Array
    inputs: tuple[tuple[int, str], ...]
    output: int
    shape: torch.Size
    dtype: torch.dtype

    def run(self, tensors: dict[str, Tensor]) -> Tensor | None:
        """Call the function for other numbers.

        Args:
            tensors: The tensors of the call, by name.

        Returns:
            The output; None if the call has to be made as if it were the first.
        """
        words = type(self.words).from_buffer_copy(self.words)
        for place, name in self.inputs:
            words[place] = tensors[name].data_ptr()
        output = torch.empty(self.shape, dtype=self.dtype, device=tensors["q"].device)
        words[self.output] = output.data_ptr()
        return output if self.entry(words) == 0 else None


def key_of(kernel: Kernel, bound: Bound) -> tuple | None:
    """Return what calls of a kernel have in common that differ in addresses alone.

    Args:
        kernel: The compiled program.
        bound: The call.

    Returns:
        The key; None if the call has more than its tensors.
    """
    if not kernel.needs_output_alone or bound.seed is not None:
        return None
    if bound.query_lengths is not None or bound.key_lengths is not None:
        return None
    parts: list = [torch.get_num_threads(), bound.first_head]
    for name, tensor in bound.tensors.items():
        parts += name, tensor.shape, tensor.stride(), tensor.dtype
    return tuple(parts)


def remember(kernel: Kernel, caller: Caller, module: Module, output: Tensor) -> None:
    """Keep what the next call alike needs, if that is no more than its own rows.

    Args:
        kernel: The compiled program.
        caller: What made the call.
        module: The one sweep that ran.
        output: What it wrote last.
    """
    key = key_of(kernel, caller.bound)
    rows_alone = all(name for name, _ in module.sources)
    if key is None or caller.ran is None or caller.blocks is not None or not rows_alone:
        return
    if caller.unwritten:
        return
    layout, words = caller.ran
    names = [name for name, _ in module.sources]
    if len(kernel.again) >= _MOST:
        kernel.again.clear()
    kernel.again[key] = Again(
        layout.entry, words, tuple(zip(layout.places, names, strict=False)), layout.places[-1],
        output.shape, output.dtype,
    )  # fmt: skip
