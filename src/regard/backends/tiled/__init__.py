"""The portable backend: plain torch, tile by tile, on any device, in memory O(N · tile)."""

from torch import Tensor

from regard.backends.base import Facts, Request, register
from regard.backends.tiled.backward import run_backward
from regard.backends.tiled.facts import find_facts
from regard.backends.tiled.forward import Saved, run_forward
from regard.backends.tiled.kernel import Kernel, compile_kernel
from regard.ir.bound import Bound


class TiledBackend:
    """Runs a program by sweeps over tiles of pairs, and its derived gradient likewise."""

    name = "tiled"
    differentiable = False

    def supports(self, request: Request) -> str | None:
        """Return None if the backend can run this, else the reason why not.

        Args:
            request: The kind of call.

        Returns:
            A reason, or None.
        """
        return None

    def compile(self, request: Request) -> Kernel:
        """Return the program as sweeps.

        Args:
            request: The kind of call.

        Returns:
            The kernel.
        """
        return compile_kernel(request)

    def forward(self, kernel: Kernel, bound: Bound) -> tuple[dict[str, Tensor], Saved]:
        """Run the program.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The outputs by name, in computing dtype, and what `backward` needs.
        """
        return run_forward(kernel, bound)

    def backward(
        self, kernel: Kernel, bound: Bound, saved: Saved, grads: dict[str, Tensor]
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


register(TiledBackend())
