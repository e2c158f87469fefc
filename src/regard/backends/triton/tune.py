"""The tiles of a kernel: those that were measured to be fastest, or those that need no measuring.

Nothing is measured unless `REGARD_TUNE` says for how long (`measured/budget`). Leaves to others:
what tiles there are (`tiles`), launching a kernel on scratch memory (`caller`).
"""

from collections.abc import Callable
from dataclasses import astuple

import torch

from regard.backends.measured.budget import budget_seconds
from regard.backends.measured.figures import About, keep_figures, known_figures
from regard.backends.measured.search import search
from regard.backends.measured.timer import device_name, time_on
from regard.backends.triton.module import TritonModule
from regard.backends.triton.tiles import Job, Tiles, choose_tiles, may_run, near_tiles

# Returns the milliseconds of a run on a device, or None if it does not run.
Timer = Callable[[torch.device, Callable[[], object]], float | None]


def known_tiles(module: TritonModule, job: Job, device: torch.device) -> Tiles:
    """Return the tiles of a kernel without measuring.

    Args:
        module: Whose kernel.
        job: The work.
        device: Where.

    Returns:
        Those that were measured before, on this device and with these versions; else the default.
    """
    if job in module.tiles:
        return module.tiles[job]
    found = known_figures(_about(module, job, device))
    try:
        kept = None if found is None else Tiles(*map(int, found["tiles"]))
    except (KeyError, TypeError, ValueError):
        kept = None
    return kept if kept is not None and may_run(job, kept) else choose_tiles(job)


def find_tiles(
    module: TritonModule,
    job: Job,
    device: torch.device,
    launch: Callable[[Tiles], object],
    timer: Timer = time_on,
) -> Tiles:
    """Return the tiles of a kernel, measuring them if that is asked for and was never done.

    Args:
        module: Whose kernel.
        job: The work.
        device: Where.
        launch: Runs the kernel in some tiles, on scratch memory.
        timer: Times a run.

    Returns:
        The tiles; the same for the same job from now on.
    """
    about = _about(module, job, device)
    seconds = budget_seconds()
    if seconds and known_figures(about) is None:
        times = search(
            choose_tiles(job),
            lambda tiles: near_tiles(job, tiles),
            lambda tiles: timer(device, lambda: launch(tiles)),
            seconds,
        )
        if times:
            best = min(times, key=times.__getitem__)
            tried = [[*astuple(tiles), ms] for tiles, ms in times.items()]
            keep_figures(about, {"tiles": astuple(best), "ms": times[best], "tried": tried})
    found = module.tiles[job] = known_tiles(module, job, device)
    return found


def _about(module: TritonModule, job: Job, device: torch.device) -> About:
    told = job._asdict() | {"dtype": str(job.dtype)}
    return {"figures": "tiles", "kernel": module.name, "code": module.fingerprint,
            "device": device_name(device), **told}  # fmt: skip
