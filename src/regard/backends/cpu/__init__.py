"""The CPU compiler: C++ kernels emitted from a program, built by the machine's compiler and kept.

Leaves to others: which programs are tried here first (`ops/plan`).
"""

from torch import Tensor

from regard.backends.base import Facts, Request, register
from regard.backends.cpu.again import key_of
from regard.backends.cpu.backward import run_backward
from regard.backends.cpu.compiler import find_compiler
from regard.backends.cpu.facts import find_facts
from regard.backends.cpu.forward import run_forward
from regard.backends.cpu.kernel import Kernel, compile_kernel
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.bound import Bound


class CpuBackend:
    """Runs a program, and its derived gradient, in fused kernels made for it."""

    name = "cpu"
    differentiable = False

    def supports(self, request: Request) -> str | None:
        """Return None if the backend can run this, else the reason why not.

        Args:
            request: The kind of call.

        Returns:
            A reason, or None.
        """
        if request.device != "cpu":
            return f"it makes kernels for CPUs, and q is on {request.device}"
        if "weights" in request.observe:
            return "its kernels never hold dense weights"
        if any(isinstance(node, n.Running) for node in n.walk(request.root)):
            return "a running sum over keys needs ordered keys, and its kernels take them in parts"
        compiler = find_compiler()
        if isinstance(compiler, str):
            return compiler
        try:
            compile_kernel(request)
        except UnsupportedError as reason:
            return str(reason)
        return None

    def compile(self, request: Request) -> Kernel:
        """Return the program as sweeps.

        Args:
            request: The kind of call.

        Returns:
            The kernel; its libraries are built when they are first called.
        """
        return compile_kernel(request)

    def code(self, request: Request) -> str:
        """Return the C++ of a kind of call; that takes no compiler.

        Args:
            request: The kind of call.

        Returns:
            A file for each sweep of the output, or of the gradient if one is wanted.

        Raises:
            UnsupportedError: If kernels cannot run the program.
        """
        return compile_kernel(request).code()

    def forward(self, kernel: Kernel, bound: Bound) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the program.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The outputs by name, in computing dtype, and what `backward` needs.
        """
        known = kernel.again.get(key_of(kernel, bound))
        output = None if known is None else known.run(bound.tensors)
        return run_forward(kernel, bound) if output is None else ({"output": output}, {})

    def backward(
        self, kernel: Kernel, bound: Bound, saved: dict[str, Tensor], grads: dict[str, Tensor]
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
        return run_backward(kernel, bound, saved, grads)

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
