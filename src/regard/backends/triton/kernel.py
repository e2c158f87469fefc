"""What the Triton backend compiles: the sweeps of the cpu backend, as kernels for GPUs.

Leaves to others: the sweeps (`cpu/kernel`), their text (`module`).
"""

from functools import cached_property

from regard.backends.cpu.kernel import Kernel
from regard.backends.cpu.module import Module, Sweep
from regard.backends.cpu.rowsweep import RowSweep
from regard.backends.triton.module import TritonModule


class TritonKernel(Kernel):
    """A compiled program."""

    @cached_property
    def forward(self) -> list[Module[RowSweep]]:
        """The one sweep, or the two, that give the output; they find nothing else."""
        fused = self._fused()
        # What a table's rows are weighed with is added in memory, and cannot be scaled down there.
        parted = fused is None or fused.histograms
        found = self._parted() if parted or fused is None else [self._module(fused, "forward")]
        for module in found:
            module.sweep.listed, module.sweep.receives = 0, False
        return found

    @cached_property
    def decode(self) -> Module[RowSweep] | None:
        """No sweep of its own for few query rows: that of the output takes them too."""
        return None

    def _module(self, sweep: Sweep, what: str) -> Module[Sweep]:
        plain = super()._module(sweep, what)
        made = TritonModule(sweep, what, plain.name, plain.real, plain.formula)
        if not isinstance(sweep, RowSweep) or not sweep.listed:
            made.check()
        return made
