"""The inputs of a call as tensors on its device, which nobody waits for.

Leaves to others: which inputs there are (`passes/split_pairs`), where they lie (`arguments`).
"""

import torch
from torch import Tensor

from regard.backends.cpu.call import Values
from regard.ir import nodes as n
from regard.ir.random import keep_threshold
from regard.passes.split_pairs import Input

HALVES = (torch.float16, torch.bfloat16)


class DeviceValues(Values):
    """The inputs of a call; numbers that decide anything are left for the kernel to look at."""

    def _compute(self, item: Input) -> Tensor:
        value = super()._compute(item)
        if item.kind in ("query_row", "key_row") and self.bound.q.dtype in HALVES:
            # What is multiplied is as wide as q, or the matrix unit would not take it.
            return value.to(self.bound.q.dtype)
        return value

    def _threshold(self, node: n.Keep, kind: str) -> Tensor:
        # 2^32 drops everything: bits are compared as 64-bit numbers.
        least = keep_threshold(self.at.real(node.p))
        return least[:, :, 0] if kind == "key" else least[:, :, :, 0]

    def _checked(self, value: Tensor) -> Tensor:
        return value
