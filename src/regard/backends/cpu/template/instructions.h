// The instructions of x86 that multiply bfloat16, each as a function; with REGARD_EMULATE those of
// emulate.h, so that what is built on them runs on any machine.
//
// They are written in assembly: the builtins differ between compilers and between their versions, and
// immintrin.h costs more to read than a kernel costs to compile. Leaves products to bfloat16.h.
#pragma once

#include "simd.h"

namespace regard {

// 16 numbers; 16 couples of bfloat16, the first of each in its lower half; 32 bfloat16.
typedef float Floats __attribute__((vector_size(64)));
typedef uint32_t Couples __attribute__((vector_size(64)));
typedef uint16_t Halves __attribute__((vector_size(64)));

// How tiles are shaped, as LDTILECFG reads it.
struct TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64, "as the processor has it");

}  // namespace regard

#ifdef REGARD_EMULATE
#include "emulate.h"
#else

namespace regard {

// sum + a's first of each couple times b's + a's second times b's.
REGARD_INLINE Floats add_products(Floats sum, Couples a, Couples b) {
  asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
  return sum;
}

// Rounded to even: those of `low`, then those of `high`.
REGARD_INLINE Halves rounded(Floats low, Floats high) {
  Halves found;
  asm("vcvtne2ps2bf16 %2, %1, %0" : "=v"(found) : "v"(high), "v"(low));
  return found;
}

REGARD_INLINE void configure_tiles(const TileConfig& config) {
  asm volatile("ldtilecfg %0" : : "m"(config));
}
REGARD_INLINE void release_tiles() { asm volatile("tilerelease"); }

// %c prints a constant bare. Rows of memory lie `stride` bytes apart.
template <int TILE> REGARD_INLINE void zero_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(TILE));
}
template <int TILE> REGARD_INLINE void load_tile(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(TILE) : "memory");
}
template <int TILE> REGARD_INLINE void store_tile(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(TILE) : "memory");
}
// SUM += A · B, where a row of B holds couples.
template <int SUM, int A, int B> REGARD_INLINE void multiply_tiles() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(SUM), "i"(A), "i"(B));
}

}  // namespace regard
#endif
