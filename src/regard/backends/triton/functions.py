"""Functions of the device that Triton itself does not have; emitted kernels import them.

Each is as exact as its namesake in torch. Leaves to others: what calls them (`emit`). Only emitted
code imports this file, because it needs Triton.
"""

import triton
import triton.language as tl

_GOLDEN: tl.constexpr = tl.constexpr(0x9E3779B9)


@triton.jit
def product(left, right, into, UNIT: tl.constexpr):
    """Return `into` plus left (I, C) times the transpose of right (J, C).

    UNIT says how float32 is multiplied: "ieee", "tf32" or "tf32x3"; "wide" widens halves first.
    """
    return multiply(left, tl.trans(right), into, UNIT)


@triton.jit
def multiply(left, right, into, UNIT: tl.constexpr):
    """Return `into` plus left (I, C) times right (C, J), which may be of different dtypes."""
    if UNIT == "wide":
        found = tl.dot(left.to(into.dtype), right.to(into.dtype), into, input_precision="ieee",
                       out_dtype=into.dtype)  # fmt: skip
    elif left.dtype == right.dtype:
        found = tl.dot(left, right, into, input_precision=UNIT, out_dtype=into.dtype)
    else:
        found = tl.dot(left.to(into.dtype), right.to(into.dtype), into, input_precision=UNIT,
                       out_dtype=into.dtype)  # fmt: skip
    return found


@triton.jit
def mix32(x):
    """Scramble 32-bit numbers, as `regard.ir.random.mix32` does."""
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def mix_in(state, word):
    """Return the random state after one more coordinate."""
    return mix32(state + word.to(tl.uint32) + _GOLDEN)


@triton.jit
def random_bits(state):
    """Return the 32 bits of a state that has taken in all its coordinates, as int64."""
    return mix32(state ^ _GOLDEN).to(tl.int64)


@triton.jit
def floor_divide(a, b):
    """Return floor(a / b) of whole numbers: Triton's own // rounds toward zero."""
    found = a // b
    rest = a - found * b
    return tl.where((rest != 0) & ((rest < 0) != (b < 0)), found - 1, found)


@triton.jit
def remainder(a, b):
    """Return a - floor(a / b) * b of whole numbers."""
    return a - floor_divide(a, b) * b


@triton.jit
def floor_divide_real(a, b):
    """Return floor(a / b) of real numbers."""
    return tl.floor(a / b)


@triton.jit
def remainder_real(a, b):
    """Return a - floor(a / b) * b of real numbers."""
    return a - tl.floor(a / b) * b


@triton.jit
def sign(x):
    """Return -1, 0 or 1."""
    return tl.where(x > 0, 1, tl.where(x < 0, -1, 0)).to(x.dtype)


@triton.jit
def tanh(x):
    """Return the hyperbolic tangent; a series near 0, where the quotient would cancel."""
    size = tl.abs(x)
    far = 1 - 2 / (tl.exp(2 * size) + 1)
    y = x * x
    near = 1 + y * (-1 / 3 + y * (2 / 15 + y * (-17 / 315 + y * (62 / 2835 - y * (1382 / 155925)))))
    return tl.where(size < 0.1, x * near, tl.where(x < 0, -far, far))


@triton.jit
def softplus(x):
    """Return log(1 + exp(x)), of which a series is taken where exp(x) is small."""
    e = tl.exp(-tl.abs(x))
    near = e * (1 - e * (0.5 - e * (1 / 3 - e * 0.25)))
    return tl.maximum(x, 0) + tl.where(e < 1e-3, near, tl.log(1 + e))


@triton.jit
def power(a, b):
    """Return a to the power of b, also of a negative number to a whole power."""
    b = b + tl.zeros_like(a)
    size = tl.exp2(b * tl.log2(tl.abs(a)))
    half = b * 0.5
    odd = tl.where(tl.floor(half) == half, 1, -1)
    whole = tl.where(tl.floor(b) == b, odd, float("nan"))
    found = tl.where(a < 0, size * whole.to(size.dtype), size)
    return tl.where((b == 0) | (a == 1), 1, found).to(size.dtype)


@triton.jit
def power_of(u, p):
    """Return u to the power of p of numbers that are not negative, 0 where u is 0."""
    size = tl.where(u > 0, u, 1.0).to(u.dtype)
    return tl.where(u > 0, tl.exp(p * tl.log(size)), 0.0)


@triton.jit
def next_threshold(t, low, high, mass, slope, p):
    """Return where to look next for the t with Σ (x - t)₊^p = 1, given the sum and its slope at t.

    The sum falls and is convex in t if p ≥ 1: from below no step of Newton's passes the root. Else
    the interval in which it lies is halved.
    """
    newton = tl.maximum(t, t + (mass - 1) / (p * slope))
    return tl.where(p >= 1, newton, (low + high) * 0.5)


@triton.jit
def ordered(x):
    """Return whole numbers that are ordered as real ones are; 0 and -0 are alike."""
    x = tl.where(x == 0, tl.zeros_like(x), x)
    if x.dtype == tl.float64:
        wide = x.to(tl.int64, bitcast=True)
        found = wide ^ ((wide >> 63) & 0x7FFFFFFFFFFFFFFF)
    else:
        bits = x.to(tl.int32, bitcast=True)
        found = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return found


@triton.jit
def middle(low, high):
    """Return the whole number halfway between two, rounded down, without their sum."""
    return (low & high) + ((low ^ high) >> 1)


@triton.jit
def place_in_list(keys, j, size):
    """Return how many of the keys that a list names, as they rise, come before each key.

    `keys` (rows, 1) tells where the list of each query row begins, `j` (1, keys) are the keys.
    """
    low = tl.zeros_like(j) + tl.zeros_like(keys.to(tl.int64)).to(tl.int32)
    high = low + size
    left = size
    while left > 0:
        at = (low + high) // 2
        before = (tl.load(keys + tl.minimum(at, size - 1)) < j) & (low < high)
        high = tl.where(before, high, tl.minimum(at, high))
        low = tl.where(before, at + 1, low)
        left = left // 2
    return low
