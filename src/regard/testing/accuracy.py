"""How exact is exact enough: tolerances measured on plain PyTorch, never guessed.

Leaves to others: what is compared with what (`contract`).
"""

import torch
from torch import Tensor


def worst_error(found: Tensor, exact: Tensor) -> float:
    """Return the largest absolute difference between two results.

    Args:
        found: What is judged, any floating dtype.
        exact: What it should be, of the same shape.

    Returns:
        The difference; infinite if NaN or an infinity stands where the other has something else.
    """
    if not found.numel():
        return 0.0
    found, exact = found.detach().double(), exact.detach().double()
    finite = found.isfinite() & exact.isfinite()
    alike = finite | (found == exact) | (found.isnan() & exact.isnan())
    if not alike.all():
        return float("inf")
    return torch.where(finite, (found - exact).abs(), 0.0).max().item()


def largest(result: Tensor) -> float:
    """Return the largest finite magnitude in a result, 0 if there is none.

    Args:
        result: Any floating tensor.

    Returns:
        The magnitude.
    """
    finite = result.detach().double().abs()
    finite = finite[finite.isfinite()]
    return finite.max().item() if finite.numel() else 0.0


def allowed_error(
    kernel: Tensor, eager: Tensor, exact: Tensor, slack: float = 2.0, scale: float = 0.0
) -> float:
    """Return how far a kernel's result may be from the exact one.

    Args:
        kernel: The result that is judged; its dtype counts.
        eager: Plain PyTorch's result. If it is of another dtype than the kernel's, its error is
            counted in units of rounding: a float64 kernel may lose as many digits as float32 did.
        exact: The result in float64.
        slack: How many times eager's error is allowed.
        scale: The size of what was added up to get the result, where that is larger than the
            result: sums that cancel keep the rounding of their terms.

    Returns:
        The allowed absolute error.
    """
    units = torch.finfo(kernel.dtype).eps / torch.finfo(eager.dtype).eps
    rounding = torch.finfo(kernel.dtype).eps * largest(exact)
    # Halves are computed with in float32, so that is where their terms were rounded.
    computing = max(torch.float32, kernel.dtype, key=lambda dtype: torch.finfo(dtype).bits)
    rounding += torch.finfo(computing).eps * scale
    return slack * worst_error(eager, exact) * units + rounding


def assert_as_good_as_eager(
    kernel: Tensor,
    eager: Tensor,
    exact: Tensor,
    slack: float = 2.0,
    scale: float = 0.0,
    what: str = "the result",
) -> None:
    """Fail unless the kernel errs at most `slack` times as much as plain PyTorch does.

    All three come from inputs already rounded to the kernel's dtype and only then promoted.

    Args:
        kernel: The result that is judged.
        eager: Plain PyTorch's result, in the kernel's dtype or a narrower one.
        exact: The result in float64.
        slack: How many times eager's error is allowed.
        scale: The size of what was added up, where that is larger than the result.
        what: What the result is, for the message.

    Raises:
        AssertionError: If the error is larger than allowed, or shapes differ.
    """
    assert kernel.shape == exact.shape == eager.shape, f"{what}: shape {tuple(kernel.shape)}"
    allowed = allowed_error(kernel, eager, exact, slack, scale)
    assert allowed < float("inf"), f"{what}: plain PyTorch's own result is not finite"
    error = worst_error(kernel, exact)
    assert error <= allowed, f"{what}: error {error:.2e} exceeds {allowed:.2e}"
