// The largest scores of a query row and their keys, while its tiles are swept.
//
// A few are kept in order. Most tiles hold none of them, which the largest of each lane tells.
// Leaves to others: the scores, and what is made of a row's largest (forward.h, rank.h).
#pragma once

#include "tile.h"

namespace regard {

// The scores of one query row that may matter, in the order of keys.
struct Kept {
  real* values;
  real* columns;   // of choices alone
  int64_t count, settled;  // how many there are, and were when the bound was last raised
  real top, bound;         // the largest score, and what a further one must exceed
};

// What a number is lessened by to be a lower one: a share of it, and the smallest there is. Below
// infinity is the largest number.
constexpr real BELOW = sizeof(real) == 4 ? real(__FLT_EPSILON__) : real(__DBL_EPSILON__);
constexpr real LEAST = sizeof(real) == 4 ? real(__FLT_MIN__) : real(__DBL_MIN__);
constexpr real MOST = sizeof(real) == 4 ? real(__FLT_MAX__) : real(__DBL_MAX__);

// The k-th largest of x, which is reordered.
static real largest_but(real* x, int64_t count, int64_t k) {
  int64_t low = 0, high = count - 1;
  const int64_t wanted = k - 1;
  while (low < high) {
    const real pivot = x[low + (high - low) / 2];
    int64_t a = low, b = high;
    while (a <= b) {
      while (x[a] > pivot) ++a;
      while (x[b] < pivot) --b;
      if (a <= b) {
        const real other = x[a];
        x[a++] = x[b];
        x[b--] = other;
      }
    }
    if (wanted <= b)
      high = b;
    else if (wanted >= a)
      low = a;
    else
      break;
  }
  return x[wanted];
}

// The largest scores of a tile's row, lane by lane, in four quarters of its keys.
struct Tops {
  static constexpr int QUARTER = KEY_BLOCK / 4;
  Vec quarter[4] = {splat(-__builtin_inff()), splat(-__builtin_inff()), splat(-__builtin_inff()),
                    splat(-__builtin_inff())};

  void raise(int j, Vec score) { quarter[j / QUARTER] = vmax(score, quarter[j / QUARTER]); }
  real largest() const { return max_of(vmax(vmax(quarter[0], quarter[1]), vmax(quarter[2], quarter[3]))); }

  // A number that at least k scores of the row exceed, or -inf: lanes of quarters hold different keys.
  real exceeded_by(int64_t k) const {
    real all[4 * W];
    if (k > 4 * W) return -__builtin_inff();
    for (int q = 0; q < 4; ++q) store(all + q * W, quarter[q]);
    const real kth = largest_but(all, 4 * W, k);
    // It may be among the k largest itself, so it is not the bound but what is below.
    return kth == real(__builtin_inff()) ? MOST : kth - real(__builtin_fabs(kth)) * BELOW - LEAST;
  }
};

// A few largest are kept in order, as they fall; more are kept as they come and pruned now and then.
constexpr int64_t FEW = 32;

// Put a score and its key among the k largest, behind equal ones, which have lower keys.
REGARD_INLINE void insert(Kept& row, int64_t k, real score, real column) {
  int64_t at = row.count < k ? row.count++ : k - 1;
  for (; at > 0 && row.values[at - 1] < score; --at) {
    row.values[at] = row.values[at - 1];
    row.columns[at] = row.columns[at - 1];
  }
  row.values[at] = score;
  row.columns[at] = column;
  if (row.count == k) row.bound = row.values[k - 1];
}

// Do what is to be done from one key of a tile to another, for those quarters that hold a score above a
// row's bound.
template <class Do>
REGARD_INLINE void each_quarter_above(const Tile& t, const Kept& row, const Tops& tops, const Do& keep) {
  for (int q = 0; q < 4 && q * Tops::QUARTER < t.keys; ++q)
    if (any(tops.quarter[q] > row.bound))
      keep(q * Tops::QUARTER, int(least((q + 1) * Tops::QUARTER, t.keys)));
}

// Put the scores of a row of a tile that exceed its bound among the k largest; k is at most FEW.
REGARD_INLINE void add_to_few(const Tile& t, Kept& row, const real* scores, int64_t k, const Tops& tops) {
  if (row.bound == -__builtin_inff()) row.bound = tops.exceeded_by(k);
  each_quarter_above(t, row, tops, [&](int first, int last) {
    for (int j = first; j < last; j += W) {
      if (!any(load(scores + j) > row.bound)) continue;
      const int end = int(least(j + W, t.keys));
      for (int c = j; c < end; ++c)
        if (scores[c] > row.bound) insert(row, k, scores[c], real(t.j0 + c));
    }
  });
}

// List the keys of a row as they rise.
static void order_by_key(Kept& row) {
  for (int64_t k = 1; k < row.count; ++k) {
    const real value = row.values[k], column = row.columns[k];
    int64_t at = k;
    for (; at > 0 && row.columns[at - 1] > column; --at) {
      row.values[at] = row.values[at - 1];
      row.columns[at] = row.columns[at - 1];
    }
    row.values[at] = value;
    row.columns[at] = column;
  }
}

}  // namespace regard
