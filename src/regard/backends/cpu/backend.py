"""What backends that run a program as sweeps have in common; they differ in what writes them.

Leaves to others: the sweeps (`kernel`), running them (`forward`, `backward`), the machine (each
backend says where it runs).
"""

from abc import ABC, abstractmethod

from torch import Tensor

from regard.backends.base import Facts, Request
from regard.backends.cpu.backward import run_backward
from regard.backends.cpu.caller import Caller
from regard.backends.cpu.forward import run_forward
from regard.backends.cpu.kernel import Kernel, compile_kernel
from regard.errors import UnsupportedError
from regard.ir import nodes as n
from regard.ir.bound import Bound


class SweepBackend(ABC):
    """Runs a program, and its derived gradient, in fused kernels made for it.

    Attributes:
        name: What users call it.
        make_kernel: What a program is compiled to.
        make_caller: What calls its sweeps.
    """

    name: str
    differentiable = False
    make_kernel: type[Kernel] = Kernel
    make_caller: type[Caller] = Caller

    @abstractmethod
    def why_not(self, device: str) -> str | None:
        """Return why no kernel can run here on tensors of a device, or None if some can."""

    @abstractmethod
    def facts(self, kernel: Kernel, bound: Bound) -> Facts:
        """Return how a call would run, without running it."""

    def supports(self, request: Request) -> str | None:
        """Return None if the backend can run this, else the reason why not.

        Args:
            request: The kind of call.

        Returns:
            A reason, or None.
        """
        if "weights" in request.observe:
            return "its kernels never hold dense weights"
        if any(isinstance(node, n.Running) for node in n.walk(request.root)):
            return "a running sum over keys needs ordered keys, and its kernels take them in parts"
        reason = self.why_not(request.device)
        if reason is not None:
            return reason
        try:
            self.compile(request)
        except UnsupportedError as unsupported:
            return str(unsupported)
        return None

    def compile(self, request: Request) -> Kernel:
        """Return the program as sweeps.

        Args:
            request: The kind of call.

        Returns:
            The kernel; its sweeps are built when they are first called.

        Raises:
            UnsupportedError: If kernels cannot run the program.
        """
        return compile_kernel(request, self.make_kernel)

    def code(self, request: Request) -> str:
        """Return the code of a kind of call; that takes neither a compiler nor a device.

        Args:
            request: The kind of call.

        Returns:
            A file for each sweep of the output, or of the gradient if one is wanted.

        Raises:
            UnsupportedError: If kernels cannot run the program.
        """
        return self.compile(request).code()

    def forward(self, kernel: Kernel, bound: Bound) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the program.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The outputs by name, in computing dtype, and what `backward` needs.
        """
        return run_forward(kernel, bound, self.make_caller)

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
        return run_backward(kernel, bound, saved, grads, self.make_caller)
