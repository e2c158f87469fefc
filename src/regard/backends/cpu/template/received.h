// What each key receives: the sum of its weights over query rows, found beside the summed rows.
//
// The weights of a block of query rows are kept as they are when a tile is weighed, each row scaled for
// its largest exponent so far. When all keys were seen, the tiles' columns are added up, each row times
// what has come to it since. A task is a chunk of the blocks of query rows; the caller adds the chunks up
// in order, so that nothing depends on the number of threads.
// Leaves to others: the weights (forward.h).
#pragma once

#include "tile.h"

namespace regard {

// Whether a sweep finds what keys receive.
template <class P, class = void> struct Receives {
  static constexpr bool YES = false;
};
template <class P> struct Receives<P, decltype(void(P::RECEIVES))> {
  static constexpr bool YES = P::RECEIVES;
};

// Add up columns of weights, each row times a number. A weight of 0 adds nothing, whatever the number.
REGARD_INLINE void add_columns(real* to, const real* weights, const real* factor, int rows, int keys) {
  for (int j = 0; j < keys; j += W) {
    Vec sum{};
#pragma GCC unroll 4
    for (int i = 0; i < rows; ++i) {
      const Vec x = load(weights + i * SCORE_ROW + j);
      sum += select(x == real(0), Vec{}, x * factor[i]);
    }
    if (j + W <= keys) {
      store(to + j, load(to + j) + sum);
    } else {
      for (int c = 0; j + c < keys; ++c) to[j + c] += sum[c];
    }
  }
}

// The tiles of a block of query rows, while its keys are visited.
template <class P> struct Received {
  // A tile, and the largest exponents its rows were scaled for.
  struct Visit {
    int64_t kb, j0;
    int first, last, start, keys;
    real top[P::TERMS + 1][QUERY_BLOCK];
  };
  static constexpr int VISITS = KEY_BLOCK / KEY_STEP;  // of a block of keys, at most
  real* weights;
  Visit* visits;
  int64_t count = 0, rows, blocks;
  bool good;

  Received(const Call& call, Scratch& scratch)
      : rows(least(QUERY_BLOCK, padded(call.queries, 1))), blocks((call.keys + KEY_BLOCK - 1) / KEY_BLOCK) {
    // Pages of tiles that are never visited are never touched.
    const int64_t kept = P::COMPONENTS * blocks * rows * SCORE_ROW;
    const int64_t told = (blocks * VISITS * sizeof(Visit) + sizeof(real) - 1) / sizeof(real);
    weights = scratch.take(kept + told);
    good = weights != nullptr;
    visits = (Visit*)(weights + kept);
  }

  real* at(int component, int64_t kb) const { return weights + (component * blocks + kb) * rows * SCORE_ROW; }

  // Let the next tile's weights be written where they can stay.
  void enter(const Tile& t, real** scores, int64_t kb) {
    for (int k = 0; k < P::COMPONENTS; ++k) scores[k] = at(k, kb) + t.start;
  }

  template <class State> void leave(const Tile& t, const State& s, int64_t kb) {
    Visit& v = visits[count++];
    v.kb = kb, v.j0 = t.j0, v.first = t.first, v.last = t.last, v.start = t.start, v.keys = t.keys;
    for (int k = 0; k < P::TERMS; ++k)
      for (int i = v.first; i < v.last; ++i) v.top[k][i] = s.top[k][i];
  }

  // What a row's weights of a tile are multiplied with at the end.
  template <class State> real factor(const Visit& v, const State& s, int component, int i) const {
    real moved = 0;
    for (int k = 0; k < P::TERMS; ++k)
      if (P::shifts(component, k) && v.top[k][i] != s.top[k][i]) moved += v.top[k][i] - s.top[k][i];
    return s.coefficient[component][i] * (moved == 0 ? real(1) : real(__builtin_exp(double(moved))));
  }

  template <class State> void finish(const Tile& t, const State& s, const Result& r) {
    for (int64_t n = 0; n < count; ++n) {
      const Visit& v = visits[n];
      for (int k = 0; k < P::COMPONENTS; ++k) {
        real factors[QUERY_BLOCK];
        for (int i = v.first; i < v.last; ++i) factors[i] = factor(v, s, k, i);
        add_columns(r.at(t.chunk, t.b, t.h, v.j0), at(k, v.kb) + v.first * SCORE_ROW + v.start, factors + v.first,
                    v.last - v.first, v.keys);
      }
    }
    count = 0;
  }
};

}  // namespace regard
