// Vectors of W numbers and what can be done with their lanes: loads, selections, sums, conversions
// and random bits. Leaves functions of real numbers (exp, tanh, division …) to math.h.
//
// Written in the vector extensions that GCC and clang share, so one text serves x86 and aarch64.
// The standard library's headers, and immintrin.h, would each cost more to read than a kernel
// costs to compile; builtins need no header.
//
// The compiler is told REGARD_REAL (float or double) and REGARD_BYTES (16, 32 or 64).
#pragma once

#include <stdint.h>

#if defined(__GNUC__) && !defined(__clang__)
// Every function is inlined (take no pointers to them), so how a call would pass a vector does not
// matter.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#define REGARD_INLINE inline __attribute__((always_inline))

namespace regard {

using real = REGARD_REAL;

template <int bytes> struct Integers;
template <> struct Integers<4> {
  using plain = int32_t;
  using natural = uint32_t;
};
template <> struct Integers<8> {
  using plain = int64_t;
  using natural = uint64_t;
};
using integer = Integers<sizeof(real)>::plain;
using natural = Integers<sizeof(real)>::natural;

constexpr int W = REGARD_BYTES / sizeof(real);

// A truth value is an Int of 0 (false) or -1 (true), as comparisons of vectors give it.
typedef real Vec __attribute__((vector_size(REGARD_BYTES)));
typedef integer Int __attribute__((vector_size(REGARD_BYTES)));
typedef natural Uint __attribute__((vector_size(REGARD_BYTES)));

// The same in memory: aligned no better than its elements, and free to overlap other types.
typedef real LooseVec __attribute__((vector_size(REGARD_BYTES), aligned(sizeof(real)), may_alias));
typedef integer LooseInt
    __attribute__((vector_size(REGARD_BYTES), aligned(sizeof(real)), may_alias));

// W lanes of other widths: what 16-bit storage passes through.
typedef float Single __attribute__((vector_size(W * 4)));
typedef uint32_t Word __attribute__((vector_size(W * 4)));
typedef uint16_t Half __attribute__((vector_size(W * 2)));
typedef float LooseSingle __attribute__((vector_size(W * 4), aligned(4), may_alias));
typedef uint16_t LooseHalf __attribute__((vector_size(W * 2), aligned(2), may_alias));

// ---- making vectors --------------------------------------------------------------------------

REGARD_INLINE Vec splat(real x) { return x - Vec{}; }
REGARD_INLINE Int splat_int(integer x) { return x - Int{}; }
REGARD_INLINE Int truth(bool x) { return splat_int(-integer(x)); }

REGARD_INLINE Vec load(const real* from) { return *(const LooseVec*)from; }
REGARD_INLINE Int load_int(const integer* from) { return *(const LooseInt*)from; }
REGARD_INLINE void store(real* to, Vec x) { *(LooseVec*)to = x; }
REGARD_INLINE void store_int(integer* to, Int x) { *(LooseInt*)to = x; }

// 0, 1, …, W - 1.
REGARD_INLINE Int lanes() {
  Int found{};
  for (int lane = 0; lane < W; ++lane) found[lane] = lane;
  return found;
}

// The bits of a number, and the number with these bits.
REGARD_INLINE Uint bits_of(Vec x) { return (Uint)x; }
REGARD_INLINE Vec from_bits(Uint x) { return (Vec)x; }

REGARD_INLINE Vec to_real(Int x) { return __builtin_convertvector(x, Vec); }
// Towards zero; anything where the result does not fit.
REGARD_INLINE Int to_int(Vec x) { return __builtin_convertvector(x, Int); }

// ---- choosing --------------------------------------------------------------------------------

REGARD_INLINE Vec select(Int mask, Vec a, Vec b) { return mask ? a : b; }
REGARD_INLINE Int select(Int mask, Int a, Int b) { return mask ? a : b; }

REGARD_INLINE Int is_nan(Vec x) { return x != x; }

// One instruction on x86; where either is NaN, the second.
REGARD_INLINE Vec vmax(Vec a, Vec b) { return a > b ? a : b; }
REGARD_INLINE Vec vmin(Vec a, Vec b) { return a < b ? a : b; }
REGARD_INLINE Int vmax(Int a, Int b) { return a > b ? a : b; }
REGARD_INLINE Int vmin(Int a, Int b) { return a < b ? a : b; }

// As torch.maximum and torch.minimum: where either is NaN, NaN.
REGARD_INLINE Vec maximum(Vec a, Vec b) { return select(is_nan(a), a, vmax(a, b)); }
REGARD_INLINE Vec minimum(Vec a, Vec b) { return select(is_nan(a), a, vmin(a, b)); }
REGARD_INLINE Int maximum(Int a, Int b) { return vmax(a, b); }
REGARD_INLINE Int minimum(Int a, Int b) { return vmin(a, b); }

// ---- from lanes to one value -----------------------------------------------------------------

template <int lanes> struct Part {
  typedef real type __attribute__((vector_size(lanes * sizeof(real))));
};

struct Add {
  template <class T> static REGARD_INLINE T of(T a, T b) { return a + b; }
};
struct Max {
  template <class T> static REGARD_INLINE T of(T a, T b) { return a > b ? a : b; }
};

// Combine the two halves until one lane is left.
template <class Op, int lanes> REGARD_INLINE real fold(typename Part<lanes>::type x) {
  if constexpr (lanes == 16) {
    return fold<Op, 8>(Op::of(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7),
                              __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15)));
  } else if constexpr (lanes == 8) {
    return fold<Op, 4>(Op::of(__builtin_shufflevector(x, x, 0, 1, 2, 3),
                              __builtin_shufflevector(x, x, 4, 5, 6, 7)));
  } else if constexpr (lanes == 4) {
    return Op::of(Op::of(real(x[0]), real(x[2])), Op::of(real(x[1]), real(x[3])));
  } else {
    return Op::of(real(x[0]), real(x[1]));
  }
}

