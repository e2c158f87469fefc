// The functions of instructions.h in plain C++, for machines that lack the instructions.
//
// They follow the pseudocode of Intel's Software Developer's Manual, volume 2 (VDPBF16PS,
// VCVTNE2PS2BF16, LDTILECFG, TILELOADD, TILESTORED, TDPBF16PS): the order of the sums, denormals as
// zeros, the limits of the tiles. Where an instruction would fault, so does this.
#pragma once

#include "instructions.h"

namespace regard {

constexpr int TILES = 8, MOST_ROWS = 16, MOST_BYTES = 64;

// What LDTILECFG sets in a thread; palette 0 until then.
struct TileRegisters {
  TileConfig config;
  alignas(64) uint8_t data[TILES][MOST_ROWS][MOST_BYTES];
};
static thread_local TileRegisters registers;

REGARD_INLINE void fault_unless(bool allowed) {
  if (!allowed) __builtin_trap();
}

// DAZ and FTZ.
REGARD_INLINE float flushed(float x) {
  const uint32_t bits = bits_of_float(x);
  return bits & 0x7F800000u ? x : float_of_bits(bits & 0x80000000u);
}
// Of numbers that are flushed.
REGARD_INLINE float fused(float a, float b, float sum) { return flushed(__builtin_fmaf(a, b, sum)); }
REGARD_INLINE float first_of(uint32_t couple) { return flushed(float_of_bits(couple << 16)); }
REGARD_INLINE float second_of(uint32_t couple) { return flushed(float_of_bits(couple & 0xFFFF0000u)); }

REGARD_INLINE Floats add_products(Floats sum, Couples a, Couples b) {
  for (int k = 0; k < 16; ++k) {
    const float half = fused(second_of(a[k]), second_of(b[k]), flushed(sum[k]));
    sum[k] = fused(first_of(a[k]), first_of(b[k]), half);
  }
  return sum;
}

REGARD_INLINE Halves rounded(Floats low, Floats high) {
  Halves found{};
  for (int k = 0; k < 32; ++k) found[k] = to_bf16(flushed(k < 16 ? low[k] : high[k - 16]));
  return found;
}

static void configure_tiles(const TileConfig& config) {
  fault_unless(config.palette == 1 && config.start_row == 0);
  for (int tile = 0; tile < 16; ++tile) {
    const bool used = config.rows[tile] && config.row_bytes[tile], exists = tile < TILES;
    fault_unless(used ? exists : !config.rows[tile] && !config.row_bytes[tile]);
    fault_unless(config.rows[tile] <= MOST_ROWS && config.row_bytes[tile] <= MOST_BYTES);
  }
  registers = TileRegisters{};
  registers.config = config;
}
static void release_tiles() { registers = TileRegisters{}; }

template <int TILE> static void zero_tile() {
  fault_unless(registers.config.rows[TILE] > 0);
  __builtin_memset(registers.data[TILE], 0, sizeof registers.data[TILE]);
}
template <int TILE> static void load_tile(const void* from, int64_t stride) {
  zero_tile<TILE>();
  for (int row = 0; row < registers.config.rows[TILE]; ++row)
    __builtin_memcpy(registers.data[TILE][row], (const char*)from + row * stride,
                     registers.config.row_bytes[TILE]);
}
template <int TILE> static void store_tile(void* to, int64_t stride) {
  fault_unless(registers.config.rows[TILE] > 0);
  for (int row = 0; row < registers.config.rows[TILE]; ++row)
    __builtin_memcpy((char*)to + row * stride, registers.data[TILE][row],
                     registers.config.row_bytes[TILE]);
  registers.config.start_row = 0;
}

template <int SUM, int A, int B> static void multiply_tiles() {
  static_assert(SUM != A && SUM != B && A != B, "the instruction faults");
  constexpr int MOST = MOST_BYTES / 4;
  const TileConfig& config = registers.config;
  const int rows = config.rows[SUM], columns = config.row_bytes[SUM] / 4, couples = config.row_bytes[A] / 4;
  fault_unless(rows > 0 && config.rows[A] == rows && config.rows[B] == couples);
  fault_unless(config.row_bytes[B] == config.row_bytes[SUM]);
  fault_unless(config.row_bytes[SUM] % 4 == 0 && config.row_bytes[A] % 4 == 0);
  uint32_t a[MOST_ROWS][MOST], b[MOST_ROWS][MOST];
  float sum[MOST_ROWS][MOST];
  __builtin_memcpy(a, registers.data[A], sizeof a);
  __builtin_memcpy(b, registers.data[B], sizeof b);
  __builtin_memcpy(sum, registers.data[SUM], sizeof sum);
  for (int m = 0; m < rows; ++m) {
    float first[MOST]{}, second[MOST]{};
    for (int k = 0; k < couples; ++k) {
      const float x = first_of(a[m][k]), y = second_of(a[m][k]);
      for (int n = 0; n < MOST; ++n) first[n] = fused(x, first_of(b[k][n]), first[n]);
      for (int n = 0; n < MOST; ++n) second[n] = fused(y, second_of(b[k][n]), second[n]);
    }
    for (int n = 0; n < columns; ++n) sum[m][n] = flushed(flushed(sum[m][n]) + flushed(first[n] + second[n]));
  }
  __builtin_memcpy(registers.data[SUM], sum, sizeof sum);
}

}  // namespace regard
