// Functions of vectors of numbers: exp and its relatives, the trigonometric pair, powers, rounding
// and division with torch's meaning.
//
// For float, each is a polynomial or rational function after a reduction of the range, written so
// that NaN, infinities and the ends of the range need few extra instructions. For double, which
// is there to check kernels and not to be fast, each lane calls the C library. Errors are measured
// in tests/backends/cpu/test_simd.py.
//
// "Fitted" constants minimise the largest relative error over the stated range, by least squares
// in float64 whose weights are multiplied by the errors until these are level (C. L. Lawson, 1961).
#pragma once

#include "simd.h"

namespace regard {

constexpr bool SINGLE = sizeof(real) == 4;
typedef float Eight __attribute__((vector_size(32)));

#if defined(__FMA__) || defined(__aarch64__)
constexpr bool FUSED = true;  // a * b + c is rounded once
#else
constexpr bool FUSED = false;
#endif

template <class F> REGARD_INLINE Vec each_lane(Vec x, F function) {
  for (int lane = 0; lane < W; ++lane) x[lane] = function(real(x[lane]));
  return x;
}

// c[0] + c[1] x + c[2] x² + …
template <int n> REGARD_INLINE Vec polynomial(Vec x, const float (&c)[n]) {
  Vec found = splat(c[n - 1]);
  // Left to itself at -O2, GCC 12 keeps the loop and its coefficients in memory.
#pragma GCC unroll 16
  for (int power = n - 2; power >= 0; --power) found = found * x + real(c[power]);
  return found;
}

// ---- signs and rounding ----------------------------------------------------------------------

constexpr natural SIGN = natural(1) << (8 * sizeof(real) - 1);

REGARD_INLINE Vec vabs(Vec x) { return from_bits(bits_of(x) & ~SIGN); }
REGARD_INLINE Int vabs(Int x) { return select(x < 0, -x, x); }

// torch.sign of NaN is 0.
REGARD_INLINE Vec vsign(Vec x) { return to_real((x < real(0)) - (x > real(0))); }
REGARD_INLINE Int vsign(Int x) { return (x < 0) - (x > 0); }

// NaN stays, because it is the second argument.
REGARD_INLINE Vec vrelu(Vec x) { return vmax(Vec{}, x); }
REGARD_INLINE Int vrelu(Int x) { return vmax(Int{}, x); }

REGARD_INLINE Vec vfloor(Vec x) {
#if __has_builtin(__builtin_elementwise_floor)
  return __builtin_elementwise_floor(x);
#else
#if defined(__AVX2__) && REGARD_BYTES == 32
  constexpr int down = 9;  // _MM_FROUND_FLOOR
  if constexpr (SINGLE) return (Vec)__builtin_ia32_roundps256((Eight)x, down);
#endif
  if constexpr (!SINGLE) return each_lane(x, [](real a) { return real(__builtin_floor(a)); });
  Vec cut = to_real(to_int(x));
  cut = cut + to_real(cut > x);
  return select(vabs(x) < real(0x1p23), cut, x);  // larger numbers are whole
#endif
}

// GCC finds the instruction for a lane, not for the vector.
REGARD_INLINE Vec vsqrt(Vec x) {
#if __has_builtin(__builtin_elementwise_sqrt)
  return __builtin_elementwise_sqrt(x);
#else
#if defined(__AVX2__) && REGARD_BYTES == 32
  if constexpr (SINGLE) return (Vec)__builtin_ia32_sqrtps256((Eight)x);
#endif
  return each_lane(x, [](real a) { return real(SINGLE ? __builtin_sqrtf(a) : __builtin_sqrt(a)); });
#endif
}

// ---- the exponential -------------------------------------------------------------------------

constexpr float LOG2_E = 1.44269504088896341f;
constexpr float LN_2 = 0.693147180559945309f;
// ln 2 in two parts; the first has few bits, so that its multiples are exact (Cephes, expf).
constexpr float LN_2_HIGH = 0.693359375f;
constexpr float LN_2_LOW = -2.12194440e-4f;

// Adding it rounds a float to an integer, which is then in the sum's last bits.
constexpr float ROUNDER = 12582912.0f;  // 1.5 · 2^23

// 2 exp r for |r| ≤ ln 2 / 2.
REGARD_INLINE Vec double_exp(Vec r) {
  // Fitted: the relative error of the polynomial is 3e-9 for |r| ≤ 0.3475.
  constexpr float c[] = {2.0f,           2.0f,           0.99999988f,  0.33333039f,
                         0.083336808f,   0.016737798f,   0.0027628443f};
  return polynomial(r, c);
}

// exp x for x in [-87.34, 89], or NaN: 2^n exp r, with |r| ≤ ln 2 / 2. Parts: those of ln 2.
//
// The polynomial gives 2 exp r and is multiplied by 2^(n-1), so that n may be 128; for n = -126
// that factor's bits are 0, which makes everything smaller 0, and no result denormal (and slow).
template <int parts> REGARD_INLINE Vec exp_in_range(Vec x) {
  constexpr real rounder = ROUNDER + 126;
  Vec shifted = x * real(LOG2_E) + rounder;
  Vec n = shifted - rounder;
  Vec r;
  if constexpr (parts == 1) {
    r = x - n * real(LN_2);
  } else {
    r = x - n * real(LN_2_HIGH);
    r = r - n * real(LN_2_LOW);
  }
  return double_exp(r) * from_bits(bits_of(shifted) << 23);
}

// 0 where it would be below 2^-125.5. NaN passes both bounds, because it is the second argument.
REGARD_INLINE Vec vexp(Vec x) {
  if constexpr (!SINGLE) return each_lane(x, [](real a) { return real(__builtin_exp(a)); });
  x = vmin(splat(real(89.0f)), vmax(splat(real(-87.34f)), x));
  return exp_in_range<2>(x);
}

// exp x for x ≤ 0, as softmax needs it. ln 2 in one part adds |x| 3e-9 to the relative error: of
// weights that matter in a sum with a weight of 1, less than the last bit.
REGARD_INLINE Vec vexp_nonpositive(Vec x) {
  if constexpr (!SINGLE) return vexp(x);
  return exp_in_range<FUSED ? 1 : 2>(vmax(splat(real(-87.34f)), x));
}

// ---- what follows from it --------------------------------------------------------------------

// tanh(y/2) for y in [0, 20], or NaN. With m = exp y - 1 it is m / (m + 2), and m is found without
// the cancellation near 0. From y = 18.03 on, the result is 1.
REGARD_INLINE Vec tanh_of_half(Vec y) {
  // Fitted: (exp r - 1 - r) / r², the relative error of exp r - 1 is 1.4e-8 for |r| ≤ 0.3475.
  constexpr float c[] = {0.49999997f, 0.16666542f, 0.041667204f, 0.0083666919f, 0.0013882489f};
  constexpr real rounder = ROUNDER + 127;
  Vec shifted = y * real(LOG2_E) + rounder;
  Vec r = y - (shifted - rounder) * real(LN_2);
  Vec power = from_bits(bits_of(shifted) << 23);  // 2^n
  Vec less_one = (r * r) * polynomial(r, c) + r;  // exp r - 1
  Vec m = power * less_one + (power - real(1));
  return m / (m + real(2));
}

// Sizes, with the signs of x.
REGARD_INLINE Vec with_sign(Vec sizes, Vec x) {
  return from_bits(bits_of(sizes) | (bits_of(x) & SIGN));
}

REGARD_INLINE Vec vtanh(Vec x) {
  if constexpr (!SINGLE) return each_lane(x, [](real a) { return real(__builtin_tanh(a)); });
  Vec size = vabs(x);
  return with_sign(tanh_of_half(vmin(splat(real(20)), size + size)), x);
}

// erf x = tanh(x g(x²) / 2) with a function g that a polynomial follows well.
REGARD_INLINE Vec verf(Vec x) {
  if constexpr (!SINGLE) return each_lane(x, [](real a) { return real(__builtin_erf(a)); });
  // Fitted: the relative error of erf x is 1e-8 for |x| ≤ 3.95.
  constexpr float g[] = {2.25675836f,     0.205544349f,   -4.13411673e-4f, -1.19041395e-3f,
                         1.3846134e-4f,   2.73740033e-6f, -2.59953602e-6f, 3.15333231e-7f,
                         -1.71522074e-8f, 3.6347518e-10f};
  Vec size = vmin(splat(real(3.95f)), vabs(x));  // erf 3.95 is 1 in float
  return with_sign(tanh_of_half(size * polynomial(size * size, g)), x);
}

REGARD_INLINE Vec vsigmoid(Vec x) { return real(1) / (real(1) + vexp(-x)); }

// ---- the logarithm ---------------------------------------------------------------------------

// log x for a normal x > 0 times 2^-shift: x is 2^e (1 + f) with 1 + f in [√½, √2).
REGARD_INLINE Vec log_of_normal(Vec x, Int shift) {
  // Cephes, logf: (log(1 + f) - f + f²/2) / f³.
  constexpr float c[] = {3.3333331174e-1f,  -2.4999993993e-1f, 2.0000714765e-1f,
                         -1.6668057665e-1f, 1.4249322787e-1f,  -1.2420140846e-1f,
                         1.1676998740e-1f,  -1.1514610310e-1f, 7.0376836292e-2f};
  constexpr natural sqrt_half = 0x3F3504F3;
  Uint above = bits_of(x) - sqrt_half;
  Vec e = to_real(((Int)above >> 23) - shift);
  Vec f = from_bits((above & natural(0x7FFFFF)) + sqrt_half) - real(1);
  Vec square = f * f;
  Vec small = f * square * polynomial(f, c) + e * real(LN_2_LOW);
  return (small - real(0.5f) * square + f) + e * real(LN_2_HIGH);
}

REGARD_INLINE Vec vlog(Vec x) {
  if constexpr (!SINGLE) return each_lane(x, [](real a) { return real(__builtin_log(a)); });
  Int denormal = x < real(0x1p-126f);
  Vec found = log_of_normal(select(denormal, x * real(0x1p23f), x), denormal & 23);
  found = select(x == real(__builtin_inff()), x, found);
  found = select(x == real(0), splat(-__builtin_inff()), found);
  return select(x >= real(0), found, splat(__builtin_nanf("")));
}

// log(1 + exp x) = max(x, 0) + log(1 + e), with e = exp -|x|; what 1 + e rounds away is added.
REGARD_INLINE Vec vsoftplus(Vec x) {
  Vec e = vexp(-vabs(x)), sum = e + real(1);
  if constexpr (!SINGLE) {
    return vrelu(x) + each_lane(e, [](real a) { return real(__builtin_log1p(a)); });
  }
  return vrelu(x) + (log_of_normal(sum, Int{}) + (e - (sum - real(1))) / sum);
}

// ---- sine and cosine -------------------------------------------------------------------------

// The sine of x + quarters · π/2, for |x| ≤ 8192.
REGARD_INLINE Vec sine_in_range(Vec x, natural quarters) {
  // Cephes, sinf.c: (sin r - r) / r³ and (cos r - 1 + r²/2) / r⁴ by powers of r², for |r| ≤ π/4.
  constexpr float s[] = {-1.6666654611e-1f, 8.3321608736e-3f, -1.9515295891e-4f};
  constexpr float c[] = {4.166664568298827e-2f, -1.388731625493765e-3f, 2.443315711809948e-5f};
  Vec shifted = x * real(0.636619772367581343f) + real(ROUNDER);
  Vec n = shifted - real(ROUNDER);
  // π/2 in parts of few bits, whose multiples up to 5216 are exact (Cephes, sinf.c, doubled).
  Vec r = x - n * real(1.5703125f);
  r = r - n * real(4.837512969970703125e-4f);
  r = r - n * real(7.549789948768648e-8f);
  Vec square = r * r;
  Vec sine = r * square * polynomial(square, s) + r;
  Vec cosine = square * square * polynomial(square, c) - real(0.5f) * square + real(1);
  Uint quadrant = bits_of(shifted) + quarters;
  Vec found = select((Int)(quadrant & natural(1)) != 0, cosine, sine);
  return from_bits(bits_of(found) ^ ((quadrant & natural(2)) << 30));
}

// Replace the lanes beyond 8192, infinite or NaN.
template <class F> REGARD_INLINE Vec with_far_lanes(Vec found, Vec x, F function) {
  Int far = ~(vabs(x) <= real(8192));
  if (__builtin_expect(any(far), 0)) {
    for (int lane = 0; lane < W; ++lane) {
      if (far[lane]) found[lane] = function(float(x[lane]));
    }
  }
  return found;
}

REGARD_INLINE Vec vsin(Vec x) {
  if constexpr (!SINGLE) return each_lane(x, [](real a) { return real(__builtin_sin(a)); });
  return with_far_lanes(sine_in_range(x, 0), x, [](float a) { return __builtin_sinf(a); });
}

REGARD_INLINE Vec vcos(Vec x) {
  if constexpr (!SINGLE) return each_lane(x, [](real a) { return real(__builtin_cos(a)); });
  return with_far_lanes(sine_in_range(x, 1), x, [](float a) { return __builtin_cosf(a); });
}

// ---- powers ----------------------------------------------------------------------------------

typedef double Wide __attribute__((vector_size(W * 8)));

// log₂ x of floats in [2^-149, 2^128), to 36 bits: an exponent's relative error grows by y log x.
REGARD_INLINE Wide log2_of(Vec x) {
  // Fitted: (log₂(1 + t) - log₂(1 - t)) / t by powers of t², to 4e-12 for |t| ≤ (√2 - 1) / (√2 + 1).
  constexpr double c[] = {2.8853900817899927, 0.9617966734433031, 0.5770835676944056,
                          0.4116736586240596, 0.3407141381374431};
  constexpr natural sqrt_half = 0x3F3504F3;
  Int denormal = x < real(0x1p-126f);
  Uint above = bits_of(select(denormal, x * real(0x1p23f), x)) - sqrt_half;
  Int e = ((Int)above >> 23) - (denormal & 23);
  Wide m = __builtin_convertvector(from_bits((above & natural(0x7FFFFF)) + sqrt_half), Wide);
  Wide t = (m - 1.0) / (m + 1.0), square = t * t;
  Wide found = square * c[4] + c[3];
#pragma GCC unroll 16
  for (int power = 2; power >= 0; --power) found = found * square + c[power];
  return found * t + __builtin_convertvector(e, Wide);
}

// 2^z; beyond float's range 0 or infinity.
REGARD_INLINE Vec exp2_of(Wide z) {
  constexpr double rounder = 6755399441055744.0;  // 1.5 · 2^52
  Wide n = (z + rounder) - rounder;
  Vec r = __builtin_convertvector((z - n) * 0.693147180559945309, Vec);
  // Two factors, neither of which leaves the range before the result does.
  Int whole = __builtin_convertvector(n, Int), half = whole >> 1;
  Vec first = from_bits((Uint)(half + 126) << 23);
  Vec found = (double_exp(r) * first) * from_bits((Uint)(whole - half + 127) << 23);
  // Farther off, what n became above is anything.
  const Vec near = __builtin_convertvector(z, Vec), far = splat(real(200));
  found = select(near > far, splat(real(__builtin_inff())), found);
  return select(near < -far, Vec{}, found);
}

// x^y where both are finite, y > 0 where x is 0, and y is not whole where x is negative.
REGARD_INLINE Vec plain_power(Vec x, Vec y) {
  const Vec otherwise = select(x < real(0), splat(real(__builtin_nanf(""))), Vec{});
  if (!any(x > real(0))) return otherwise;
  Vec found = exp2_of(log2_of(x) * __builtin_convertvector(y, Wide));
  return select(x > real(0), found, otherwise);
}

// What C's pow says of 0, infinity, NaN and negative bases.
inline __attribute__((noinline)) Vec special_power(Vec x, Vec y) {
  const Vec infinity = splat(real(__builtin_inff()));
  Vec size = vabs(x), way = select(size < real(1), -y, y);
  Int endless = (size == real(0)) | (size == infinity) | (vabs(y) == infinity);
  Vec found = plain_power(select(endless, splat(1), size), select(endless, splat(1), y));
  found = select(endless, select(way > real(0), infinity, Vec{}), found);
  Int whole = vfloor(y) == y, odd = whole & (vfloor(y * real(0.5f)) * real(2) != y);
  found = select((x < real(0)) & odd, -found, found);
  const Int nothing = (x < real(0)) & (size < infinity) & ~whole;
  found = select(nothing | (x != x) | (y != y), splat(real(__builtin_nanf(""))), found);
  const Int unity = (x == real(1)) | (y == real(0)) | ((x == real(-1)) & (vabs(y) == infinity));
  return select(unity, splat(1), found);
}

// For float to 2 units of the last place; denormal results too.
REGARD_INLINE Vec vpow(Vec x, Vec y) {
  if (all(y == real(2))) return x * x;
  if (all(y == real(3))) return x * x * x;
  if constexpr (SINGLE) {
    const Vec infinity = splat(real(__builtin_inff()));
    const Int known = (x > real(0)) | select(x < real(0), vfloor(y) != y, (x == real(0)) & (y > real(0)));
    const Int easy = known & (vabs(x) < infinity) & (vabs(y) < infinity);
    if (__builtin_expect(!all(easy), 0)) return special_power(x, y);
    return plain_power(x, y);
  }
  for (int lane = 0; lane < W; ++lane) x[lane] = __builtin_pow(x[lane], y[lane]);
  return x;
}

// Modulo 2^32 (2^64 for double); a negative power is 0 unless the base is 1 or -1, as in torch.
REGARD_INLINE Int vpow(Int x, Int y) {
  Int negative = y < 0, odd = (y & 1) != 0;
  Int reciprocal = select((x == 1) | ((x == -1) & ~odd), splat_int(1), x == -1);
  Uint square = (Uint)x, found = (Uint)splat_int(1), left = (Uint)select(negative, Int{}, y);
  while (any((Int)left)) {
    found = (left & natural(1)) != 0 ? found * square : found;
    square = square * square;
    left = left >> 1;
  }
  return select(negative, reciprocal, (Int)found);
}

// ---- division --------------------------------------------------------------------------------

// One number's quotient and remainder, as ATen's div_floor_floating and remainder find them.
struct Division {
  real floor, remainder;
};

inline Division divide_one(real a, real b) {
  real rest = SINGLE ? __builtin_fmodf(a, b) : __builtin_fmod(a, b), quotient = (a - rest) / b;
  if (rest != 0 && (b < 0) != (rest < 0)) {
    rest += b;
    quotient -= 1;
  }
  real floor = SINGLE ? __builtin_floorf(quotient) : __builtin_floor(quotient);
  if (quotient - floor > real(0.5)) floor += 1;
  return {b == 0 ? a / b : floor, rest};
}

struct Divisions {
  Vec floor, remainder;
};

// A quotient below 2^22, cut to an integer, is right or 1 too far from 0; as a - q b is exact when
// fused, its sign tells which. Other lanes, and those where b is 0, infinite or NaN, go one by one.
REGARD_INLINE Divisions divide(Vec a, Vec b) {
  Vec quotient = a / b;
  Int easy = (vabs(quotient) < real(1 << 22)) & (vabs(b) < real(__builtin_inff()));
  if (__builtin_expect(!FUSED || !all(easy), 0)) {
    real floors[W], remainders[W];
    for (int lane = 0; lane < W; ++lane) {
      Division one = divide_one(a[lane], b[lane]);
      floors[lane] = one.floor;
      remainders[lane] = one.remainder;
    }
    return {load(floors), load(remainders)};
  }
  Vec q = to_real(to_int(quotient));
  Vec rest = a - q * b;
  Int too_far = (rest != real(0)) & ((rest < real(0)) != (a < real(0)));
  q = select(too_far, q - vsign(quotient), q);
  rest = a - q * b;
  Int below = (rest != real(0)) & ((rest < real(0)) != (b < real(0)));
  return {select(below, q - real(1), q), select(below, rest + b, rest)};
}

// As torch.floor_divide and torch.remainder, whose result has the divisor's sign.
REGARD_INLINE Vec floor_divide(Vec a, Vec b) { return divide(a, b).floor; }
REGARD_INLINE Vec remainder(Vec a, Vec b) { return divide(a, b).remainder; }

// The quotient towards zero; b is not 0.
REGARD_INLINE Int truncated_quotient(Int a, Int b) {
#if defined(__x86_64__) || defined(__aarch64__)
  if constexpr (SINGLE) {
    // There is no instruction for it, but float64 is exact enough for 32 bits.
    Wide quotient = __builtin_convertvector(a, Wide) / __builtin_convertvector(b, Wide);
    return __builtin_convertvector(quotient, Int);
  }
#endif
  for (int lane = 0; lane < W; ++lane) a[lane] = b[lane] == -1 ? -a[lane] : a[lane] / b[lane];
  return a;
}

// Rounding down; by 0 they give 0 and a, because a kernel cannot raise at one pair.
REGARD_INLINE Int floor_divide(Int a, Int b) {
  Int by_zero = b == 0;
  Int q = truncated_quotient(a, select(by_zero, splat_int(1), b));
  Int rest = a - q * b;
  Int below = (rest != 0) & ((rest ^ b) < 0);
  return select(by_zero, Int{}, q + below);
}
REGARD_INLINE Int remainder(Int a, Int b) {
  Int q = truncated_quotient(a, select(b == 0, splat_int(1), b));
  Int rest = a - q * b;
  Int below = (rest != 0) & ((rest ^ b) < 0);
  return rest + (below & b);
}

}  // namespace regard
