"""The counter-based random numbers behind `keep`: the same on every backend and thread count.

A draw depends on (seed, place, b, h, i, j) alone, by rounds of a 32-bit finaliser (the constants
are those of "lowbias32", C. Wellons, "Prospecting for Hash Functions", 2018). All arithmetic is
modulo 2^32, so C++ and GPU kernels repeat it with unsigned integers.
"""

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


def mix32(x: Tensor) -> Tensor:
    """Scramble 32-bit numbers held in int64.

    Args:
        x: int64, values 0 … 2^32 - 1.

    Returns:
        int64 of the same shape, values 0 … 2^32 - 1; a bijection.
    """
    x = (x ^ (x >> 16)) * 0x7FEB352D & _MASK
    x = (x ^ (x >> 15)) * 0x846CA68B & _MASK
    return x ^ (x >> 16)


def draw_bits(seed: int, place: int, coordinates: list[Tensor]) -> Tensor:
    """Draw 32 random bits for every point of the coordinates.

    Args:
        seed: Any integer; its low 64 bits count.
        place: The draw's number in the program.
        coordinates: int64 tensors that broadcast together, in the order b, h, i, j.

    Returns:
        int64, values 0 … 2^32 - 1, of the broadcast shape.
    """
    device = coordinates[0].device if coordinates else None
    words = [seed & _MASK, (seed >> 32) & _MASK, place & _MASK]
    state = torch.zeros((), dtype=torch.int64, device=device)
    for word in words:
        state = mix32((state + word + _GOLDEN) & _MASK)
    for coordinate in coordinates:
        state = mix32((state + coordinate + _GOLDEN) & _MASK)
    return mix32(state ^ _GOLDEN)


def keep_threshold(p: Tensor) -> Tensor:
    """Return the number below which 32 random bits mean "dropped", for probability p.

    Args:
        p: The probability of dropping, any float dtype.

    Returns:
        int64, 0 … 2^32.
    """
    return (p.to(torch.float64) * 2.0**32).round().to(torch.int64)
