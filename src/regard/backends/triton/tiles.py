"""The size of a kernel's blocks, and its warps and stages, by what is multiplied in it.

`choose_tiles` gives defaults from what is known to run well, `near_tiles` what may be tried
instead. Leaves to others: trying it (`tune`), running.
"""

from dataclasses import astuple, dataclass, replace
from typing import NamedTuple

import torch

from regard.backends.triton.machine import is_interpreted


@dataclass(frozen=True)
class Tiles:
    """How a kernel's work is cut.

    Attributes:
        rows: Query rows of a block, a power of two of at least 16.
        keys: Key rows of a block, likewise.
        warps: Warps of a program.
        stages: How many blocks ahead are loaded.
    """

    rows: int
    keys: int
    warps: int
    stages: int


# With no more query rows than this, keys are shared out to programs: there are too few otherwise.
FEW_ROWS = 16
# Programs of a call whose keys are shared out: some for each multiprocessor.
_PROGRAMS = 528
# Shared memory of a multiprocessor (Hopper), and numbers that the registers of a warp hold.
_SHARED_BYTES, _MOST_HELD = 227 << 10, 32 * 224
# Of the keys of a block that few query rows see.
_ROW_BYTES = 1 << 15
# What the interpreter runs in: few enough that small calls have several blocks.
_INTERPRETED = Tiles(32, 32, 4, 1)


class Job(NamedTuple):
    """What decides how a kernel's work is best cut; sizes are rounded up to powers of two.

    Attributes:
        what: "rows" for a sweep over the keys of query rows, "i" and "j" for the gradient's.
        widest: The most channels of an input.
        dtype: What q is stored in.
        at_pairs: Whether channels are added up at every pair, where there is no matrix product.
        heads: B · H.
        queries: N.
        keys: M.
    """

    what: str
    widest: int
    dtype: torch.dtype
    at_pairs: bool
    heads: int
    queries: int
    keys: int

    @property
    def few(self) -> bool:
        """Whether there are so few query rows that keys are shared out to programs."""
        return self.what == "rows" and self.queries <= FEW_ROWS


def choose_tiles(job: Job) -> Tiles:
    """Choose how a kernel's work is cut, without measuring.

    Args:
        job: The work.

    Returns:
        The tiles.
    """
    what, widest, dtype = job.what, job.widest, job.dtype
    if is_interpreted():
        return Tiles(FEW_ROWS, FEW_ROWS, 4, 1) if job.few else _INTERPRETED
    if job.few and not job.at_pairs:
        keys = min(64, max(16, _ROW_BYTES // (widest * dtype.itemsize)))
        return Tiles(FEW_ROWS, keys, 4, 3 if widest <= 128 and dtype.itemsize < 4 else 2)
    if job.at_pairs:
        return Tiles(64, 32, 4, 1)
    halves = dtype in (torch.float16, torch.bfloat16)
    if dtype == torch.float64:
        return Tiles(32, 32, 4, 1)
    if what == "rows":
        if halves:
            return Tiles(128, 64, 8 if widest > 64 else 4, 3 if widest <= 128 else 2)
        return Tiles(64, 64, 4, 2) if widest <= 64 else Tiles(64, 32, 4, 2)
    if not halves:
        return Tiles(32, 32, 4, 1) if widest > 64 else Tiles(64, 32, 4, 1)
    small = 64 if widest <= 128 else 32
    if what == "i":
        return Tiles(128 if widest <= 64 else small, small, 4 if widest > 128 else 8, 2)
    return Tiles(small, small, 8 if widest == 128 else 4, 2)


def near_tiles(job: Job, tiles: Tiles) -> list[Tiles]:
    """Return the tiles that differ from others in one thing and may run.

    Args:
        job: The work.
        tiles: The others.

    Returns:
        Tiles with blocks or warps doubled or halved, or with one stage more or less.
    """
    found = []
    for name in ("rows", "keys", "warps"):
        size = getattr(tiles, name)
        found += [replace(tiles, **{name: size * 2}), replace(tiles, **{name: size // 2})]
    found += [replace(tiles, stages=tiles.stages + more) for more in (1, -1)]
    return [one for one in found if may_run(job, one)]


def may_run(job: Job, tiles: Tiles) -> bool:
    """Tell whether tiles are worth a try: what is certain not to fit a multiprocessor is not.

    Args:
        job: The work.
        tiles: The tiles.

    Returns:
        Whether they are.
    """
    rows, keys, warps, stages = astuple(tiles)
    if not (16 <= min(rows, keys) and 1 <= warps <= 16 and 1 <= stages <= 4):
        return False
    if any(size & (size - 1) for size in (rows, keys, warps)):
        return False
    # Of more rows than there are a block holds nothing.
    if rows > max(16, job.queries) or keys > max(16, job.keys) or (job.few and rows > FEW_ROWS):
        return False
    loaded = (rows + 2 * keys * stages) * job.widest * job.dtype.itemsize
    held = rows * (keys + job.widest)
    return loaded <= _SHARED_BYTES and held <= warps * _MOST_HELD


def count_chunks(tiles: Tiles, heads: int, queries: int, keys: int) -> int:
    """Return into how many parts the keys of a sweep are cut.

    Args:
        tiles: How its work is cut.
        heads: B · H.
        queries: N.
        keys: M.

    Returns:
        1 if there are query rows enough.
    """
    blocks = -(-keys // tiles.keys)
    if queries > FEW_ROWS or blocks < 2:
        return 1
    return max(1, min(blocks, -(-_PROGRAMS // max(1, heads))))
