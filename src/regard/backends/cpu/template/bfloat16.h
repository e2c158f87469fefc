// Products of bfloat16 matrices by the processor's matrix unit, with float32 sums: the counterpart of
// matrix.h where REGARD_AMX or REGARD_AVX512BF16 is defined. Elsewhere there is no such unit.
//
// Both units multiply couples: two neighbours along the depth. The left matrix lies row after row, the
// right one in panels of 16 columns, each line of which holds two rows side by side. Both are filled up
// with zeros to a multiple of DEPTH_STEP. Leaves filling them to halves.h.
#pragma once

#include "matrix.h"
#if defined(REGARD_AMX) || defined(REGARD_AVX512BF16)
#include "instructions.h"
#endif

namespace regard {

constexpr int LINE = 16, DEPTH_STEP = 32;

// Rows are allotted in multiples of LINE: what a tile reads behind the last row is not used.
struct Bf16Left {
  const uint16_t* data;
  int64_t by_row;
};

// The first `skipped` lines of each panel are passed over.
struct Bf16Panels {
  const uint32_t* data;
  int64_t lines, skipped = 0;
};

#if defined(REGARD_AMX) || defined(REGARD_AVX512BF16)
constexpr bool MATRIX_UNIT = true;
static_assert(sizeof(real) == 4, "sums are float32");

#ifdef REGARD_AMX
// A thread's tiles, while this lives: 16 rows of 64 bytes each.
struct Tiles {
  Tiles() {
    TileConfig config{};
    config.palette = 1;
    for (int tile = 0; tile < 8; ++tile) config.rows[tile] = 16, config.row_bytes[tile] = 64;
    configure_tiles(config);
  }
  ~Tiles() { release_tiles(); }
};

// Rows of c that one tile, of two below each other, gives.
constexpr int UNIT_ROWS = 16;

// Tiles 0 … 3 hold sums, 4 and 5 of the left matrix, 6 and 7 of the right one.
template <int DOWN, int ACROSS>
REGARD_INLINE void multiply_block(int steps, const uint16_t* a, int64_t a_row, const uint32_t* b,
                                  int64_t b_panel, real* c, int64_t c_row, bool add) {
  constexpr bool tall = DOWN == 2, wide = ACROSS == 2;
  const int64_t a_stride = 2 * a_row, c_stride = 4 * c_row, b_stride = 4 * LINE;
  real* const below = c + UNIT_ROWS * c_row;
  if (add) {
    load_tile<0>(c, c_stride);
    if constexpr (wide) load_tile<1>(c + LINE, c_stride);
    if constexpr (tall) load_tile<2>(below, c_stride);
    if constexpr (tall && wide) load_tile<3>(below + LINE, c_stride);
  } else {
    zero_tile<0>(), zero_tile<1>(), zero_tile<2>(), zero_tile<3>();
  }
  for (int k = 0; k < steps; ++k) {
    load_tile<4>(a, a_stride);
    if constexpr (tall) load_tile<5>(a + UNIT_ROWS * a_row, a_stride);
    load_tile<6>(b, b_stride);
    if constexpr (wide) load_tile<7>(b + b_panel, b_stride);
    multiply_tiles<0, 4, 6>();
    if constexpr (wide) multiply_tiles<1, 4, 7>();
    if constexpr (tall) multiply_tiles<2, 5, 6>();
    if constexpr (tall && wide) multiply_tiles<3, 5, 7>();
    a += DEPTH_STEP;
    b += DEPTH_STEP / 2 * LINE;
  }
  store_tile<0>(c, c_stride);
  if constexpr (wide) store_tile<1>(c + LINE, c_stride);
  if constexpr (tall) store_tile<2>(below, c_stride);
  if constexpr (tall && wide) store_tile<3>(below + LINE, c_stride);
}
#else
struct Tiles {};

constexpr int UNIT_ROWS = 4;

// 8 × 2 sums cover the latency of the instruction, which is 6 cycles at most, twice.
template <int DOWN, int ACROSS>
REGARD_INLINE void multiply_block(int steps, const uint16_t* a, int64_t a_row, const uint32_t* b,
                                  int64_t b_panel, real* c, int64_t c_row, bool add) {
  constexpr int ROWS = DOWN * UNIT_ROWS;
  Floats sum[ROWS][ACROSS]{};
  if (add)
    UNROLL for (int r = 0; r < ROWS; ++r)
      UNROLL for (int v = 0; v < ACROSS; ++v)
        __builtin_memcpy(&sum[r][v], c + r * c_row + v * LINE, sizeof(Floats));
  for (int k = 0; k < steps * DEPTH_STEP; k += 2) {
    Couples x[ACROSS];
    UNROLL for (int v = 0; v < ACROSS; ++v) __builtin_memcpy(&x[v], b + v * b_panel, sizeof(Couples));
    UNROLL for (int r = 0; r < ROWS; ++r) {
      uint32_t couple;
      __builtin_memcpy(&couple, a + r * a_row + k, sizeof couple);
      UNROLL for (int v = 0; v < ACROSS; ++v) sum[r][v] = add_products(sum[r][v], x[v], couple - Couples{});
    }
    b += LINE;
  }
  UNROLL for (int r = 0; r < ROWS; ++r)
    UNROLL for (int v = 0; v < ACROSS; ++v)
      __builtin_memcpy(c + r * c_row + v * LINE, &sum[r][v], sizeof(Floats));
}
#endif

REGARD_INLINE void copy_block(int rows, int columns, const real* from, int64_t from_row, real* to,
                              int64_t to_row) {
  for (int r = 0; r < rows; ++r)
    __builtin_memcpy(to + r * to_row, from + r * from_row, columns * sizeof(real));
}

// c (rows × columns, row after row) = or += a (rows × depth) · b (depth × columns).
__attribute__((noinline)) static void multiply_bf16(int rows, int columns, int depth, Bf16Left a,
                                                    Bf16Panels b, real* c, int64_t c_row, bool add) {
  const int steps = (depth + DEPTH_STEP - 1) / DEPTH_STEP;
  const int64_t panel = b.lines * LINE;
  for (int column = 0; column < columns; column += 2 * LINE) {
    const uint32_t* right = b.data + column / LINE * panel + b.skipped * LINE;
    const int across = int(least(2 * LINE, columns - column));
    for (int row = 0; row < rows; row += 2 * UNIT_ROWS) {
      const int down = int(least(2 * UNIT_ROWS, rows - row));
      const bool tall = down > UNIT_ROWS, wide = across > LINE;
      real* const place = c + row * c_row + column;
      // Whole blocks alone may be written where they belong.
      const bool whole = down % UNIT_ROWS == 0 && across % LINE == 0;
      alignas(64) real edge[2 * UNIT_ROWS * 2 * LINE];
      if (!whole) __builtin_memset(edge, 0, sizeof edge);
      if (!whole && add) copy_block(down, across, place, c_row, edge, 2 * LINE);
      real* const to = whole ? place : edge;
      const int64_t to_row = whole ? c_row : 2 * LINE;
      const uint16_t* left = a.data + row * a.by_row;
      if (tall && wide)
        multiply_block<2, 2>(steps, left, a.by_row, right, panel, to, to_row, add);
      else if (tall)
        multiply_block<2, 1>(steps, left, a.by_row, right, panel, to, to_row, add);
      else if (wide)
        multiply_block<1, 2>(steps, left, a.by_row, right, panel, to, to_row, add);
      else
        multiply_block<1, 1>(steps, left, a.by_row, right, panel, to, to_row, add);
      if (!whole) copy_block(down, across, edge, 2 * LINE, place, c_row);
    }
  }
}

REGARD_INLINE Floats load_floats(const real* from) {
  Floats found;
  __builtin_memcpy(&found, from, sizeof found);
  return found;
}

// Numbers as the left matrix of a product: rows × depth. Rows of `from` have room for whole steps.
__attribute__((noinline)) static void round_rows(int rows, int depth, const real* from, int64_t from_row,
                                                 uint16_t* to, int64_t to_row) {
  for (int r = 0; r < rows; ++r, from += from_row, to += to_row) {
    for (int k = 0; k < depth; k += DEPTH_STEP) {
      const Halves line = rounded(load_floats(from + k), load_floats(from + k + LINE));
      __builtin_memcpy(to + k, &line, sizeof line);
    }
    for (int64_t k = depth; k < padded(depth, DEPTH_STEP); ++k) to[k] = 0;
  }
}

// Interleaving each line with that 8 below turns the bits of an element's place, row and column in one
// number, by one; four times exchange row and column.
REGARD_INLINE void transpose(Couples (&x)[LINE]) {
  UNROLL for (int turn = 0; turn < 4; ++turn) {
    Couples y[LINE];
    UNROLL for (int k = 0; k < LINE / 2; ++k) {
      y[2 * k] = __builtin_shufflevector(x[k], x[k + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      y[2 * k + 1] = __builtin_shufflevector(x[k], x[k + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    for (int k = 0; k < LINE; ++k) x[k] = y[k];
  }
}

// The same of the transposed numbers: `from` is depth × rows, with room for whole lines.
__attribute__((noinline)) static void round_columns(int rows, int depth, const real* from, int64_t from_row,
                                                    uint16_t* to, int64_t to_row) {
  for (int r = 0; r < rows; r += LINE)
    for (int k = 0; k < depth; k += DEPTH_STEP) {
      Couples x[LINE];
      for (int line = 0; line < LINE; ++line) {
        const int row = k + 2 * line;
        const Floats first = row < depth ? load_floats(from + row * from_row + r) : Floats{};
        const Floats second = row + 1 < depth ? load_floats(from + (row + 1) * from_row + r) : Floats{};
        const Halves both = rounded(first, second);
        x[line] = (Couples)__builtin_shufflevector(both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22,
                                                   7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
      }
      transpose(x);
      for (int line = 0; line < LINE; ++line)
        __builtin_memcpy(to + (r + line) * to_row + k, &x[line], sizeof(Couples));
    }
}
#else
// What sweeps name but, without a unit, never call.
constexpr bool MATRIX_UNIT = false;
struct Tiles {};
void multiply_bf16(int, int, int, Bf16Left, Bf16Panels, real*, int64_t, bool);
void round_rows(int, int, const real*, int64_t, uint16_t*, int64_t);
void round_columns(int, int, const real*, int64_t, uint16_t*, int64_t);
#endif

}  // namespace regard
