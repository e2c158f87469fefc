// Rows stored as bfloat16, laid out for the matrix unit as they are: row after row, as columns, in panels.
//
// The counterpart of rows.h for bfloat16.h. Which products are the unit's is told once for each call, by
// how its rows are stored. Leaves the products to the sweeps.
#pragma once

#include "bfloat16.h"
#include "tile.h"

namespace regard {

// Rounded weights of a tile: t.rows × t.keys, or transposed. One cache line more than a block, as scores.
constexpr int ROUNDED_ROW = KEY_BLOCK + DEPTH_STEP, ROUNDED_COLUMN = QUERY_BLOCK + DEPTH_STEP;
// As `real`, of which one holds two.
constexpr int ROUNDED = MATRIX_UNIT ? (QUERY_BLOCK * ROUNDED_ROW > KEY_BLOCK * ROUNDED_COLUMN
                                           ? QUERY_BLOCK * ROUNDED_ROW
                                           : KEY_BLOCK * ROUNDED_COLUMN) / 2
                                    : 0;
static_assert(QUERY_STEP % DEPTH_STEP == 0 && KEY_STEP % DEPTH_STEP == 0, "blocks are whole steps");
// A line that is read to be laid out has room for two rows of bfloat16.
constexpr int LINE_UNIT = MATRIX_UNIT ? DEPTH_STEP : W;

// Which dots the unit multiplies, and so how rows must lie.
template <class P> struct UnitDots {
  bool of_dot[P::DOTS + 1]{};
  const Call* call;

  UnitDots(const Call& of) : call(&of) {
    for (int k = 0; k < P::DOTS && MATRIX_UNIT; ++k)
      of_dot[k] = stored(P::lefts[P::dots[k].left]) && stored(P::rights[P::dots[k].right]);
  }
  bool stored(int input) const { return call->inputs[input].storage == BFLOAT16; }
  REGARD_INLINE bool dot(int k) const { return MATRIX_UNIT && of_dot[k]; }
  REGARD_INLINE bool rows(int input) const { return MATRIX_UNIT && stored(input); }

  // Whether left or right rows k are read by some dot of the unit's, or by some that is not.
  bool left(int k) const { return reads(true, [k](Dot x) { return x.left == k; }); }
  bool right(int k) const { return reads(true, [k](Dot x) { return x.right == k; }); }
  bool plain_left(int k) const { return plainly([k](Dot x) { return x.left == k; }); }
  bool plain_right(int k) const { return plainly([k](Dot x) { return x.right == k; }); }

 private:
  template <class F> REGARD_INLINE bool reads(bool by_unit, F is_read) const {
    if (!MATRIX_UNIT) return !by_unit;
    bool found = false;
    for (int k = 0; k < P::DOTS; ++k) found |= of_dot[k] == by_unit && is_read(P::dots[k]);
    return found;
  }
  // A sum over channels reads any row.
  template <class F> REGARD_INLINE bool plainly(F is_read) const {
    return !MATRIX_UNIT || P::CHANNEL_SUMS > 0 || reads(false, is_read);
  }
};

// How many `real` hold so many rows of `width` bfloat16, in each of the three forms.
REGARD_INLINE int64_t bf16_rows_size(int64_t rows, int64_t width) {
  return padded(rows, LINE) * padded(width, DEPTH_STEP) / 2;
}
REGARD_INLINE int64_t bf16_panels_size(int64_t rows, int64_t width) {
  return padded(rows, DEPTH_STEP) * padded(width, LINE) / 2;
}

// The product's view of each form.
REGARD_INLINE Bf16Left bf16_left(const real* rows, int64_t width, int64_t first) {
  const int64_t by_row = padded(width, DEPTH_STEP);
  return {(const uint16_t*)rows + first * by_row, by_row};
}
REGARD_INLINE Bf16Panels bf16_columns(const real* columns, int64_t width, int64_t first) {
  const int64_t lines = padded(width, DEPTH_STEP) / 2;
  return {(const uint32_t*)columns + first * lines, lines};
}
REGARD_INLINE Bf16Panels bf16_panels(const real* panels, int64_t allotted, int64_t first) {
  return {(const uint32_t*)panels, padded(allotted, DEPTH_STEP) / 2, first / 2};
}

// A row filled up with zeros to `room`, and whether all of it is finite.
REGARD_INLINE bool read_bf16(const Input& x, int64_t b, int64_t h, int64_t row, uint16_t* to, int64_t room) {
  copy_as<uint16_t>(place_of(x, b, h, row, 0), x.by_column, int(x.width), to);
  bool bad = false;
  for (int64_t c = 0; c < x.width; ++c) bad |= (to[c] & 0x7F80) == 0x7F80;
  for (int64_t c = x.width; c < room; ++c) to[c] = 0;
  return !bad;
}

// Rows first … first + count - 1, one after the other: a left matrix.
static bool lay_bf16_rows(const Input& x, int64_t b, int64_t h, int64_t first, int count, real* to) {
  const int64_t room = padded(x.width, DEPTH_STEP);
  bool good = true;
  for (int r = 0; r < count; ++r) good &= read_bf16(x, b, h, first + r, (uint16_t*)to + r * room, room);
  return good;
}

// Rows as the columns of a right matrix; columns behind the first `count` are zeros.
static bool lay_bf16_columns(const Input& x, int64_t b, int64_t h, int64_t first, int count, real* to,
                             real* line) {
  const int64_t room = padded(x.width, DEPTH_STEP), lines = room / 2;
  uint16_t* const row = (uint16_t*)line;
  bool good = true;
  for (int j = 0; j < padded(count, LINE); ++j) {
    if (j < count)
      good &= read_bf16(x, b, h, first + j, row, room);
    else
      __builtin_memset(row, 0, room * 2);
    uint32_t* const place = (uint32_t*)to + j / LINE * LINE * lines + j % LINE;
    for (int64_t k = 0; k < lines; ++k) place[k * LINE] = row[2 * k] | uint32_t(row[2 * k + 1]) << 16;
  }
  return good;
}

// Rows as the rows of a right matrix, in panels of `allotted` rows.
static bool lay_bf16_panels(const Input& x, int64_t b, int64_t h, int64_t first, int count, real* to,
                            int64_t allotted, real* line) {
  const int64_t room = padded(x.width, LINE), lines = padded(allotted, DEPTH_STEP) / 2;
  uint16_t* const even = (uint16_t*)line;
  uint16_t* const odd = even + room;
  bool good = true;
  for (int r = 0; r < padded(count, DEPTH_STEP); r += 2) {
    __builtin_memset(even, 0, room * 4);
    if (r < count) good &= read_bf16(x, b, h, first + r, even, room);
    if (r + 1 < count) good &= read_bf16(x, b, h, first + r + 1, odd, room);
    for (int64_t c = 0; c < room; c += LINE) {
      uint32_t* const place = (uint32_t*)to + c * lines + r / 2 * LINE;
      for (int k = 0; k < LINE; ++k) place[k] = even[c + k] | uint32_t(odd[c + k]) << 16;
    }
  }
  return good;
}

}  // namespace regard
