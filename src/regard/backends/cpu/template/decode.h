// A few query rows against many keys, as in decoding: every key and value is read once, in place.
//
// Nothing is laid out, because that would read and write as much as the sweep itself; the time is that of
// reading memory. The keys are cut into chunks fixed by the shapes, whose results are joined in order.
// Leaves to others: long sweeps (forward.h).
#pragma once

#include "forward.h"

namespace regard {

// Numbers as stored, W at a time.
struct Float32 {
  using type = float;
  static REGARD_INLINE Vec get(const type* x) { return vec_of(*(const LooseSingle*)x); }
  static REGARD_INLINE real one(const type* x) { return *x; }
};
struct Float64 {
  using type = double;
  static REGARD_INLINE Vec get(const type* x) {
    Vec found{};
    for (int lane = 0; lane < W; ++lane) found[lane] = real(x[lane]);
    return found;
  }
  static REGARD_INLINE real one(const type* x) { return real(*x); }
};
struct Bfloat16 {
  using type = uint16_t;
  static REGARD_INLINE Vec get(const type* x) { return load_bf16(x); }
  static REGARD_INLINE real one(const type* x) { return from_bf16(*x); }
};
struct Float16 {
  using type = uint16_t;
  static REGARD_INLINE Vec get(const type* x) { return load_f16(x); }
  static REGARD_INLINE real one(const type* x) { return from_f16(*x); }
};

template <class F> REGARD_INLINE void as_stored(int64_t storage, F function) {
  switch (storage) {
    case FLOAT32: return function(Float32{});
    case FLOAT64: return function(Float64{});
    case BFLOAT16: return function(Bfloat16{});
    default: return function(Float16{});
  }
}

// The sums of eight vectors, in order. Adding neighbours of two vectors at once takes about a third of
// the instructions that summing each alone would.
template <int lanes> REGARD_INLINE void store_sums(const Vec (&x)[8], real* to) {
  if constexpr (lanes == 8) {
    typedef typename Part<lanes>::type Vec;
    auto beside = [](Vec a, Vec b) {
      return __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +
             __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
    };
    const Vec low = beside(beside(x[0], x[1]), beside(x[2], x[3]));
    const Vec high = beside(beside(x[4], x[5]), beside(x[6], x[7]));
    store(to, __builtin_shufflevector(low, high, 0, 1, 2, 3, 8, 9, 10, 11) +
                  __builtin_shufflevector(low, high, 4, 5, 6, 7, 12, 13, 14, 15));
  } else {
    UNROLL for (int v = 0; v < 8; ++v) to[v] = sum_of(x[v]);
  }
}

// scores (rows × SCORE_ROW) = left (rows × width) · keysᵀ, a few keys at a time.
template <class Stored>
__attribute__((noinline)) static void dot_keys(int rows, int keys, int64_t width, const real* left,
                                               int64_t left_row, const typename Stored::type* key,
                                               int64_t key_row, real* scores) {
  constexpr int TOGETHER = 8;
  const int64_t whole = width / W * W;
  for (int j = 0; j < keys; j += TOGETHER) {
    const int count = keys - j < TOGETHER ? keys - j : TOGETHER;
    const typename Stored::type* at[TOGETHER];
    for (int v = 0; v < TOGETHER; ++v) at[v] = key + (j + (v < count ? v : 0)) * key_row;
    for (int r = 0; r < rows; ++r) {
      const real* u = left + r * left_row;
      Vec sum[TOGETHER]{};
      for (int64_t c = 0; c < whole; c += W) {
        const Vec x = load(u + c);
        UNROLL for (int v = 0; v < TOGETHER; ++v) sum[v] += x * Stored::get(at[v] + c);
      }
      // A row of scores has room for whole vectors of keys, and a margin.
      real* to = scores + r * SCORE_ROW + j;
      store_sums<W>(sum, to);
      for (int64_t c = whole; c < width; ++c)
        for (int v = 0; v < count; ++v) to[v] += u[c] * Stored::one(at[v] + c);
    }
  }
}

// summed (rows × columns) += weights (rows × SCORE_ROW) · values. A weight of 0 adds nothing, so that a
// hidden key may hold anything.
template <class Stored>
__attribute__((noinline)) static void add_values(int rows, int keys, int64_t width, const real* weights,
                                                 const typename Stored::type* value, int64_t value_row,
                                                 real* summed, int64_t columns) {
  constexpr int TOGETHER = 8;
  const int64_t whole = width / W * W;
  for (int r = 0; r < rows; ++r) {
    const real* weight = weights + r * SCORE_ROW;
    real* to = summed + r * columns;
    for (int64_t c = 0; c < whole; c += TOGETHER * W) {
      const int vecs = int(least(TOGETHER, (whole - c) / W));
      Vec sum[TOGETHER];
      for (int v = 0; v < vecs; ++v) sum[v] = load(to + c + v * W);
      for (int j = 0; j < keys; ++j) {
        if (weight[j] == 0) continue;
        const Vec w = splat(weight[j]);
        const typename Stored::type* row = value + j * value_row + c;
        if (vecs == TOGETHER) {
          UNROLL for (int v = 0; v < TOGETHER; ++v) sum[v] += w * Stored::get(row + v * W);
        } else {
          for (int v = 0; v < vecs; ++v) sum[v] += w * Stored::get(row + v * W);
        }
      }
      for (int v = 0; v < vecs; ++v) store(to + c + v * W, sum[v]);
    }
    for (int64_t c = whole; c < width; ++c)
      for (int j = 0; j < keys; ++j)
        if (weight[j] != 0) to[c] += weight[j] * Stored::one(value + j * value_row + c);
  }
}

// One block of keys for the query rows of one head.
template <class P> static void weigh_keys(Tile& t, RowState<P>& s, real* const* left, Block block) {
  const Call& call = *t.call;
  read_keys<P>(t);
  for (int k = 0; k < P::DOTS; ++k) {
    const Input& x = call.inputs[P::rights[P::dots[k].right]];
    const char* key = place_of(x, t.b, t.h, t.j0, 0);
    as_stored(x.storage, [&](auto stored) {
      using Stored = decltype(stored);
      dot_keys<Stored>(t.rows, t.keys, x.width, left[P::dots[k].left], padded(x.width, W),
                       (const typename Stored::type*)key, x.by_row, t.scores[k]);
    });
  }
  weigh(t, s, block);
  const Input& x = call.inputs[P::VALUE];
  const char* value = place_of(x, t.b, t.h, t.j0, 0);
  for (int k = 0; k < P::COMPONENTS; ++k)
    as_stored(x.storage, [&](auto stored) {
      using Stored = decltype(stored);
      add_values<Stored>(t.rows, t.keys, x.width, t.scores[k], (const typename Stored::type*)value,
                         x.by_row, s.summed[k], s.columns);
    });
}

// Add what another chunk found to what was found before it.
template <class P> static void join(RowState<P>& all, RowState<P>& part, int rows) {
  for (int i = 0; i < rows; ++i) {
    for (int k = 0; k < P::TERMS; ++k) {
      const real top = all.top[k][i] > part.top[k][i] ? all.top[k][i] : part.top[k][i];
      all.raise(k, i, top);
      part.raise(k, i, top);
    }
    for (int k = 0; k < P::SUMS; ++k) all.sum[k][i] += part.sum[k][i];
    for (int k = 0; k < P::COMPONENTS; ++k)
      for (int64_t c = 0; c < all.columns; c += W) {
        real* place = all.summed[k] + i * all.columns + c;
        store(place, load(place) + load(part.summed[k] + i * all.columns + c));
      }
  }
}

template <class P> static int sweep_few(const Call& call) {
  static thread_local Scratch scratch;
  const int64_t key_blocks = (call.keys + KEY_BLOCK - 1) / KEY_BLOCK, rows = call.queries;
  const int64_t group = call.heads / call.groups, heads = call.batch * call.heads;
  const int64_t columns = padded(call.inputs[P::VALUE].width, W);
  const int64_t state_numbers = padded(sizeof(RowState<P>) / sizeof(real) + 1, 64 / sizeof(real));
  const int64_t numbers = state_numbers + padded(P::COMPONENTS * rows * columns, 64 / sizeof(real));
  Shared shared;
  if (!shared.allot(heads * call.chunks * numbers)) return NO_MEMORY;
  real* const kept = shared.take(heads * call.chunks * numbers);
  auto state_of = [&](int64_t b, int64_t h, int64_t chunk) {
    real* place = kept + ((b * call.heads + h) * call.chunks + chunk) * numbers;
    RowState<P>* s = (RowState<P>*)place;
    for (int k = 0; k < P::COMPONENTS; ++k) s->summed[k] = place + state_numbers + k * rows * columns;
    s->columns = columns;
    return s;
  };
  int status = DONE;
#pragma omp parallel num_threads(int(call.threads))
  {
    TileMemory<P> memory(call, scratch, rows, KEY_BLOCK);
    if (!memory.good) __atomic_store_n(&status, NO_MEMORY, __ATOMIC_RELAXED);
#pragma omp barrier
    const bool ready = __atomic_load_n(&status, __ATOMIC_RELAXED) != NO_MEMORY;
    Tile& t = memory.t;
    auto enter = [&](int64_t b, int64_t h) {
      t.b = b;
      t.h = h;
      t.i0 = 0;
      t.rows = int(call.queries_of(b));
      read_numbers<P>(t);
      read_queries<P>(t);
    };
#pragma omp for schedule(dynamic, 1)
    for (int64_t part = 0; part < call.batch * call.groups * call.chunks; ++part) {
      const int64_t chunk = part % call.chunks, g = part / call.chunks % call.groups;
      const int64_t b = part / call.chunks / call.groups;
      if (!ready) continue;
      for (int64_t h = g * group; h < (g + 1) * group; ++h) {
        enter(b, h);
        state_of(b, h, chunk)->start(t);
      }
      const int64_t first = key_blocks * chunk / call.chunks;
      const int64_t last = key_blocks * (chunk + 1) / call.chunks;
      for (int64_t kb = first; kb < last; ++kb) {
        if (kb * KEY_BLOCK >= call.keys_of(b)) break;
        // All heads of the group read a block while it is near.
        for (int64_t h = g * group; h < (g + 1) * group; ++h) {
          enter(b, h);
          for (int k = 0; k < P::LEFTS; ++k) {
            const Input& x = call.inputs[P::lefts[k]];
            lay_plainly(x, b, h, 0, t.rows, memory.left[k], padded(x.width, W));
          }
          each_tile(t, 0, kb, [&](Block block) { weigh_keys(t, *state_of(b, h, chunk), memory.left, block); });
        }
      }
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t part = 0; part < heads; ++part) {
      if (!ready) continue;
      enter(part / call.heads, part % call.heads);
      if (t.rows <= 0) continue;
      RowState<P>& all = *state_of(t.b, t.h, 0);
      for (int64_t chunk = 1; chunk < call.chunks; ++chunk) join(all, *state_of(t.b, t.h, chunk), t.rows);
      finish_rows(t, all);
    }
  }
  return status;
}

}  // namespace regard
