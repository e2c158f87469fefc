"""Which backend runs a kind of call on a GPU: the fastest of those that can, measured once.

Before: sdpa, triton, flex and tiled can run it, in this order.
After: triton 0.31 ms, sdpa 0.42 ms, flex 0.44 ms, tiled behind them.
Figures are kept on disk; nothing is measured unless `REGARD_TUNE` says for how long. Leaves to
others: which backends can (`plan`), how a call is run (`run`).
"""

import math
import os
from collections.abc import Callable
from typing import Any

import torch

from regard.backends.base import Request
from regard.backends.measured.figures import keep_figures, known_figures, size_class
from regard.backends.measured.search import search
from regard.backends.measured.timer import device_name, time_on
from regard.ir.json_file import program_hash
from regard.ops.plan import ORDER_VARIABLE

# On a CPU the order is known from counted work (`plan`), and the dense backends run everything
# else, so that their time and memory are not even tried.
_ROUTED = ("cuda",)
_LAST = ("tiled", "reference")

# Returns what runs the call on a backend of that name.
Trial = Callable[[str], Callable[[], object]]


def known_times(
    request: Request, candidates: tuple[str, ...], device: torch.device
) -> dict[str, float]:
    """Return what was measured before of calls like this.

    Args:
        request: The kind of call.
        candidates: The backends that can run it.
        device: Where.

    Returns:
        Milliseconds by backend, the fastest first; nothing if none was measured, if there is no
        choice, or if the environment variable REGARD_BACKENDS has made it.
    """
    if len(_contenders(request, candidates)) < 2:
        return {}
    found = known_figures(_about(request, device)) or {}
    times = {name: ms for name, ms in found.items() if name in candidates and _is_time(ms)}
    return dict(sorted(times.items(), key=lambda one: one[1]))


def measure_times(
    request: Request,
    candidates: tuple[str, ...],
    device: torch.device,
    trial: Trial,
    seconds: float,
) -> None:
    """Measure the backends that can run a call like this, if none was, and keep what was found.

    Args:
        request: The kind of call.
        candidates: The backends that can run it.
        device: Where.
        trial: Runs the call on a backend.
        seconds: After this long no further backend is begun.
    """
    names = _contenders(request, candidates)
    about = _about(request, device)
    if len(names) < 2 or not seconds or known_figures(about) is not None:
        return
    times = search(names[0], lambda _: names, lambda name: time_on(device, trial(name)), seconds)
    if times:
        keep_figures(about, times)


def order_by(times: dict[str, float], candidates: tuple[str, ...]) -> tuple[str, ...]:
    """Return backends in the order in which they are tried.

    Args:
        times: From `known_times`.
        candidates: The backends that can run the call, in the order that needs no measuring.

    Returns:
        Those that were measured, the fastest first, and the others behind them.
    """
    return (*times, *(name for name in candidates if name not in times))


def _is_time(found: Any) -> bool:
    return isinstance(found, int | float) and 0 < found < math.inf


def _contenders(request: Request, candidates: tuple[str, ...]) -> list[str]:
    if request.device not in _ROUTED or os.environ.get(ORDER_VARIABLE):
        return []
    return [name for name in candidates if name not in _LAST]


def _about(request: Request, device: torch.device) -> dict[str, Any]:
    sizes = ("batch", "heads", "groups", "queries", "keys")
    exact = ("width", "value_width", "pair_channels", "seeded", "lengths", "plain_positions")
    return {
        "figures": "backends",
        "program": program_hash(request.written),
        "observe": sorted(request.observe),
        "wanted": sorted(request.wanted),
        "dtype": str(request.dtype),
        "device": device_name(device),
        **{name: size_class(getattr(request, name)) for name in sizes},
        **{name: getattr(request, name) for name in exact},
    }
