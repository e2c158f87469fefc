"""The vector headers of generated kernels against float64, torch and the random bits of the IR.

A driver applies each function to arrays. It is built for every vector size, and once for the
oldest machine the compiler knows, where nothing is fused and no intrinsic is used.
"""

import ctypes

import numpy as np
import pytest
import torch

from regard.ir.random import draw_bits
from tests.backends.cpu.headers import compile_headers

DRIVER = """
#include "math.h"
using namespace regard;

#define EACH(to, from, get, put, f) for (long k = 0; k < n; k += W) put(to + k, f(get(from + k)));
#define PAIRS(get, put, f) for (long k = 0; k < n; k += W) put(to + k, f(get(a + k), get(b + k)));
#define REALS(f) void f##_(const real* a, real* to, long n) { EACH(to, a, load, store, f) }
#define INTS(f) void f##_int(const integer* a, integer* to, long n) {\\
  EACH(to, a, load_int, store_int, f) }
#define REALS2(f) void f##_(const real* a, const real* b, real* to, long n) {\\
  PAIRS(load, store, f) }
#define INTS2(f) void f##_int(const integer* a, const integer* b, integer* to, long n) {\\
  PAIRS(load_int, store_int, f) }

extern "C" {
REALS(vexp) REALS(vexp_nonpositive) REALS(vlog) REALS(vtanh) REALS(vsigmoid) REALS(vsoftplus)
REALS(verf) REALS(vsin) REALS(vcos) REALS(vsqrt) REALS(vabs) REALS(vsign) REALS(vfloor)
REALS(vrelu) INTS(vabs) INTS(vsign) INTS(vrelu)
REALS2(vpow) REALS2(vmax) REALS2(vmin) REALS2(maximum) REALS2(minimum) REALS2(floor_divide)
REALS2(remainder) INTS2(vpow) INTS2(vmax) INTS2(vmin) INTS2(maximum) INTS2(minimum)
INTS2(floor_divide) INTS2(remainder)

int width() { return W; }
real sum_of_(const real* a) { return sum_of(load(a)); }
real max_of_(const real* a) { return max_of(load(a)); }
int any_(const integer* a) { return any(load_int(a)); }
int all_(const integer* a) { return all(load_int(a)); }
void made(real x, integer* to) {
  store((real*)to, splat(x));
  store_int(to + W, splat_int(integer(x)));
  store_int(to + 2 * W, truth(x > 0));
  store_int(to + 3 * W, lanes());
  store_int(to + 4 * W, to_int(load((real*)to) * real(1.75)));
  store((real*)to + 5 * W, to_real(lanes()));
}
void chosen(const real* a, const real* b, real* to) {
  store(to, select(load(a) < load(b), load(a), load(b)));
  store_int((integer*)to + W, select(load(a) < load(b), lanes(), -lanes()));
}
void gathered(const real* base, const integer* index, real* to) {
  store(to, gather(base, load_int(index)));
  store_int((integer*)to + W, gather_int((const integer*)base, load_int(index)));
}
void widened(const uint16_t* from, real* blocks, float* singly, long n, int brain) {
  for (long k = 0; k < n; k += W)
    store(blocks + k, brain ? load_bf16(from + k) : load_f16(from + k));
  for (long k = 0; k < n; ++k) singly[k] = (brain ? from_bf16 : from_f16)(from[k]);
}
void narrowed(const real* from, uint16_t* blocks, uint16_t* singly, long n, int brain) {
  for (long k = 0; k < n; k += W)
    brain ? store_bf16(blocks + k, load(from + k)) : store_f16(blocks + k, load(from + k));
  for (long k = 0; k < n; ++k) singly[k] = (brain ? to_bf16 : to_f16)(float(from[k]));
}
void drawn(const uint32_t* words, long count, const integer* column, integer* to, long n) {
  uint32_t state = 0;
  for (long k = 0; k < count; ++k) state = mix_in(state, words[k]);
  for (long k = 0; k < n; k += W) store_int(to + k, (Int)keep_bits(state, load_int(column + k)));
}
uint32_t drawn_once(const uint32_t* words, long count) {
  uint32_t state = 0;
  for (long k = 0; k < count; ++k) state = mix_in(state, words[k]);
  return final_mix(state);
}
}
"""


