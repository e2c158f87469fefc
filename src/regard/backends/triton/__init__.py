"""The GPU compiler: Triton kernels emitted from a program.

It runs on NVIDIA GPUs, and in Triton's interpreter on tensors of the CPU (TRITON_INTERPRET=1 before
anything imports Triton). Importing this folder imports no Triton. Leaves to others: which programs
are tried here first (`ops/plan`), the sweeps that kernels run (`backends/cpu`).
"""

from torch import Tensor

from regard.backends.base import Facts, Request, register
from regard.backends.cpu.backward import run_backward
from regard.backends.cpu.forward import run_forward
from regard.backends.triton.caller import TritonCaller
from regard.backends.triton.facts import find_facts
from regard.backends.triton.kernel import TritonKernel, compile_triton
from regard.backends.triton.machine import why_not, why_not_on
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.bound import Bound


class TritonBackend:
    """Runs a program, and its derived gradient, in fused kernels made for it."""

    name = "triton"
    differentiable = False

    def supports(self, request: Request) -> str | None:
        """Return None if the backend can run this, else the reason why not.

        Args:
            request: The kind of call.

        Returns:
            A reason, or None.
        """
        reason = why_not() or why_not_on(request.device)
        if reason is not None:
            return reason
        if "weights" in request.observe:
            return "its kernels never hold dense weights"
        if any(isinstance(node, n.Running) for node in n.walk(request.root)):
            return "a running sum over keys needs ordered keys, and its kernels take them in parts"
        try:
            compile_triton(request)
        except UnsupportedError as unsupported:
            return str(unsupported)
        return None

    def compile(self, request: Request) -> TritonKernel:
        """Return the program as sweeps.

        Args:
            request: The kind of call.

        Returns:
            The kernel; it is compiled for the device when it is first called.
        """
        return compile_triton(request)

    def code(self, request: Request) -> str:
        """Return the Triton of a kind of call; that takes neither Triton nor a GPU.

        Args:
            request: The kind of call.

        Returns:
            A file for each sweep of the output, or of the gradient if one is wanted.

        Raises:
            UnsupportedError: If kernels cannot run the program.
        """
        return compile_triton(request).code()

    def forward(
        self, kernel: TritonKernel, bound: Bound
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the program.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The outputs by name, in computing dtype, and what `backward` needs.
        """
        return run_forward(kernel, bound, TritonCaller)

    def backward(
        self,
        kernel: TritonKernel,
        bound: Bound,
        saved: dict[str, Tensor],
        grads: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """Run the derived gradient.

        Args:
            kernel: From `compile`.
            bound: The call.
            saved: From `forward`.
            grads: What each output receives, by name.

        Returns:
            The gradients of the wanted tensors, by name.
        """
        return run_backward(kernel, bound, saved, grads, TritonCaller)

    def facts(self, kernel: TritonKernel, bound: Bound) -> Facts:
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
