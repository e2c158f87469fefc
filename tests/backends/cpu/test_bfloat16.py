"""Products of bfloat16 by matrix units, emulated; where a processor has them, by themselves too.

The emulation follows Intel's pseudocode, and the kernels are the same text for both. Elsewhere the
kernels are compiled for such processors, which checks that every instruction can be assembled.
"""

import ctypes
import signal
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import regard as rg
from regard.backends.cpu import module
from regard.backends.cpu.kernel import _compile
from regard.backends.cpu.matrix import EMULATED, VARIABLE, matrix_defines
from regard.errors import UnsupportedError
from regard.ops.kind import kind_of
from regard.ops.plan import compiled, make_plan
from regard.testing.accuracy import worst_error
from tests.backends.cpu.headers import compile_headers
from tests.backends.cpu.programs import rows

GOLDEN = Path(__file__).parents[2] / "golden"
FLAGS = ["-O2", "-Wno-unused-parameter", "-Wno-unused-function", "-Wno-unknown-pragmas"]
MACROS = {"amx": "REGARD_AMX", "avx512bf16": "REGARD_AVX512BF16"}
UNITS = [unit + suffix for unit in MACROS for suffix in (EMULATED, "")]
# Flags by which a compiler for any x86 knows the instructions.
REAL = {
    "REGARD_AMX": "-mavx512f -mavx512bw -mavx512bf16 -mamx-tile -mamx-bf16".split(),
    "REGARD_AVX512BF16": "-mavx512f -mavx512bw -mavx512bf16".split(),
}

DRIVER = """
#define REGARD_QUERY_BLOCK 96
#define REGARD_KEY_BLOCK 256
#define REGARD_QUERY_STEP 32
#define REGARD_KEY_STEP 64
#include "halves.h"
using namespace regard;

// Every bit set: numbers that nobody wrote are NaN.
static real* numbers(int64_t count) {
  void* found = __builtin_malloc(count * 4 + 64);
  __builtin_memset(found, -1, count * 4 + 64);
  return (real*)found;
}
static Input matrix(const uint16_t* data, int64_t columns) {
  return {(const char*)data, BFLOAT16, 0, 0, columns, 1, 1, columns};
}

extern "C" {
// b is `depth` rows, of which the first `skipped` have no part, or, as columns, `columns` rows.
int product(int rows, int columns, int depth, const uint16_t* a, const uint16_t* b, int as_columns,
            int skipped, real* c, int c_row, int add) {
  [[maybe_unused]] const Tiles tiles;
  real* left = numbers(bf16_rows_size(rows, depth));
  const int all = depth + skipped;
  const int64_t size = as_columns ? bf16_rows_size(columns, depth) : bf16_panels_size(all, columns);
  real* right = numbers(size);
  real* line = numbers(padded(columns, DEPTH_STEP) + padded(depth, DEPTH_STEP));
  bool good = lay_bf16_rows(matrix(a, depth), 0, 0, 0, rows, left);
  good &= as_columns ? lay_bf16_columns(matrix(b, depth), 0, 0, 0, columns, right, line)
                     : lay_bf16_panels(matrix(b, columns), 0, 0, 0, all, right, all, line);
  const Bf16Panels panels =
      as_columns ? bf16_columns(right, depth, 0) : bf16_panels(right, all, skipped);
  multiply_bf16(rows, columns, depth, bf16_left(left, depth, 0), panels, c, c_row, add);
  __builtin_free(left), __builtin_free(right), __builtin_free(line);
  return good;
}
// Weights lie as scores do; transposed ones are depth × rows. What they become is rows × to_row.
void round_weights(int rows, int depth, const real* from, int transposed, uint16_t* to,
                   int to_row) {
  (transposed ? round_columns : round_rows)(rows, depth, from, SCORE_ROW, to, to_row);
}
int score_row() { return SCORE_ROW; }
void dot_pairs(const float* sum, const uint32_t* a, const uint32_t* b, float* to) {
  Floats sums;
  Couples x, y;
  __builtin_memcpy(&sums, sum, 64), __builtin_memcpy(&x, a, 64), __builtin_memcpy(&y, b, 64);
  sums = add_products(sums, x, y);
  __builtin_memcpy(to, &sums, 64);
}
void one_tile(int rows, int couples, int columns, const uint16_t* a, const uint16_t* b, float* c) {
  TileConfig config{};
  config.palette = 1;
  const int sizes[3][3] = {{0, rows, columns}, {4, rows, couples}, {6, couples, columns}};
  for (auto& size : sizes) config.rows[size[0]] = size[1], config.row_bytes[size[0]] = 4 * size[2];
  if (rows) configure_tiles(config);
  load_tile<0>(c, 64), load_tile<4>(a, 64), load_tile<6>(b, 64);
  multiply_tiles<0, 4, 6>();
  store_tile<0>(c, 64);
  release_tiles();
}
}
"""


