"""What a call of torch's kernels costs, counted as its CPU kernels are known to work.

Leaves to others: how long it takes (`ops/predict`).
"""

from regard.backends.sdpa.kernel import Kernel
from regard.ir.bound import Bound
from regard.ir.types import axes_of
from regard.passes.count_work import Work, count_scalar, visited
from regard.passes.split_pairs import row_kind

# torch's CPU kernel takes query rows in blocks of 256, 64 or 32, from so many rows on (torch 2.13,
# aten/src/ATen/native/cpu/FlashAttentionKernel.cpp).
_BLOCKS = ((768, 256), (192, 64), (0, 32))
# An operator on a dense mask reads two numbers and writes one.
_OPERATOR_BYTES = 12.0
_MORE_OPERATORS = 3
# The gradient takes five products of the size of forward's two.
_TRAINED_PRODUCTS = 3.5


def count_work(kernel: Kernel, bound: Bound) -> Work:
    """Count what a call costs, and its gradient if one is wanted.

    Args:
        kernel: The recognised program.
        bound: The call.

    Returns:
        The work.
    """
    trained = bool(kernel.request.wanted)
    pairs = bound.batch * bound.heads * _pairs(bound, kernel.is_causal)
    width = bound.q.shape[-1] + bound.tensors["v"].shape[-1]
    moved = sum(bound.tensors[name].nbytes for name in "qkv") + _output_bytes(bound)
    work = Work(
        products=pairs * width * (_TRAINED_PRODUCTS if trained else 1.0),
        functions=pairs * (2 if trained else 1),
        bytes=moved * (3 if trained else 1),
        calls=1.0,
        gradients=float(trained),
    )
    return work + _mask_work(kernel, bound) if kernel.dense else work


def _pairs(bound: Bound, causal: bool) -> float:
    """Return how many pairs of a head are computed."""
    rows, keys = bound.queries, bound.keys
    if not causal:
        return float(rows * keys)
    block = next(size for least, size in _BLOCKS if rows >= least)
    return float(sum(min(block, rows - i) * min(i + block, keys) for i in range(0, rows, block)))


def _output_bytes(bound: Bound) -> int:
    numbers = bound.batch * bound.heads * bound.queries * bound.tensors["v"].shape[-1]
    return numbers * bound.q.element_size()


def _mask_work(kernel: Kernel, bound: Bound) -> Work:
    """Return what making a dense mask costs, and reading it for every head."""
    parts = [part for part in (kernel.parts.where, kernel.parts.bias) if part is not None]
    made = 0.0
    for node in visited(parts, lambda node: row_kind(node) is not None):
        one = count_scalar(node)
        made += (one.functions + one.operations) * _numbers(axes_of(node), bound)
    # Beside the program's own operators: what exists, rows that see nothing, and the choice.
    axes = "".join(axes_of(part) for part in parts)
    made += _MORE_OPERATORS * _numbers(axes, bound)
    read = _numbers("bh", bound) * bound.q.element_size() * (2 if kernel.request.wanted else 1)
    return Work(bytes=_OPERATOR_BYTES * made + read)


def _numbers(axes: str, bound: Bound) -> int:
    """Return how many numbers a value at every pair has, alike in heads or batch rows or not."""
    several = (bound.heads if "h" in axes else 1) * (bound.batch if "b" in axes else 1)
    return several * bound.queries * bound.keys
