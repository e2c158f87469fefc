"""Programs whose weights are sums of products, by state: in time and memory linear in the keys.

Plain torch operations, on any device; on a CPU with a compiler, the most of them in C++. Leaves to
others: recognition (`passes/recognise_linear`), everything else (`forward`, `backward`).
"""

from torch import Tensor

from regard.backends.base import Facts, Request, register
from regard.backends.linear.backward import run_backward
from regard.backends.linear.forward import pack, run_forward
from regard.backends.linear.kernel import Kernel, compile_kernel
from regard.ir.bound import Bound
from regard.passes.recognise_linear import recognise_linear


class LinearBackend:
    """Runs linear attention by sums over keys, under no mask or j <= i."""

    name = "linear"
    differentiable = False

    def supports(self, request: Request) -> str | None:
        """Return None if the backend can run this, else the reason why not.

        Args:
            request: The kind of call.

        Returns:
            A reason, or None.
        """
        parts = recognise_linear(request.root, request.seeded)
        if isinstance(parts, str):
            return parts
        if request.observe:
            return "it keeps no weights, so it can observe nothing"
        if parts.causal and not request.plain_positions:
            return "a state is summed in the order of rows, and positions are moved"
        return None

    def compile(self, request: Request) -> Kernel:
        """Return the recognised program.

        Args:
            request: The kind of call.

        Returns:
            The kernel.
        """
        parts = recognise_linear(request.root, request.seeded)
        assert not isinstance(parts, str)
        return compile_kernel(request.root, parts, request.wanted)

    def forward(self, kernel: Kernel, bound: Bound) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Run the program.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The output, and what `backward` needs: the states before each part.
        """
        output, memories, sums = run_forward(kernel, bound)
        return {"output": output}, pack(memories, sums) if kernel.wanted else {}

    def backward(
        self, kernel: Kernel, bound: Bound, saved: dict[str, Tensor], grads: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run the gradient.

        Args:
            kernel: From `compile`.
            bound: The call.
            saved: From `forward`.
            grads: What the output receives.

        Returns:
            The gradients of the wanted tensors, by name.
        """
        return run_backward(kernel, bound, saved, grads["output"])

    def facts(self, kernel: Kernel, bound: Bound) -> Facts:
        """Return how a call would run.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The facts; what a state costs is not predicted.
        """
        sweeps = ["the state of all keys", "the output of each query, read from it"]
        if kernel.program.causal:
            sweeps = ["the output of each part, from the state before it, and the state behind it"]
        if kernel.wanted:
            sweeps.append("the gradient, the last part first")
        return Facts(sweeps=tuple(sweeps))


register(LinearBackend())