def bits(x):
    """Return the 16 bits of numbers that are bfloat16 already."""
    tensor = torch.tensor(np.ascontiguousarray(x), dtype=torch.float32).bfloat16()
    assert np.array_equal(tensor.double().numpy(), x)
    return tensor.view(torch.int16).numpy()


def at(array):
    return array.ctypes.data_as(ctypes.c_void_p)  # which keeps the array alive


def build(folder, macros, machine, source, output):
    defines = [f"-D{one}" for one in macros]
    return compile_headers(folder, *FLAGS, *machine, *defines, *source, *output)


@pytest.fixture(scope="module", params=MACROS.values())
def driver(request, tmp_path_factory):
    """The driver of one unit, emulated."""
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.cpp").write_text(DRIVER, encoding="utf-8")
    macros = [request.param, "REGARD_EMULATE", "REGARD_REAL=float", "REGARD_BYTES=16"]
    built = build(folder, macros, [], ["driver.cpp"], ["-shared", "-o", "driver.so"])
    assert built.returncode == 0, built.stderr
    return ctypes.CDLL(str(folder / "driver.so"))


# ── The emulated instructions ─────────────────────────────────────────────────────────────────
def tiles(driver, a, b, c):
    """C + A · B by one multiplication of tiles; tiles are padded as memory is."""
    held = [np.zeros((16, 32), np.int16), np.zeros((16, 32), np.int16)]
    (n, k), m = a.shape, b.shape[1] // 2
    held[0][:n, :k], held[1][: k // 2, : 2 * m] = bits(a), bits(b)
    found = np.full((16, 16), 7, np.float32)
    found[:n, :m] = c
    driver.one_tile(n, k // 2, m, at(held[0]), at(held[1]), at(found))
    return found


def test_tiles_add_firsts_and_seconds_apart_and_then_to_the_sum(driver):
    # 2²⁴ + 1 is 2²⁴ in float32: only where firsts are summed alone are both ones still there.
    a, b = np.array([[2.0**24, 1, -(2.0**24), 1]]), np.ones((2, 2))
    assert tiles(driver, a, b, np.zeros((1, 1)))[0, 0] == 2


def test_dots_of_couples_add_the_second_and_then_the_first(driver):
    found, sums = np.empty(16, np.float32), np.zeros(16, np.float32)
    a, ones = bits(np.tile([2.0**24, 1], 16)), bits(np.ones(32))
    driver.dot_pairs(at(sums), at(a), at(ones), at(found))
    assert np.all(found == 2.0**24)
    sums[:] = -(2.0**24)
    driver.dot_pairs(at(sums), at(a), at(ones), at(found))
    assert np.all(found == 1)


@pytest.mark.parametrize("size", [2.0**-130, -(2.0**-127)])
def test_denormals_are_zeros(driver, size):
    found, sums = np.empty(16, np.float32), np.zeros(16, np.float32)
    a, b = bits(np.full(32, size)), bits(np.full(32, 2.0**100))
    driver.dot_pairs(at(sums), at(a), at(b), at(found))
    assert np.all(found == 0)
    assert tiles(driver, np.full((1, 2), size), np.full((1, 2), 2.0**100), 1.0)[0, 0] == 1


def test_results_that_would_be_denormal_are_zeros(driver):
    found, sums = np.empty(16, np.float32), np.zeros(16, np.float32)
    small = np.full(32, 2.0**-65)
    driver.dot_pairs(at(sums), at(bits(small)), at(bits(small)), at(found))
    assert np.all(found == 0)
    assert tiles(driver, small[None, :2], small[None, :2], np.zeros((1, 1)))[0, 0] == 0


@pytest.mark.parametrize(("n", "couples", "m"), [(1, 1, 1), (3, 2, 5), (16, 16, 16), (7, 16, 2)])
def test_tiles_reach_as_far_as_they_are_configured(driver, n, couples, m):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 9, (n, 2 * couples)), rng.integers(-8, 9, (2 * couples, m))
    c = rng.integers(-8, 9, (n, m))
    # A row of the second tile holds couples: two rows of b side by side.
    found = tiles(driver, a, b.reshape(couples, 2, m).swapaxes(1, 2).reshape(couples, 2 * m), c)
    assert np.array_equal(found[:n, :m], a @ b + c)
    found[:n, :m] = 7
    assert np.all(found == 7)


def test_tiles_that_were_not_configured_fault(driver):
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).one_tile(0, 0, 0, *[bytes(1024)] * 3)"
    done = subprocess.run([sys.executable, "-c", code, driver._name], check=False)
    assert done.returncode in (-signal.SIGILL, -signal.SIGTRAP)


