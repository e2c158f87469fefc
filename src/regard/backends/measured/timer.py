"""How long something takes on a device: the median of a few runs, after one that warms up.

Leaves to others: what is run.
"""

import time
from collections.abc import Callable
from statistics import median

import torch

# Runs that are timed, and for how long they go on, in milliseconds.
_LEAST_RUNS, _MOST_RUNS, _MOST_MS = 3, 25, 100.0


def time_on(device: torch.device, run: Callable[[], object]) -> float | None:
    """Return how long something takes.

    Args:
        device: Where it runs.
        run: Does it, without waiting for the device.

    Returns:
        The median, in milliseconds; None if it does not run there, for want of memory, say.
    """
    try:
        _once(device, run)
        first = _once(device, run)
        more = max(_LEAST_RUNS, min(_MOST_RUNS, int(_MOST_MS / max(first, 1e-3)))) - 1
        return median([first, *(_once(device, run) for _ in range(more))])
    # Compilers and devices fail in ways of their own, and whatever fails is no candidate.
    except Exception:
        return None


def _once(device: torch.device, run: Callable[[], object]) -> float:
    """Return the milliseconds of one run: the device's own, where it tells them."""
    if device.type != "cuda":
        begun = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - begun)
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
    return start.elapsed_time(end)


def device_name(device: torch.device) -> str:
    """Return what a device is called, such as "NVIDIA H200"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
