"""Whole numbers as bits, written in arithmetic: & | ^ << >> between positions.

A program has no bitwise operators, but x // 2^a % 2^n is what bits a … a+n-1 of x say, also of
negative numbers in two's complement. Leaves to others: conditions, for which & | ^ are logic.
"""

from collections.abc import Callable, Iterator

import torch

from regard.flex.elementwise import NARROW, Number, fused, lifted, number
from regard.flex.ranges import bits_of, note_bits, range_of
from regard.flex.traced import Traced
from regard.ir import nodes as n
from regard.lang.trace import fail

# Positions and most indices fit; both sides of a mask beyond would be taken apart bit by bit.
_MOST_BITS = 32


def bit_and(first: Number, second: Number) -> Traced:
    """Return the bits that two whole numbers share."""
    x, y = _whole(first), _whole(second)
    for value, mask in ((x, y), (y, x)):
        written = _written(mask)
        if written is not None and (written >= 0 or bits_of(value.node) is not None):
            return _masked(value, written)
    # A number that is not negative shares no other bits than its own, also with a negative one.
    known = [bits for value in (x, y) if (bits := _known_bits(value)) is not None]
    shared = min(known) if len(known) == 1 else _bits(x) & _bits(y)
    return _assembled(
        (fused("mul", _run(x, place, 1), _run(y, place, 1)), place) for place, _ in _runs(shared, 1)
    )


def bit_or(first: Number, second: Number) -> Traced:
    """Return the bits that one of two whole numbers has."""
    x, y = _whole(first), _whole(second)
    bits = _bits(x) | _bits(y)
    total = fused("add", x, y)
    if _bits(x) & _bits(y):
        total = fused("sub", total, bit_and(x, y))
    note_bits(total.node, bits)
    return total


def bit_xor(first: Number, second: Number) -> Traced:
    """Return the bits that exactly one of two whole numbers has."""
    x, y = _whole(first), _whole(second)
    bits = _bits(x) | _bits(y)
    total = fused("sub", fused("add", x, y), fused("mul", 2, bit_and(x, y)))
    note_bits(total.node, bits)
    return total


def bit_not(value: Number) -> Traced:
    """Return every bit turned round: -1 - x."""
    return fused("sub", -1, _whole(value))


def shift_left(value: Number, steps: Number) -> Traced:
    """Return x · 2^steps."""
    x = _whole(value)
    count = _written(lifted(steps))
    if count is None:
        power = fused("pow", 2.0, steps)
        return Traced(fused("floor", fused("mul", x, power)).node, x.dtype)
    moved, bits = fused("mul", x, 1 << count), bits_of(x.node)
    if bits is not None and x.dtype not in NARROW:
        note_bits(moved.node, bits << count)
    return Traced(moved.node, x.dtype)


def shift_right(value: Number, steps: Number) -> Traced:
    """Return the floor of x / 2^steps."""
    x = _whole(value)
    count = _written(lifted(steps))
    if count is None:
        fail("a shift by a traced number of bits: write x // table[steps], a table of 2^steps")
    moved, bits = fused("floordiv", x, 1 << count), bits_of(x.node)
    if bits is not None:
        note_bits(moved.node, bits >> count)
    return Traced(moved.node, x.dtype)


def _whole(value: Number) -> Traced:
    found = number(value)
    if found.is_floating:
        fail("& | ^ << >> take whole numbers or conditions, not numbers of " + str(found.dtype))
    return found


def _written(value: Traced) -> int | None:
    node = value.node
    return int(node.value) if isinstance(node, n.Const) else None


def _bits(value: Traced) -> int:
    """Return which bits may be set, or fail if there is no telling."""
    bits = _known_bits(value)
    if bits is None:
        fail(
            "| ^ and & between whole numbers that may be negative\n"
            "mask one of them first, e.g. (x & 0xFFFF) | y"
        )
    return bits


def _known_bits(value: Traced) -> int | None:
    bits = bits_of(value.node)
    if bits is None and range_of(value.node)[0] >= 0:
        # Positions and indices: torch's own are int32 in its kernels.
        bits = (1 << (_MOST_BITS - 1)) - 1
    return None if bits is None or bits.bit_length() > _MOST_BITS else bits


def _masked(value: Traced, mask: int) -> Traced:
    known = bits_of(value.node)
    kept = mask if known is None else mask & known
    if known is not None and kept == known:
        return value
    found = _assembled(
        (_run(value, place, count), place) for place, count in _runs(kept, kept.bit_length())
    )
    note_bits(found.node, kept)
    return Traced(found.node, value.dtype)


def _run(value: Traced, place: int, count: int) -> Traced:
    """Return `count` bits of a number from a place on."""
    moved = fused("floordiv", value, 1 << place) if place else value
    bits = bits_of(value.node)
    if bits is not None and bits >> (place + count) == 0:
        return moved
    return fused("mod", moved, 1 << count)


def _runs(bits: int, longest: int) -> Iterator[tuple[int, int]]:
    """Yield the place and length of each run of set bits, at most so long."""
    place = 0
    while bits >> place:
        count = 0
        while count < longest and bits >> (place + count) & 1:
            count += 1
        if count:
            yield place, count
        place += max(count, 1)


def _assembled(parts: Iterator[tuple[Traced, int]]) -> Traced:
    total: Number = 0
    for part, place in parts:
        moved = fused("mul", part, 1 << place) if place else part
        total = moved if isinstance(total, int) else fused("add", total, moved)
    found = lifted(total)
    return found if found.dtype != torch.bool else number(found)


BITWISE: dict[str, Callable[..., Traced]] = {
    "bitwise_and": bit_and,
    "bitwise_or": bit_or,
    "bitwise_xor": bit_xor,
    "bitwise_not": bit_not,
    "bitwise_left_shift": shift_left,
    "bitwise_right_shift": shift_right,
}