# ── Products ──────────────────────────────────────────────────────────────────────────────────
ROWS, COLUMNS, DEPTHS = (1, 4, 15, 16, 17, 33, 96), (1, 8, 16, 24, 40, 80), (1, 2, 31, 33, 80, 130)


def multiply(driver, a, b, as_columns=False, skipped=0, c=None):
    """a · b, + c if given, where it lies among other numbers, which must stay as they are."""
    (n, k), m = a.shape, b.shape[1]
    lies = np.full((n + 2, m + 3), 7, np.float32)
    lies[:n, :m] = np.nan if c is None else c
    right = bits(b.T if as_columns else np.concatenate([np.full((skipped, m), 3.0), b]))
    left = bits(a)
    good = driver.product(
        n, m, k, at(left), at(right), as_columns, skipped, at(lies), m + 3, c is not None
    )
    assert good
    found = lies[:n, :m].copy()
    lies[:n, :m] = 7
    assert np.all(lies == 7)
    return found


@pytest.mark.parametrize("as_columns", [False, True])
@pytest.mark.parametrize("n", ROWS)
def test_products_of_any_shape_are_exact_where_sums_are(driver, n, as_columns):
    # Sums of 130 products of at most 64 are whole numbers that float32 holds.
    rng = np.random.default_rng(n)
    for m in COLUMNS:
        for k in DEPTHS:
            a, b, c = (rng.integers(-8, 9, shape) for shape in ((n, k), (k, m), (n, m)))
            assert np.array_equal(multiply(driver, a, b, as_columns), a @ b)
            assert np.array_equal(multiply(driver, a, b, as_columns, c=c), a @ b + c)


@pytest.mark.parametrize("skipped", [32, 64, 192])
def test_first_rows_of_panels_may_have_no_part(driver, skipped):
    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 9, (17, 40)), rng.integers(-8, 9, (40, 24))
    assert np.array_equal(multiply(driver, a, b, skipped=skipped), a @ b)


