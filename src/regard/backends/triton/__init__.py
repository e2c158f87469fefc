"""The GPU compiler: Triton kernels emitted from a program.

It runs on NVIDIA GPUs, and in Triton's interpreter on tensors of the CPU (TRITON_INTERPRET=1 before
anything imports Triton). Importing this folder imports no Triton. Leaves to others: which programs
are tried here first (`ops/plan`), the sweeps that kernels run (`backends/cpu`).
"""

from regard.backends.base import Facts, register
from regard.backends.cpu.backend import SweepBackend
from regard.backends.cpu.kernel import Kernel
from regard.backends.triton.caller import TritonCaller
from regard.backends.triton.facts import find_facts
from regard.backends.triton.kernel import TritonKernel
from regard.backends.triton.machine import why_not, why_not_on
from regard.ir.bound import Bound


class TritonBackend(SweepBackend):
    """Runs a program, and its derived gradient, in Triton kernels made for it."""

    name = "triton"
    make_kernel, make_caller = TritonKernel, TritonCaller

    def why_not(self, device: str) -> str | None:
        """Return why no kernel can run here on tensors of a device, or None if some can."""
        return why_not() or why_not_on(device)

    def facts(self, kernel: Kernel, bound: Bound) -> Facts:
        """Return how a call would run.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The facts, without what it costs.
        """
        return find_facts(kernel, bound)


if why_not() is None:
    register(TritonBackend())
