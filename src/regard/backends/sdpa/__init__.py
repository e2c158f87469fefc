"""Programs that torch's own fused kernels compute: scaled dot-product attention.

A mask other than causal, or a bias, is given to torch densely, so large ones are left to other
backends; so is a bias that needs a gradient. Leaves to others: recognition
(`passes/recognise_sdpa`).
"""

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from regard.backends.base import Declined, Facts, Request, register
from regard.backends.sdpa.kernel import Kernel
from regard.backends.sdpa.work import count_work
from regard.backends.values.evaluate import Cache, Evaluator
from regard.backends.values.finite import all_finite
from regard.backends.values.layout import Tile
from regard.ir import nodes as n
from regard.ir.bound import Bound
from regard.ir.program import Leaf
from regard.passes.recognise_sdpa import number_of, recognise_sdpa

# A dense mask of this many numbers is 64 MB in float32; torch reads it whole in every call.
MOST_MASK_NUMBERS = 1 << 24


class SdpaBackend:
    """Calls torch.nn.functional.scaled_dot_product_attention where it has the program's meaning."""

    name = "sdpa"
    differentiable = True

    def supports(self, request: Request) -> str | None:
        """Return None if torch's kernels compute this, else the reason why not.

        Args:
            request: The kind of call.

        Returns:
            A reason, or None.
        """
        if request.observe:
            return "torch's kernels return no row statistics"
        parts = recognise_sdpa(request.root, request.width)
        if isinstance(parts, str):
            return parts
        kernel = Kernel(parts, request)
        read = [*n.walk(parts.bias), *n.walk(parts.scale)]
        learned = {leaf.name for leaf in read if isinstance(leaf, Leaf)} & request.wanted
        if learned:
            names = ", ".join(sorted(learned))
            return (
                f"its bias or scale needs a gradient ({names}), "
                "which torch's fused kernels do not give"
            )
        halves = torch.finfo(request.dtype).bits < 32
        if parts.bias is not None and halves and request.device != "cpu":
            return f"on {request.device} torch would round its bias to {request.dtype}"
        numbers = request.batch * request.heads * request.queries * request.keys
        if kernel.dense and numbers > MOST_MASK_NUMBERS:
            return "its mask or bias would have to be dense, and is too large for that"
        return None

    def compile(self, request: Request) -> Kernel:
        """Return the recognised program.

        Args:
            request: The kind of call.

        Returns:
            The kernel.
        """
        parts = recognise_sdpa(request.root, request.width)
        assert not isinstance(parts, str)
        return Kernel(parts, request)

    def forward(self, kernel: Kernel, bound: Bound) -> tuple[dict[str, Tensor], None]:
        """Run torch's kernel.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The output, and nothing for backward: torch's autograd sees through the call.

        Raises:
            Declined: If a hidden row may be NaN or infinite; torch's kernels would let it through.
        """
        q, k, v = bound.q, bound.tensors["k"], bound.tensors["v"]
        options = {"scale": scale_of(kernel, bound), "enable_gqa": q.shape[1] != k.shape[1]}
        if _sees_all(kernel, bound):
            return {"output": scaled_dot_product_attention(q, k, v, **options)}, None
        hides = (
            kernel.parts.where is not None
            or kernel.request.lengths
            or kernel.parts.bias is not None
        )
        if hides and not all(all_finite(tensor) for tensor in (q, k, v)):
            raise Declined(
                "q, k or v holds NaN or infinity, and torch's kernels would let hidden ones through"
            )
        if not kernel.dense:
            return {
                "output": scaled_dot_product_attention(
                    q, k, v, is_causal=kernel.is_causal, **options
                )
            }, None
        mask, alive = dense_mask(kernel, bound)
        found = scaled_dot_product_attention(q, k, v, attn_mask=mask, **options)
        return {"output": found if alive is None else torch.where(alive, found, 0.0)}, None

    def backward(
        self, kernel: Kernel, bound: Bound, saved: None, grads: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Refuse: this is never called, because torch's autograd sees through `forward`."""
        raise AssertionError("torch's autograd differentiates this backend")

    def facts(self, kernel: Kernel, bound: Bound) -> Facts:
        """Return how a call would run; what torch's own kernels visit is known of CPUs alone.

        Args:
            kernel: From `compile`.
            bound: The call.

        Returns:
            The facts; its gradient counts if one is wanted.
        """
        return Facts(work=count_work(kernel, bound))


def scale_of(kernel: Kernel, bound: Bound) -> float:
    """Return what dot products are multiplied by in this call.

    Args:
        kernel: The recognised program.
        bound: The call.

    Returns:
        The scale.

    Raises:
        Declined: If it is not a positive number, which torch's kernels do not promise to take.
    """
    scalars = {name: float(bound.tensors[name]) for name in _scalars_of(kernel.parts.scale)}
    scale = number_of(kernel.parts.scale, bound.q.shape[-1], scalars)
    if not 0 < scale < math.inf:
        raise Declined(f"its score multiplies dot(q, k) by {scale}")
    return scale


@lru_cache(maxsize=1024)
def _scalars_of(node: n.Node) -> tuple[str, ...]:
    """Return the names of the run-time numbers of an expression; found once, for every call."""
    return tuple(found.name for found in n.walk(node) if isinstance(found, n.Scalar))


def _sees_all(kernel: Kernel, bound: Bound) -> bool:
    """Tell whether a causal mask hides nothing: all keys stand before all queries, as in decoding.

    Then there is no mask to make, and no hidden number that must be finite.
    """
    if not kernel.parts.causal or kernel.is_causal or kernel.request.lengths:
        return False
    if kernel.parts.bias is not None or not bound.queries or not bound.keys:
        return False
    return bool(bound.query_positions.amin() >= bound.key_positions.amax())


@torch.no_grad()
def dense_mask(kernel: Kernel, bound: Bound) -> tuple[Tensor, Tensor | None]:
    """Return what torch is to add to or admit in the scores, and which rows see anything.

    Args:
        kernel: The recognised program.
        bound: The call.

    Returns:
        A boolean or float mask that broadcasts to (B, H, N, M), all true or 0 in rows that see
        nothing; and a boolean (B or 1, H or 1, N, 1), None if every row sees something.
    """
    at = Evaluator(bound, Tile(0, bound.queries, 0, bound.keys), {}, Cache())
    seen = at.exists()
    if kernel.parts.where is not None:
        admitted = at.condition(kernel.parts.where)
        seen = admitted if seen is None else seen & admitted
    bias = None if kernel.parts.bias is None else at.real(kernel.parts.bias)
    if bias is not None:
        finite = bias != -torch.inf
        seen = finite if seen is None else seen & finite
    assert seen is not None
    alive = seen.any(3, keepdim=True)
    whole = bool(alive.all())
    seen = seen if whole else seen | ~alive
    shape = (-1, -1, bound.queries, bound.keys)
    if bias is None:
        mask = seen.squeeze(-1).expand(shape)
    else:
        mask = torch.where(seen, bias, -torch.inf).squeeze(-1).expand(shape)
        # Not q's dtype: a distance of 200 rounds to a whole number in bfloat16.
        mask = torch.where(alive.squeeze(-1), mask, 0.0).to(bound.compute_dtype)
    return mask, None if whole else alive.squeeze(-1)


register(SdpaBackend())