@pytest.mark.parametrize(("n", "m", "k"), [(1, 8, 1), (17, 40, 33), (96, 80, 130), (5, 16, 1024)])
def test_products_err_as_float32_sums_do(driver, n, m, k):
    a, b = (torch.randn(shape).bfloat16().double().numpy() for shape in ((n, k), (k, m)))
    c = np.random.default_rng(0).standard_normal((n, m)).astype(np.float32)
    found = multiply(driver, a, b, c=c)
    # Higham 2002, lemma 8.4: a sum of so many terms in any order; products of bfloat16 are exact.
    allowed = (k + 2) * 2.0**-24 * (np.abs(a) @ np.abs(b) + np.abs(c))
    assert np.all(np.abs(found - (a @ b + c)) <= allowed)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("as_columns", [False, True])
def test_rows_that_are_not_finite_are_noticed(driver, as_columns, bad):
    whole = torch.ones(3, 3).bfloat16()
    broken = whole.clone()
    broken[2, 2] = bad
    c = np.zeros((3, 3), np.float32)
    for pair in ((whole, broken), (broken, whole)):
        a, b = (x.view(torch.int16).numpy() for x in pair)
        assert not driver.product(3, 3, 3, at(a), at(b), as_columns, 0, at(c), 3, 0)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("n", "k"), [(1, 1), (17, 63), (96, 64), (33, 96)])
