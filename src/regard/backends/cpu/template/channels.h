// Sums over channels that are no matrix product: additive, MLP and distance scores, and their gradient.
//
// The inner loop runs over channels, with W keys in the lanes; no value is ever held for every pair and
// channel. Leaves the summed expression to the emitted program (`Body`).
#pragma once

#include "tile.h"

namespace regard {

// The rows that a sum over channels reads in one tile.
template <class Body> struct ChannelRows {
  const real* left[Body::LEFTS + 1];
  int64_t left_row[Body::LEFTS + 1], left_step[Body::LEFTS + 1];
  const real* right[Body::RIGHTS + 1];
  int64_t right_width[Body::RIGHTS + 1], right_step[Body::RIGHTS + 1];
  const real* array[Body::ARRAYS + 1];
  int64_t array_step[Body::ARRAYS + 1];
  int64_t channels = 1, columns, start;

  // An input of one channel is read at every channel.
  template <class LeftRows>
  ChannelRows(const Tile& t, LeftRows left_rows, const Laid* laid, int64_t kb, int64_t all_columns)
      : columns(all_columns) {
    auto widen = [&](int64_t width) {
      if (width > channels) channels = width;
      return width == 1 ? 0 : 1;
    };
    for (int k = 0; k < Body::LEFTS; ++k) {
      const int64_t width = left_rows.width(Body::lefts[k]);
      left[k] = left_rows.at(Body::lefts[k]);
      left_row[k] = left_rows.by_row(Body::lefts[k]);
      left_step[k] = widen(width);
    }
    start = t.start;
    for (int k = 0; k < Body::RIGHTS; ++k) {
      const Laid& x = laid[Body::rights[k]];
      right[k] = x.at(t.b, t.h, kb);
      right_width[k] = x.width;
      right_step[k] = widen(x.width);
    }
    for (int k = 0; k < Body::ARRAYS; ++k) {
      array[k] = t.table<real>(Body::arrays[k]);
      array_step[k] = widen(t.call->inputs[Body::arrays[k]].width);
    }
  }

  REGARD_INLINE void read(int i, int64_t c, Vec* u, Vec* a) const {
    for (int k = 0; k < Body::LEFTS; ++k) u[k] = splat(left[k][i * left_row[k] + c * left_step[k]]);
    for (int k = 0; k < Body::ARRAYS; ++k) a[k] = splat(array[k][c * array_step[k]]);
  }
  // Where channel c of the tile's key j lies, in panels.
  REGARD_INLINE const real* key(int k, int64_t j, int64_t c) const {
    j += start;
    const int64_t panel = j / PANEL * PANEL, across = least(PANEL, columns - panel);
    return right[k] + panel * right_width[k] + c * right_step[k] * across + (j - panel);
  }
};

template <class Body, class LeftRows>
__attribute__((noinline)) static void sum_channels(const Tile& t, LeftRows left_rows, const Laid* laid,
                                                   int64_t kb, int64_t columns, real* to, Vec* kept) {
  const ChannelRows<Body> rows(t, left_rows, laid, kb, columns);
  // Two vectors that stand side by side lie in one panel.
  constexpr int TOGETHER = 2;
  for (int i = t.first; i < t.last; ++i) {
    for (int j = 0; j < t.keys; j += TOGETHER * W) {
      const int vecs = j + W < t.keys ? TOGETHER : 1;
      const real* key[Body::RIGHTS + 1][TOGETHER];
      int64_t step[Body::RIGHTS + 1];
      for (int k = 0; k < Body::RIGHTS; ++k) {
        step[k] = rows.key(k, j, 1) - rows.key(k, j, 0);
        for (int v = 0; v < TOGETHER; ++v) key[k][v] = rows.key(k, v < vecs ? j + v * W : j, 0);
      }
      Vec sum[TOGETHER]{};
      for (int64_t c = 0; c < rows.channels; ++c) {
        Vec u[Body::LEFTS + 1], a[Body::ARRAYS + 1];
        rows.read(i, c, u, a);
        for (int v = 0; v < TOGETHER; ++v) {
          Vec w[Body::RIGHTS + 1];
          for (int k = 0; k < Body::RIGHTS; ++k) w[k] = load(key[k][v] + c * step[k]);
          Vec* place = kept + ((j / W + v) * rows.channels + c) * Body::KEPT;
          Vec none[1];
          sum[v] += Body::at(t, u, w, a, Body::KEPT ? place : none);
        }
      }
      for (int v = 0; v < vecs; ++v) store(to + i * SCORE_ROW + j + v * W, sum[v]);
    }
  }
}

// Where a gradient's parts of one row are added up.
template <class Body> struct ChannelResults {
  Vec *du, *da;  // sums over keys, in lanes until the row, or the tile, is done
  real* dw[Body::RIGHTS + 1];  // channels × KEY_BLOCK, at the tile's first key; null if nobody wants it
  bool left[Body::LEFTS + 1], array[Body::ARRAYS + 1];  // whether anybody wants it
};

// The gradient at VECS vectors of keys of query row i, from key j on, which stand side by side in one panel.
template <class Body, int VECS>
static REGARD_INLINE void spread_vectors(const Tile& t, const ChannelRows<Body>& rows, int i, int j,
                                         const real* received, const Vec* kept,
                                         const ChannelResults<Body>& to) {
  Vec g[VECS];
  for (int v = 0; v < VECS; ++v) g[v] = load(received + i * SCORE_ROW + j + v * W);
  const real* key[Body::RIGHTS + 1];
  int64_t step[Body::RIGHTS + 1];
  for (int k = 0; k < Body::RIGHTS; ++k) {
    key[k] = rows.key(k, j, 0);
    step[k] = rows.key(k, j, 1) - key[k];
  }
  for (int64_t c = 0; c < rows.channels; ++c) {
    Vec u[Body::LEFTS + 1], a[Body::ARRAYS + 1];
    Vec left[Body::LEFTS + 1]{}, array[Body::ARRAYS + 1]{};
    rows.read(i, c, u, a);
    for (int v = 0; v < VECS; ++v) {
      Vec w[Body::RIGHTS + 1], du[Body::LEFTS + 1], dw[Body::RIGHTS + 1], da[Body::ARRAYS + 1];
      for (int k = 0; k < Body::RIGHTS; ++k) w[k] = load(key[k] + c * step[k] + v * W);
      const Vec* values = kept + ((j / W + v) * rows.channels + c) * Body::KEPT;
      Body::spread(t, g[v], u, w, a, values, du, dw, da);
      for (int k = 0; k < Body::LEFTS; ++k) left[k] += du[k];
      for (int k = 0; k < Body::ARRAYS; ++k) array[k] += da[k];
      for (int k = 0; k < Body::RIGHTS; ++k)
        if (to.dw[k]) {
          real* place = to.dw[k] + c * rows.right_step[k] * KEY_BLOCK + j + v * W;
          store(place, load(place) + dw[k]);
        }
    }
    for (int k = 0; k < Body::LEFTS; ++k)
      if (to.left[k]) to.du[k * rows.channels + c] += left[k];
    for (int k = 0; k < Body::ARRAYS; ++k)
      if (to.array[k]) to.da[k * rows.channels + c] += array[k];
  }
}

// The gradient of a sum over channels in one tile. `received` holds what each pair's sum receives.
// du is added to rows of the left results, dw to `right_sums` (channels × KEY_BLOCK), da to arrays. With
// `kept`, from sum_channels, the tile is a single row.
template <class Body, class LeftRows>
__attribute__((noinline)) static void spread_channels(const Tile& t, LeftRows left_rows, const Laid* laid,
                                                      int64_t kb, int64_t columns, const real* received,
                                                      real* const* left_sums, const int64_t* left_sum_row,
                                                      real* const* right_sums, real* const* array_sums,
                                                      Vec* lanes_kept, const Vec* kept) {
  const ChannelRows<Body> rows(t, left_rows, laid, kb, columns);
  ChannelResults<Body> to;
  to.du = lanes_kept;
  to.da = lanes_kept + Body::LEFTS * rows.channels;
  for (int k = 0; k < Body::LEFTS; ++k) to.left[k] = left_sums[k];
  for (int k = 0; k < Body::ARRAYS; ++k) to.array[k] = array_sums[k];
  for (int k = 0; k < Body::RIGHTS; ++k) to.dw[k] = right_sums[k] ? right_sums[k] + t.start : nullptr;
  for (int64_t c = 0; c < Body::ARRAYS * rows.channels; ++c) to.da[c] = Vec{};
  for (int i = t.first; i < t.last; ++i) {
    for (int64_t c = 0; c < Body::LEFTS * rows.channels; ++c) to.du[c] = Vec{};
    int j = 0;
    for (; j + W < t.keys; j += 2 * W) spread_vectors<Body, 2>(t, rows, i, j, received, kept, to);
    for (; j < t.keys; j += W) spread_vectors<Body, 1>(t, rows, i, j, received, kept, to);
    for (int k = 0; k < Body::LEFTS; ++k)
      if (left_sums[k])
        for (int64_t c = 0; c < rows.channels; ++c)
          left_sums[k][i * left_sum_row[k] + c * rows.left_step[k]] += sum_of(to.du[k * rows.channels + c]);
  }
  for (int k = 0; k < Body::ARRAYS; ++k)
    if (array_sums[k])
      for (int64_t c = 0; c < rows.channels; ++c)
        array_sums[k][c * rows.array_step[k]] += sum_of(to.da[k * rows.channels + c]);
}

}  // namespace regard
