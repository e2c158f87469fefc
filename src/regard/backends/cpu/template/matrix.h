// Products of small matrices: the register tile, and how matrices lie in memory for it.
//
// The left matrix is read one number at a time, from any strides. The right one lies in panels: PANEL
// columns, row after row, so that the inner loop reads memory in order. The last panel is as narrow as
// it can be. Leaves filling panels to rows.h.
#pragma once

#include "simd.h"

namespace regard {

// 6 × 2 vectors fill 16 registers, 6 × 4 fill 32.
constexpr int TILE_ROWS = 6;
#if REGARD_BYTES == 64 || defined(__aarch64__)
constexpr int TILE_VECS = 4;
#else
constexpr int TILE_VECS = 2;
#endif
// Sums of a register tile stay in registers only if its loops are written out.
#define UNROLL _Pragma("GCC unroll 8")

constexpr int PANEL = TILE_VECS * W;

REGARD_INLINE int64_t padded(int64_t size, int64_t unit) { return (size + unit - 1) / unit * unit; }
REGARD_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Element (row, column) of the left matrix lies at data[row · by_row + column · by_column].
struct Left {
  const real* data;
  int64_t by_row, by_column;
};

// A matrix of `rows` allotted rows and `columns` columns, a multiple of W, in panels; the first
// `skipped` rows are passed over.
struct Panels {
  const real* data;
  int64_t rows, columns, skipped = 0;
};

template <int ROWS, int VECS>
REGARD_INLINE void multiply_tile(int depth, const real* a, int64_t by_row, int64_t by_column,
                                 const real* b, int64_t b_row, real* c, int64_t c_row, bool add) {
  Vec sum[ROWS][VECS];
  UNROLL for (int r = 0; r < ROWS; ++r)
    UNROLL for (int v = 0; v < VECS; ++v) sum[r][v] = add ? load(c + r * c_row + v * W) : Vec{};
  for (int k = 0; k < depth; ++k) {
    Vec x[VECS];
    UNROLL for (int v = 0; v < VECS; ++v) x[v] = load(b + v * W);
    UNROLL for (int r = 0; r < ROWS; ++r) {
      const Vec y = splat(a[r * by_row]);
      UNROLL for (int v = 0; v < VECS; ++v) sum[r][v] += y * x[v];
    }
    a += by_column;
    b += b_row;
  }
  UNROLL for (int r = 0; r < ROWS; ++r)
    UNROLL for (int v = 0; v < VECS; ++v) store(c + r * c_row + v * W, sum[r][v]);
}

template <int VECS>
REGARD_INLINE void multiply_panel(int rows, int depth, Left a, const real* b, int64_t b_row, real* c,
                                  int64_t c_row, bool add) {
  int r = 0;
  for (; r + TILE_ROWS <= rows; r += TILE_ROWS)
    multiply_tile<TILE_ROWS, VECS>(depth, a.data + r * a.by_row, a.by_row, a.by_column, b, b_row,
                                   c + r * c_row, c_row, add);
  if (rows - r >= 4) {
    multiply_tile<4, VECS>(depth, a.data + r * a.by_row, a.by_row, a.by_column, b, b_row,
                           c + r * c_row, c_row, add);
    r += 4;
  }
  if (rows - r >= 2) {
    multiply_tile<2, VECS>(depth, a.data + r * a.by_row, a.by_row, a.by_column, b, b_row,
                           c + r * c_row, c_row, add);
    r += 2;
  }
  for (; r < rows; ++r)
    multiply_tile<1, VECS>(depth, a.data + r * a.by_row, a.by_row, a.by_column, b, b_row,
                           c + r * c_row, c_row, add);
}

// c (rows × columns, row after row) = or += a (rows × depth) · b (depth × columns).
// `columns` is a multiple of W, and at most as many as b has.
__attribute__((noinline)) static void multiply(int rows, int columns, int depth, Left a, Panels b,
                                               real* c, int64_t c_row, bool add) {
  for (int column = 0; column < columns; column += PANEL) {
    const int64_t b_row = least(PANEL, b.columns - column);
    const real* panel = b.data + column * b.rows + b.skipped * b_row;
    if (columns - column >= PANEL) {
      multiply_panel<TILE_VECS>(rows, depth, a, panel, b_row, c + column, c_row, add);
      continue;
    }
    for (int v = column; v < columns; v += W)
      multiply_panel<1>(rows, depth, a, panel + (v - column), b_row, c + v, c_row, add);
  }
}

}  // namespace regard
