"""The CPU compiler: C++ kernels emitted from a program, built by the machine's compiler and kept.

Leaves to others: which programs are tried here first (`ops/plan`).
"""

from torch import Tensor

from regard.backends.base import Facts, register
from regard.backends.cpu.again import key_of
from regard.backends.cpu.backend import SweepBackend
from regard.backends.cpu.compiler import find_compiler
from regard.backends.cpu.facts import find_facts
from regard.backends.cpu.kernel import Kernel
from regard.ir.bound import Bound


class CpuBackend(SweepBackend):
    """Runs a program, and its derived gradient, in C++ kernels made for it."""

    name = "cpu"

    def why_not(self, device: str) -> str | None:
        """Return why no kernel can run here on tensors of a device, or None if some can."""
        if device != "cpu":
            return f"it makes kernels for CPUs, and q is on {device}"
        compiler = find_compiler()
        return compiler if isinstance(compiler, str) else None

    def forward(self, kernel: Kernel, bound: Bound) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the program, the short way if an earlier call lay as this one does.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The outputs by name, in computing dtype, and what `backward` needs.
        """
        known = kernel.again.get(key_of(kernel, bound))
        output = None if known is None else known.run(bound.tensors)
        return super().forward(kernel, bound) if output is None else ({"output": output}, {})

    def facts(self, kernel: Kernel, bound: Bound) -> Facts:
        """Return how a call would run.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The facts; its gradient counts if one is wanted.
        """
        return find_facts(kernel, bound)


register(CpuBackend())
