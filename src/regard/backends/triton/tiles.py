"""The size of a kernel's blocks, and its warps and stages, by what is multiplied in it.

These are defaults from what is known to run well; nothing is measured. Leaves to others: running.
"""

from dataclasses import dataclass

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
# What the interpreter runs in: few enough that small calls have several blocks.
_INTERPRETED = Tiles(32, 32, 4, 1)


def choose_tiles(what: str, widest: int, dtype: torch.dtype, at_pairs: bool, queries: int) -> Tiles:
    """Choose how a kernel's work is cut.

    Args:
        what: "rows" for a sweep over the keys of query rows, "i" and "j" for the gradient's.
        widest: The most channels of an input, a power of two.
        dtype: What q is stored in.
        at_pairs: Whether channels are added up at every pair, where there is no matrix product.
        queries: N.

    Returns:
        The tiles.
    """
    few = what == "rows" and queries <= FEW_ROWS
    if is_interpreted():
        return Tiles(FEW_ROWS, FEW_ROWS, 4, 1) if few else _INTERPRETED
    if few and not at_pairs:
        return Tiles(FEW_ROWS, 64, 4, 3 if widest <= 128 and dtype.itemsize < 4 else 2)
    if at_pairs:
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
