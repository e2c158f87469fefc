"""Programs that torch's FlexAttention can say: one softmax over a score_mod of dot(q, k).

torch compiles it for GPUs; on a CPU it would hold dense scores. Where no call was measured, our own
kernels come before it (`ops/plan`). Leaves to others: writing the functions (`write`), the blocks
(`block_mask`).
"""

import torch
from torch import Tensor

from regard.backends.base import Declined, Facts, Failed, Request, register
from regard.backends.flex.block_mask import make_block_mask
from regard.backends.flex.kernel import FlexKernel
from regard.backends.flex.write import why_not_flex
from regard.backends.values.finite import all_finite
from regard.ir import nodes as n
from regard.ir.bound import Bound


class FlexBackend:
    """Calls compiled FlexAttention where it has the program's meaning.

    Attributes:
        device: The type of the device it runs on.
    """

    name = "flex"
    differentiable = True
    device = "cuda"

    def supports(self, request: Request) -> str | None:
        """Return None if FlexAttention computes this, else the reason why not.

        Args:
            request: The kind of call.

        Returns:
            A reason, or None.
        """
        if request.device != self.device:
            return f"torch compiles FlexAttention for {self.device}, and q is on {request.device}"
        if request.observe:
            return "FlexAttention returns nothing that is observed"
        reason = why_not_flex(request.root)
        if reason is not None:
            return reason
        if request.lengths or not request.plain_positions:
            return "FlexAttention counts rows from 0 and takes no lengths"
        learned = request.wanted - {"q", "k", "v"}
        if learned:
            return f"gradients of what functions hold ({', '.join(sorted(learned))}) are not asked"
        shared = request.heads // request.groups
        if shared & (shared - 1) or not request.queries or not request.keys:
            return f"FlexAttention shares no key heads among {shared} heads, and wants rows"
        return None

    def compile(self, request: Request) -> FlexKernel:
        """Return what the functions are written from.

        Args:
            request: The kind of call.

        Returns:
            The kernel; torch compiles it when it is first called.
        """
        assert isinstance(request.root.weights, n.Softmax)
        return FlexKernel(request, request.root.weights)

    def forward(self, kernel: FlexKernel, bound: Bound) -> tuple[dict[str, Tensor], None]:
        """Run FlexAttention.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The output, and nothing for backward: torch's autograd sees through the call.

        Raises:
            Declined: If a hidden row may be NaN or infinite, which FlexAttention would let through,
                or if the call has some heads of a layer alone.
            Failed: If torch does not compile it.
        """
        q, k, v = (bound.tensors[name] for name in "qkv")
        if bound.first_head or bound.total_heads not in (0, bound.heads):
            raise Declined("the call has some heads of a layer alone")
        score_mod, mask_mod, scale = kernel.functions(bound)
        hides = score_mod is not None or mask_mod is not None
        if hides and not all(all_finite(rows) for rows in (q, k, v)):
            raise Declined(
                "q, k or v holds NaN or infinity, and FlexAttention would let hidden ones through"
            )
        block_mask = None if mask_mod is None else make_block_mask(kernel.term, bound, mask_mod)
        run = kernel.compiled if bound.q.device.type == "cuda" else kernel.run
        try:
            found = run(q, k, v, score_mod, block_mask, scale, bound.heads != bound.groups)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as problem:
            raise Failed(f"torch does not compile FlexAttention here: {problem}") from problem
        return {"output": found}, None

    def backward(
        self, kernel: FlexKernel, bound: Bound, saved: None, grads: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Refuse: this is never called, because torch's autograd sees through `forward`."""
        raise AssertionError("torch's autograd differentiates this backend")

    def facts(self, kernel: FlexKernel, bound: Bound) -> Facts:
        """Return how a call would run, of which torch tells nothing."""
        return Facts()


if torch.cuda.is_available():
    register(FlexBackend())
