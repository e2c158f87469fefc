"""Whether kernels can run here: Triton is installed, and there is a GPU or its interpreter is on.

Leaves to others: which programs kernels can run (`kernel`).
"""

import importlib.util
import os

import torch


def is_interpreted() -> bool:
    """Tell whether Triton runs kernels in Python, on tensors of the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes")


def why_not() -> str | None:
    """Return why no kernel can run here, or None if some can."""
    if not (is_interpreted() or torch.cuda.is_available()):
        return "it makes kernels for GPUs, and torch sees none"
    try:
        found = importlib.util.find_spec("triton")
    except ModuleNotFoundError:
        found = None
    return None if found else "it needs the package 'triton', which is not installed"


def why_not_on(device: str) -> str | None:
    """Return why kernels cannot run on tensors of a device, or None if they can.

    Args:
        device: The type of the device.

    Returns:
        A reason, or None.
    """
    if is_interpreted():
        return None if device == "cpu" else "Triton's interpreter takes tensors of the CPU alone"
    return None if device == "cuda" else f"it makes kernels for GPUs, and q is on {device}"