REGARD_INLINE real sum_of(Vec x) { return fold<Add, W>(x); }
// NaN lanes may be passed over.
REGARD_INLINE real max_of(Vec x) { return fold<Max, W>(x); }

REGARD_INLINE bool any(Int mask) {
#if defined(__AVX2__) && REGARD_BYTES == 32
  typedef long long Quad __attribute__((vector_size(32)));
  return !__builtin_ia32_ptestz256((Quad)mask, (Quad)mask);
#else
  typedef uint64_t Quad __attribute__((vector_size(REGARD_BYTES)));
  uint64_t found = 0;
  for (int part = 0; part < REGARD_BYTES / 8; ++part) found |= ((Quad)mask)[part];
  return found != 0;
#endif
}
REGARD_INLINE bool all(Int mask) { return !any(~mask); }

// ---- memory at an index of its own for each lane ---------------------------------------------

REGARD_INLINE Vec gather(const real* base, Int index) {
  Vec found{};
  for (int lane = 0; lane < W; ++lane) found[lane] = base[index[lane]];
  return found;
}

REGARD_INLINE Int gather_int(const integer* base, Int index) {
  Int found{};
  for (int lane = 0; lane < W; ++lane) found[lane] = base[index[lane]];
  return found;
}

// ---- 16-bit storage --------------------------------------------------------------------------

REGARD_INLINE uint32_t bits_of_float(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  return bits;
}

REGARD_INLINE float float_of_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, 4);
  return x;
}

// Each conversion is written once, for one number (U = uint32_t) and for W of them (U = Word);
// in the first case choosing is the plain operator.
template <class U> REGARD_INLINE U bits_from_bf16(U half) { return half << 16; }

template <class U> REGARD_INLINE U bits_to_bf16(U bits) {
  // Adding just under half a unit, or half of one where the last kept bit is odd, rounds to even.
  U rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return (bits & 0x7FFFFFFFu) > 0x7F800000u ? (bits >> 16) | 0x40u : rounded;
}

REGARD_INLINE float from_bf16(uint16_t half) {
  return float_of_bits(bits_from_bf16<uint32_t>(half));
}
REGARD_INLINE uint16_t to_bf16(float x) { return uint16_t(bits_to_bf16(bits_of_float(x))); }

template <class F, class U> REGARD_INLINE U bits_from_f16(U half) {
  U magnitude = (half & 0x7FFFu) << 13, sign = (half & 0x8000u) << 16;
  // The exponents' biases differ by 112; a product also makes normal what was denormal.
  F scaled;
  __builtin_memcpy(&scaled, &magnitude, sizeof(F));
  scaled = scaled * 0x1p112f;
  U finite;
  __builtin_memcpy(&finite, &scaled, sizeof(F));
  return sign | (magnitude >= 0x0F800000u ? magnitude | 0x7F800000u : finite);
}