def test_weights_are_rounded_to_even_and_filled_up_with_zeros(driver, n, k, transposed):
    shape = (k, n) if transposed else (n, k)
    weights = torch.full((shape[0], driver.score_row()), torch.nan)
    weights[:, : shape[1]] = torch.randn(shape)
    room = -(-k // 32) * 32
    found = np.full((-(-n // 16) * 16, room + 32), 7, np.int16)
    given = weights.numpy()
    driver.round_weights(n, k, at(given), int(transposed), at(found), room + 32)
    expected = weights[:, : shape[1]].bfloat16().view(torch.int16).numpy()
    assert np.array_equal(found[:n, :k], expected.T if transposed else expected)
    assert np.all(found[:n, k:room] == 0) and np.all(found[:, room:] == 7)


# ── Attention ─────────────────────────────────────────────────────────────────────────────────
SHAPES = [(1, 64, 64), (17, 8, 8), (63, 20, 20), (130, 80, 80), (300, 64, 64), (130, 128, 128)]
UNEVEN = [(1, 8, 20), (17, 64, 80), (63, 20, 8), (130, 128, 80), (130, 20, 130)]
# Beside bfloat16 results of float32 products, which err by one rounding at the end: weights and
# adjoints are rounded too, each as coarsely. Over 120 calls it was 3.2 times at most.
MORE_ROUNDINGS = 4.0
# Beside torch's, which rounds the same numbers, the mean of squares may differ by chance; the
# largest of a few hundred errors varies more, over 120 calls by 1.4 times at most.
AS_MUCH, LARGEST = 1.05, 1.5


@rg.program
def full(pair):
    return rg.softmax(0.25 * rg.dot(pair.q, pair.k))


@rg.program
def causal(pair):
    return rg.softmax(0.25 * rg.dot(pair.q, pair.k), where=pair.j <= pair.i)


@rg.program
def mixed(pair):
    """Rows that a product reads, and a sum over channels, and a product with rows of float32."""
    bent = rg.sum(rg.tanh(pair.q + pair.k))
    return rg.softmax(0.25 * rg.dot(pair.q, pair.k) + 0.1 * bent + rg.dot(0.3 * pair.q, pair.k))


def eager_mixed(q, k, v):
    q, k, v = q.float(), k.float().repeat_interleave(2, 1), v.float().repeat_interleave(2, 1)
    bent = torch.tanh(q.unsqueeze(3) + k.unsqueeze(2)).sum(-1)
    return (torch.softmax(0.55 * q @ k.mT + 0.1 * bent, -1) @ v).bfloat16()


def sdpa(is_causal, repeated):
    """Torch's attention: over repeated heads its fused kernel, else in float32."""

    def attend(q, k, v):
        if repeated:
            k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=is_causal, scale=0.25, enable_gqa=not repeated
        )

    return attend


def forget():
    """Let the unit, and all that was compiled for it, be found anew."""
    for known in (matrix_defines, kind_of, make_plan, compiled, _compile):
        known.cache_clear()


@pytest.fixture(params=UNITS)
def unit(request, monkeypatch):
    """A process that uses a unit, or emulates it; yields what its libraries are built with."""
    monkeypatch.setenv(VARIABLE, request.param)
    forget()
    try:
        yield set(matrix_defines())
    except UnsupportedError as reason:
        pytest.skip(str(reason))
    finally:
        forget()


def ours(program, **options):
    return lambda **rows: rg.attend(program, **rows, **options)


def outcome(attend, tensors):
    """What a function of q, k and v returns, and what they receive for the same adjoint."""
    given = {name: x.clone().requires_grad_() for name, x in tensors.items()}
    output = attend(**given)
    adjoint = torch.randn(output.shape, generator=torch.Generator().manual_seed(7)).bfloat16()
    found = torch.autograd.grad(output, list(given.values()), adjoint.to(output.dtype))
    return {"output": output.detach(), **dict(zip(given, found, strict=True))}


def exactly(program, tensors, **options):
    double = {name: x.double() for name, x in tensors.items()}
    return outcome(ours(program, backend="reference", **options), double)


def mean_error(found, exact):
    return (found.double() - exact).square().mean().sqrt().item()


def assert_little_worse(found, peer, exact, slack, error=worst_error):
    """Fail unless each result errs at most `slack` times as much as a peer's does."""
    for name, value in exact.items():
        # Where all terms cancel, what is left is float32's rounding of some hundred terms near 1.
        allowed = slack * error(peer[name], value) + 2.0**-16
        assert found[name].dtype == torch.bfloat16
        assert error(found[name], value) <= allowed, f"{name}: {error(found[name], value):.2e}"


@lru_cache
def case(program, n, d, e, repeated):
    """Rows, what they give exactly, and what torch makes of them: the same for all units."""
    torch.manual_seed(n)
    tensors = rows(b=2, h=2, g=1, n=n, m=n, d=d, e=e, dtype=torch.bfloat16)
    peer = outcome(sdpa(program is causal, repeated), tensors)
    return tensors, exactly(program, tensors), peer


@pytest.mark.parametrize(("n", "d", "e"), SHAPES)
@pytest.mark.parametrize("program", [full, causal], ids=lambda p: p.name)
def test_attention_errs_as_much_as_that_of_torch(unit, program, n, d, e):
    tensors, exact, peer = case(program, n, d, e, repeated=True)
    found = outcome(ours(program, backend="cpu"), tensors)
    assert_little_worse(found, peer, exact, LARGEST)
    if n > 1:
        assert_little_worse(found, peer, exact, AS_MUCH, mean_error)


@pytest.mark.parametrize(("n", "d", "e"), UNEVEN)
@pytest.mark.parametrize("program", [full, causal], ids=lambda p: p.name)
def test_values_may_be_wider_or_narrower_than_keys(unit, program, n, d, e):
    tensors, exact, peer = case(program, n, d, e, repeated=False)
    found = outcome(ours(program, backend="cpu"), tensors)
    assert_little_worse(found, peer, exact, MORE_ROUNDINGS)


@pytest.mark.parametrize(("n", "m"), [(1, 17), (97, 257), (63, 300)])
def test_products_share_rows_with_channel_sums_and_float32(unit, n, m):
    tensors = rows(h=2, g=1, n=n, m=m, d=20, e=24, dtype=torch.bfloat16)
    found = outcome(ours(mixed, backend="cpu"), tensors)
    assert_little_worse(
        found, outcome(eager_mixed, tensors), exactly(mixed, tensors), MORE_ROUNDINGS
    )


def test_rows_beyond_their_length_are_not_there(unit):
    tensors = rows(b=2, h=2, g=2, n=97, m=300, d=20, e=24, dtype=torch.bfloat16)
    lengths = {"query_lengths": [97, 33], "key_lengths": [141, 300]}
    found = outcome(ours(full, backend="cpu", **lengths), tensors)
    exact = exactly(full, tensors, **lengths)
    rounded = {name: value.bfloat16() for name, value in exact.items()}
    assert_little_worse(found, rounded, exact, MORE_ROUNDINGS)


def test_channels_and_rows_may_lie_apart(unit):
    wide = rows(h=2, g=2, n=70, m=180, d=40, e=48, dtype=torch.bfloat16)
    views = {name: x[:, :, ::2, 1::2] for name, x in wide.items()}
    found = ours(full, backend="cpu")(**views)
    dense = {name: x.contiguous() for name, x in views.items()}
    assert torch.equal(found, ours(full, backend="cpu")(**dense))


def test_weights_of_a_flipped_sign_or_a_lost_key_are_noticed(unit):
    tensors = rows(h=4, g=2, n=63, m=63, d=20, e=20, dtype=torch.bfloat16)
    exact, peer = exactly(full, tensors), outcome(sdpa(False, repeated=True), tensors)
    short = {name: x if name == "q" else x[:, :, :-1] for name, x in tensors.items()}
    for wrong in ({**tensors, "q": -tensors["q"]}, short):
        output = ours(full, backend="cpu")(**wrong)
        with pytest.raises(AssertionError, match="output"):
            assert_little_worse({"output": output}, peer, {"output": exact["output"]}, LARGEST)


# ── Which libraries are built ─────────────────────────────────────────────────────────────────
@pytest.fixture
def built(monkeypatch):
    """The macros of the libraries that are loaded, in order."""
    seen = []

    def noted(source, name, defines):
        seen.append(set(defines))
        return load(source, name, defines)

    load = module.load_library
    monkeypatch.setattr(module, "load_library", noted)
    return seen


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_rows_of_bfloat16_alone_take_a_library_of_their_own(unit, built, dtype):
    ours(full, backend="cpu")(**rows(dtype=dtype))
    (defines,) = built
    assert defines & {*MACROS.values(), "REGARD_EMULATE"} == (
        unit if dtype == torch.bfloat16 else set()
    )


def test_decoding_takes_no_unit(unit, built):
    ours(full, backend="cpu")(**rows(n=1, m=600, dtype=torch.bfloat16))
    (defines,) = built
    assert not unit & defines


# ── Code for the real instructions ────────────────────────────────────────────────────────────
@pytest.mark.parametrize("sweep", ["forward", "backward"])
@pytest.mark.parametrize("macro", REAL)
def test_kernels_compile_for_processors_that_have_the_unit(tmp_path, macro, sweep):
    (tmp_path / "empty.cpp").write_text("", encoding="utf-8")
    known = build(tmp_path, [], REAL[macro], ["-c", "empty.cpp"], ["-o", "empty.o"])
    if known.returncode:
        pytest.skip(f"the compiler knows no {' '.join(REAL[macro])}")
    macros = [macro, "REGARD_REAL=float", "REGARD_BYTES=64"]
    source = ["-save-temps=obj", "-c", str(GOLDEN / f"near-{sweep}.cpp")]
    built = build(tmp_path, macros, REAL[macro], source, ["-o", str(tmp_path / "near.o")])
    assert built.returncode == 0, built.stderr
    (assembly,) = tmp_path.glob("*near*.s")
    multiplies = {"REGARD_AMX": "tdpbf16ps", "REGARD_AVX512BF16": "vdpbf16ps"}[macro]
    text = assembly.read_text(encoding="utf-8")
    assert text.count(multiplies) >= 8 and "vcvtne2ps2bf16" in text
