"""The reference interpreter as a backend: slow, dense, and by definition right.

Leaves to others: the meaning itself (`reference`).
"""

from torch import Tensor

from regard.backends.base import Facts, Request, register
from regard.ir.bound import Bound
from regard.reference.evaluate import evaluate


class ReferenceBackend:
    """Evaluates a program by the language's definition; torch's autograd gives the gradient."""

    name = "reference"
    differentiable = True

    def supports(self, request: Request) -> str | None:
        """Return None: the reference runs every program.

        Args:
            request: The kind of call.

        Returns:
            None.
        """
        return None

    def compile(self, request: Request) -> Request:
        """Return the request: there is nothing to prepare.

        Args:
            request: The kind of call.

        Returns:
            The same.
        """
        return request

    def forward(self, kernel: Request, bound: Bound) -> tuple[dict[str, Tensor], None]:
        """Evaluate the program.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The outputs by name, and nothing for backward.
        """
        return evaluate(kernel.written, bound, kernel.observe), None

    def backward(
        self, kernel: Request, bound: Bound, saved: None, grads: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Refuse: this is never called, because torch's autograd sees through `forward`."""
        raise AssertionError("torch's autograd differentiates this backend")

    def facts(self, kernel: Request, bound: Bound) -> Facts:
        """Return nothing: what defines the meaning is not meant to be fast."""
        return Facts()


register(ReferenceBackend())