class Driver:
    """The headers' functions, on arrays, for one number type and vector size."""

    def __init__(self, path, real):
        self.real = np.dtype(real)
        self.integer = np.dtype(np.int32 if real == "float32" else np.int64)
        self.library = ctypes.CDLL(str(path))
        self.scalar = ctypes.c_float if real == "float32" else ctypes.c_double
        self.library.sum_of_.restype = self.library.max_of_.restype = self.scalar
        self.library.drawn_once.restype = ctypes.c_uint32
        self.width = self.library.width()

    def call(self, name, *args):
        """Call a function; arrays become pointers and integers longs."""
        plain = (int, ctypes.c_int, self.scalar)
        sent = [a if isinstance(a, plain) else ctypes.c_void_p(a.ctypes.data) for a in args]
        sent = [ctypes.c_long(a) if isinstance(a, int) else a for a in sent]
        return getattr(self.library, name)(*sent)

    def apply(self, name, *arrays):
        """Return the values of a function of reals or, by name `…_int`, of integers."""
        dtype = self.integer if name.endswith("_int") else self.real
        size = arrays[0].size
        padded = [np.resize(a.astype(dtype), -(-size // 64) * 64) for a in arrays]
        found = np.empty_like(padded[0])
        self.call(name if name.endswith("_int") else name + "_", *padded, found, found.size)
        return found[:size]


BUILDS = [
    pytest.param(("float", 16, []), id="float-16-portable"),
    *(
        pytest.param(("float", size, ["-march=native"]), id=f"float-{size}")
        for size in (16, 32, 64)
    ),
    pytest.param(("double", 32, ["-march=native"]), id="double-32"),
]


@pytest.fixture(scope="module", params=BUILDS)
def driver(request, tmp_path_factory):
    """Build the driver once for all tests of a module."""
    real, size, machine = request.param
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.cpp").write_text(DRIVER)
    options = ["-O3", "-shared", *machine, f"-DREGARD_REAL={real}", f"-DREGARD_BYTES={size}"]
    built = compile_headers(folder, *options, "driver.cpp", "-o", "driver.so", "-lm")
    assert built.returncode == 0, built.stderr
    return Driver(folder / "driver.so", {"float": "float32", "double": "float64"}[real])


def samples(dtype):
    """Return numbers of every magnitude and sign, and many of the usual size."""
    rng = np.random.default_rng(0)
    bits = np.uint32 if dtype == np.float32 else np.uint64
    patterns = rng.integers(0, np.iinfo(bits).max, 30_000, dtype=bits, endpoint=True)
    edges = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 88.7, -87.3])
    tiny = [np.finfo(dtype).tiny, -np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max]
    with np.errstate(invalid="ignore"):
        parts = [patterns.view(dtype), rng.uniform(-10, 10, 30_000), rng.uniform(-95, 95, 30_000)]
        return np.concatenate([*parts, edges, tiny]).astype(dtype)


def exactly(function, *arrays):
    """Return a torch function's values in float64."""
    return function(*(torch.from_numpy(a.astype(np.float64)) for a in arrays)).numpy()


def worst_ulps(found, exact, unit=0.0):
    """Return the largest error in units of the last place, at least `unit` each.

    What is not finite must be so exactly. Values that are not normal numbers may be 0.
    """
    info = np.finfo(found.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = exact.astype(found.dtype)
        spacing = np.spacing(np.abs(expected)).astype(np.float64)
    plain = np.isfinite(expected) & np.isfinite(found)
    np.testing.assert_array_equal(found[~plain], expected[~plain])
    flushed = (np.abs(exact) < 1.5 * info.tiny) & (found == 0)
    units = np.maximum(spacing[plain], unit)
    return np.where(flushed[plain], 0, np.abs(found[plain] - exact[plain]) / units).max()


def softplus(x):
    """Return log(1 + exp x)."""
    return torch.logaddexp(x, torch.zeros_like(x))


# Of functions of one number: torch's, the largest error allowed in units of the last place, and
# the least such unit. For float the limits lie just above the errors measured with 4 million
# numbers, fused or not: 1.16, 0.77, 2.37, 2.35, 1.96, 3.87, 1.26, 1.30.
FUNCTIONS = {
    "vexp": (torch.exp, 1.2, 0.0),
    "vlog": (torch.log, 1.0, 0.0),
    "vtanh": (torch.tanh, 2.5, 0.0),
    "vsigmoid": (torch.sigmoid, 2.5, 0.0),
    "vsoftplus": (softplus, 2.2, 0.0),
    "verf": (torch.erf, 4.0, 0.0),
    "vsin": (torch.sin, 1.5, 2.0**-24),
    "vcos": (torch.cos, 1.5, 2.0**-24),
    "vsqrt": (torch.sqrt, 0.51, 0.0),
    "vabs": (torch.abs, 0.0, 0.0),
    "vsign": (torch.sign, 0.0, 0.0),
    "vfloor": (torch.floor, 0.0, 0.0),
    "vrelu": (torch.relu, 0.0, 0.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_exact_to_its_last_places(driver, name):
    function, limit, unit = FUNCTIONS[name]
    if driver.real == np.float64:
        # Two libraries are compared here, neither of them exact.
        limit, unit = 4.0 * (limit > 0), unit * 2.0**-29
    x = samples(driver.real)
    assert worst_ulps(driver.apply(name, x), exactly(function, x), unit) <= limit


def test_exponential_of_nonpositive_numbers_loses_little_far_from_zero(driver):
    x = -np.abs(samples(driver.real))
    near = x[~(x < -20)]
    exact = exactly(torch.exp, x)
    assert worst_ulps(driver.apply("vexp_nonpositive", near), exactly(torch.exp, near)) <= 2.0
    assert worst_ulps(driver.apply("vexp_nonpositive", x), exact) <= 5.0


def test_ends_of_the_exponentials_range(driver):
    ends = np.array([-np.inf, -1e30, -800.0, -0.0, 0.0, 800.0, 1e30, np.inf, np.nan])
    expected = [0, 0, 0, 1, 1, np.inf, np.inf, np.inf, np.nan]
    np.testing.assert_array_equal(driver.apply("vexp", ends), expected)
    np.testing.assert_array_equal(driver.apply("vexp_nonpositive", ends[:5]), expected[:5])
    assert np.isnan(driver.apply("vexp_nonpositive", np.array([np.nan])))


def test_bounded_functions_keep_their_bounds(driver):
    x = samples(driver.real)
    for name in ("vtanh", "verf", "vsin", "vcos", "vsigmoid"):
        found = driver.apply(name, x)
        assert np.nanmax(np.abs(found)) <= 1, name


def test_worst_ulps_rejects_wrong_answers():
    x = np.linspace(1, 2, 100, dtype=np.float32)
    exact = x.astype(np.float64)
    assert worst_ulps(x, exact) == 0
    assert worst_ulps(x * np.float32(1.000001), exact) > 5
    assert worst_ulps(-x, exact) > 1e6
    for wrong in (np.nan, np.inf):
        with pytest.raises(AssertionError, match="not equal"):
            worst_ulps(np.where(x == 1, np.float32(wrong), x), exact)


# There is no -0.0: kernels are compiled without regard to the sign of zero.
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, 1.0, -1.0, 2.0, 3.0, -3.0, 0.5, 5.0, -5.0, 1e9, 7e-3]


def pairs(dtype):
    """Return pairs of special numbers and of random ones, whole and not."""
    rng = np.random.default_rng(1)
    a, b = (part.ravel() for part in np.meshgrid(SPECIAL, SPECIAL))
    whole = rng.integers(-50, 50, (2, 4096))
    wide = rng.normal(size=(2, 4096)) * 10.0 ** rng.integers(-5, 6, (2, 4096))
    return np.concatenate([np.stack([a, b]), whole, wide], axis=1).astype(dtype)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("maximum", torch.maximum),
        ("minimum", torch.minimum),
        ("floor_divide", torch.floor_divide),
        ("remainder", torch.remainder),
        ("vpow", torch.pow),
    ],
)
def test_function_of_two_numbers_is_torchs(driver, name, function):
    a, b = pairs(driver.real)
    expected = function(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    found = driver.apply(name, a, b)
    if name == "vpow":
        info = np.finfo(driver.real)
        np.testing.assert_allclose(found, expected, 4 * info.eps, 2 * info.smallest_subnormal)
    else:
        np.testing.assert_array_equal(found, expected)


def powers(dtype):
    """Return bases and exponents whose powers are spread over the whole range of numbers."""
    rng = np.random.default_rng(5)
    info = np.finfo(dtype)
    base = 2.0 ** rng.uniform(np.log2(info.tiny) * 1.1, np.log2(info.max), 100_000)
    near = 1 + rng.normal(size=20_000) * 10.0 ** rng.integers(-7, 0, 20_000)
    base = np.abs(np.concatenate([base, near])).astype(dtype)
    with np.errstate(divide="ignore"):
        log = np.abs(np.log2(base.astype(np.float64))) + 1e-30
    size = np.minimum(rng.uniform(-1.1, 1.1, base.size) * np.log2(info.max) / log, 1e30)
    return base, size.astype(dtype)


def test_power_is_exact_to_its_last_places(driver):
    base, power = powers(driver.real)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        exact = np.power(base.astype(np.longdouble), power.astype(np.longdouble))
    # Measured for float, not fused: 1.13.
    limit = 1.2 if driver.real == np.float32 else 2.0
    assert worst_ulps(driver.apply("vpow", base, power), exact) <= limit


def test_special_powers_are_those_of_c(driver):
    specials = [*SPECIAL, 1e-40, -1e-40, 0.9999999, -2.5, 16777217.0, 2.0**31, -(2.0**40)]
    a, b = (part.ravel().astype(driver.real) for part in np.meshgrid(specials, specials))
    expected = torch.pow(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    # Lanes that are easy by themselves must not be touched by their neighbours.
    for one, other in ((a, b), (a[::-1], b[::-1]), (np.roll(a, 5), np.roll(b, 5))):
        want = torch.pow(torch.from_numpy(one.copy()), torch.from_numpy(other.copy())).numpy()
        found = driver.apply("vpow", one, other)
        np.testing.assert_allclose(found, want, 4 * np.finfo(driver.real).eps, 1e-44)
    assert np.isnan(expected).any() and np.isinf(expected).any()


def test_powers_that_are_the_same_in_all_lanes(driver):
    a = pairs(driver.real)[0]
    for power in (2.0, 3.0, -1.0, 0.0):
        expected = torch.from_numpy(a).pow(power).numpy()
        found = driver.apply("vpow", a, np.full_like(a, power))
        np.testing.assert_allclose(found, expected, rtol=2 * np.finfo(driver.real).eps)


def test_plain_maximum_gives_the_second_where_either_is_nan(driver):
    a, b = pairs(driver.real)
    np.testing.assert_array_equal(driver.apply("vmax", a, b), np.where(a > b, a, b))
    np.testing.assert_array_equal(driver.apply("vmin", a, b), np.where(a < b, a, b))


def integer_pairs(dtype):
    """Return pairs of integers at the edges of their range and of random size."""
    rng = np.random.default_rng(2)
    info = np.iinfo(dtype)
    edges = [0, 1, -1, 2, -2, 3, 7, -7, info.max, info.max - 1, info.min, info.min + 1, 46341]
    a, b = (part.ravel() for part in np.meshgrid(edges, edges))
    drawn = rng.integers(info.min, info.max, (2, 4096)) >> rng.integers(0, info.bits, (2, 4096))
    return np.concatenate([np.stack([a, b]), drawn], axis=1)


def test_integer_division_is_exact_and_by_zero_gives_0_and_the_dividend(driver):
    a, b = integer_pairs(driver.integer)
    a, b = a[keep := (b != -1) | (a != np.iinfo(driver.integer).min)], b[keep]
    divisor = np.where(b == 0, 1, b)
    quotient = torch.floor_divide(torch.from_numpy(a), torch.from_numpy(divisor)).numpy()
    rest = torch.remainder(torch.from_numpy(a), torch.from_numpy(divisor)).numpy()
    found = driver.apply("floor_divide_int", a, b), driver.apply("remainder_int", a, b)
    np.testing.assert_array_equal(found[0], np.where(b == 0, 0, quotient))
    np.testing.assert_array_equal(found[1], np.where(b == 0, a, rest))


def test_other_functions_of_integers(driver):
    a, b = (part.astype(driver.integer) for part in integer_pairs(driver.integer))
    smallest = a == np.iinfo(driver.integer).min
    np.testing.assert_array_equal(driver.apply("vabs_int", a)[~smallest], np.abs(a[~smallest]))
    np.testing.assert_array_equal(driver.apply("vsign_int", a), np.sign(a))
    np.testing.assert_array_equal(driver.apply("vrelu_int", a), np.maximum(a, 0))
    for name in ("vmax_int", "maximum_int"):
        np.testing.assert_array_equal(driver.apply(name, a, b), np.maximum(a, b))
    for name in ("vmin_int", "minimum_int"):
        np.testing.assert_array_equal(driver.apply(name, a, b), np.minimum(a, b))
    power = b % 41 - 8
    expected = torch.pow(torch.from_numpy(a), torch.from_numpy(power)).numpy()
    np.testing.assert_array_equal(driver.apply("vpow_int", a, power), expected)


def test_vectors_are_made_chosen_and_gathered(driver):
    width, real, integer = driver.width, driver.real, driver.integer
    to = np.empty((6, width), integer)
    for x in (2.0, -2.0):
        driver.call("made", driver.scalar(x), to)
        np.testing.assert_array_equal(to[0].view(real), np.full(width, x))
        np.testing.assert_array_equal(to[1], np.full(width, int(x)))
        np.testing.assert_array_equal(to[2], np.full(width, -int(x > 0)))
        np.testing.assert_array_equal(to[3], np.arange(width))
        np.testing.assert_array_equal(to[4], np.full(width, int(x * 1.75)))
        np.testing.assert_array_equal(to[5].view(real), np.arange(width))
    # One past the start of an array is aligned as little as an element is.
    a, b = np.random.default_rng(3).normal(size=(2, width + 1)).astype(real)
    to = np.empty((2, width), real)
    driver.call("chosen", a[1:], b[1:], to)
    np.testing.assert_array_equal(to[0], np.minimum(a, b)[1:])
    lanes = np.arange(width)
    np.testing.assert_array_equal(to[1].view(integer), np.where(a < b, 1, -1)[1:] * lanes)
    base, index = np.arange(100, dtype=real) / 7, (lanes * 37 % 100).astype(integer)
    driver.call("gathered", base, index, to)
    np.testing.assert_array_equal(to[0], base[index])
    np.testing.assert_array_equal(to[1].view(integer), base.view(integer)[index])


def test_lanes_become_one_value(driver):
    width = driver.width
    for lane in range(width):
        x = -np.arange(1, width + 1, dtype=driver.real)
        x[lane] = 3
        assert driver.call("sum_of_", x) == x.sum()
        assert driver.call("max_of_", x) == 3
        one = np.zeros(width, driver.integer)
        one[lane] = -1
        assert (driver.call("any_", one), driver.call("all_", ~one)) == (1, 0)
        assert driver.call("all_", one) == (width == 1)
    zeros = np.zeros(width, driver.integer)
    assert (driver.call("any_", zeros), driver.call("all_", ~zeros)) == (0, 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_read_as_torch_reads_them(driver, dtype):
    patterns = np.arange(65536, dtype=np.uint16)
    expected = torch.from_numpy(patterns.view(np.int16)).view(dtype).to(torch.float32).numpy()
    blocks, singly = np.empty(65536, driver.real), np.empty(65536, np.float32)
    brain = ctypes.c_int(dtype == torch.bfloat16)
    driver.call("widened", patterns, blocks, singly, 65536, brain)
    np.testing.assert_array_equal(blocks, expected)
    np.testing.assert_array_equal(singly, expected)
    np.testing.assert_array_equal(np.signbit(singly), np.signbit(expected))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bits_are_rounded_as_torch_rounds(driver, dtype):
    every = torch.arange(-32768, 32768, dtype=torch.int16).view(dtype).to(torch.float32).numpy()
    every = every[np.isfinite(every)]
    beside = [np.nextafter(every, np.float32(side)) for side in (np.inf, -np.inf)]
    half_way = every.view(np.uint32) + np.uint32(0x8000 if dtype == torch.bfloat16 else 0x1000)
    x = np.concatenate([samples(np.dtype(np.float32)), every, *beside, half_way.view(np.float32)])
    x = np.resize(x, x.size // 64 * 64)
    expected = torch.from_numpy(x).to(dtype)
    blocks, singly = np.empty((2, x.size), np.uint16)
    brain = ctypes.c_int(dtype == torch.bfloat16)
    driver.call("narrowed", x.astype(driver.real), blocks, singly, x.size, brain)
    numbers = ~torch.isnan(expected).numpy()
    for found in (blocks, singly):
        np.testing.assert_array_equal(
            found[numbers], expected.view(torch.int16).numpy().view(np.uint16)[numbers]
        )
        read = torch.from_numpy(found[~numbers].view(np.int16)).view(dtype)
        assert torch.isnan(read).all()


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1, -5])
def test_random_bits_are_those_of_the_ir(driver, seed):
    place, row = 3, [1, 5, 999]
    columns = np.arange(64, dtype=driver.integer) * 31
    words = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF, place, *row], np.uint32)
    found = np.empty_like(columns)
    driver.call("drawn", words, len(words), columns, found, columns.size)
    at = [torch.tensor(word) for word in row]
    expected = draw_bits(seed, place, [*at, torch.from_numpy(columns.astype(np.int64))])
    np.testing.assert_array_equal(found.astype(np.int64) & 0xFFFFFFFF, expected.numpy())
    assert driver.call("drawn_once", words, len(words)) == draw_bits(seed, place, at).item()