template <class F, class U> REGARD_INLINE U bits_to_f16(U bits) {
  U magnitude = bits & 0x7FFFFFFFu, sign = (bits >> 16) & 0x8000u;
  U normal = (magnitude - (112u << 23) + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
  // Below 2^-14 the unit is 2^-24, which is the last bit of numbers just above 1/2.
  F shifted;
  __builtin_memcpy(&shifted, &magnitude, sizeof(F));
  shifted = shifted + 0.5f;
  U denormal;
  __builtin_memcpy(&denormal, &shifted, sizeof(F));
  denormal = denormal - 0x3F000000u;
  U finite = magnitude < (113u << 23) ? denormal : normal;
  // From 65520 on, the nearest number would be 65536, which is not there.
  U nan = 0x7E00u | ((magnitude >> 13) & 0x3FFu), infinity = (magnitude & 0u) | 0x7C00u;
  U large = magnitude > 0x7F800000u ? nan : infinity;
  return sign | (magnitude >= 0x477FF000u ? large : finite);
}

REGARD_INLINE float from_f16(uint16_t half) {
  return float_of_bits(bits_from_f16<float, uint32_t>(half));
}
REGARD_INLINE uint16_t to_f16(float x) {
  return uint16_t(bits_to_f16<float, uint32_t>(bits_of_float(x)));
}

REGARD_INLINE Vec vec_of(Single x) { return __builtin_convertvector(x, Vec); }
REGARD_INLINE Single single_of(Vec x) { return __builtin_convertvector(x, Single); }
REGARD_INLINE Word load_halves(const uint16_t* from) {
  return __builtin_convertvector((Half) * (const LooseHalf*)from, Word);
}
REGARD_INLINE void store_halves(uint16_t* to, Word x) {
  *(LooseHalf*)to = __builtin_convertvector(x, Half);
}

REGARD_INLINE Vec load_bf16(const uint16_t* from) {
  return vec_of((Single)bits_from_bf16(load_halves(from)));
}
REGARD_INLINE void store_bf16(uint16_t* to, Vec x) {
  store_halves(to, bits_to_bf16((Word)single_of(x)));
}
REGARD_INLINE Vec load_f16(const uint16_t* from) {
#if defined(__F16C__) && REGARD_BYTES == 32
  typedef short Eight __attribute__((vector_size(16), aligned(2), may_alias));
  if constexpr (W == 8) return (Vec)__builtin_ia32_vcvtph2ps256(*(const Eight*)from);
#endif
  return vec_of((Single)bits_from_f16<Single>(load_halves(from)));
}
REGARD_INLINE void store_f16(uint16_t* to, Vec x) {
  store_halves(to, bits_to_f16<Single>((Word)single_of(x)));
}

// ---- random bits, as regard/ir/random.py draws them ------------------------------------------

constexpr uint32_t GOLDEN = 0x9E3779B9u;

// "lowbias32", C. Wellons, "Prospecting for Hash Functions", 2018.
REGARD_INLINE uint32_t mix32(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7FEB352Du;
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}

// The same in every lane. Lanes of 64 bits hold 32-bit numbers, hence the masks.
REGARD_INLINE Uint mix32(Uint x) {
  constexpr natural mask = 0xFFFFFFFFu;
  x = ((x ^ (x >> 16)) * natural(0x7FEB352Du)) & mask;
  x = ((x ^ (x >> 15)) * natural(0x846CA68Bu)) & mask;
  return x ^ (x >> 16);
}

// One round of draw_bits: the state after one more word or coordinate.
REGARD_INLINE uint32_t mix_in(uint32_t state, uint32_t word) {
  return mix32(state + word + GOLDEN);
}
REGARD_INLINE uint32_t final_mix(uint32_t state) { return mix32(state ^ GOLDEN); }

// The last two steps of draw_bits: the coordinate that differs between lanes, and the final mix.
REGARD_INLINE Uint keep_bits(uint32_t state_of_row, Int column) {
  constexpr natural mask = 0xFFFFFFFFu;
  Uint state = mix32(((Uint)column + natural(state_of_row + GOLDEN)) & mask);
  return mix32(state ^ natural(GOLDEN));
}

}  // namespace regard
