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
template <int lanes> REGARD_INLINE void store_sums(const typename Part<lanes>::type (&x)[8], real* to) {
  if constexpr (lanes == 16) {
    typename Part<8>::type half[8];
    UNROLL for (int v = 0; v < 8; ++v)
      half[v] = __builtin_shufflevector(x[v], x[v], 0, 1, 2, 3, 4, 5, 6, 7) +
                __builtin_shufflevector(x[v], x[v], 8, 9, 10, 11, 12, 13, 14, 15);
    store_sums<8>(half, to);
  } else if constexpr (lanes == 8) {
    typedef typename Part<lanes>::type Eight;
    typedef Eight Loose __attribute__((aligned(sizeof(real)), may_alias));
    auto beside = [](Eight a, Eight b) {
      return __builtin_shufflevector(a, b, 0, 2, 8, 10, 4, 6, 12, 14) +
             __builtin_shufflevector(a, b, 1, 3, 9, 11, 5, 7, 13, 15);
    };
    const Eight low = beside(beside(x[0], x[1]), beside(x[2], x[3]));
    const Eight high = beside(beside(x[4], x[5]), beside(x[6], x[7]));
    *(Loose*)to = __builtin_shufflevector(low, high, 0, 1, 2, 3, 8, 9, 10, 11) +
                  __builtin_shufflevector(low, high, 4, 5, 6, 7, 12, 13, 14, 15);
  } else {
    UNROLL for (int v = 0; v < 8; ++v) to[v] = fold<Add, lanes>(x[v]);
  }
}

// Ask for a row that is read soon: processors look ahead by themselves within a page alone. Measured on
// AVX-512: a fifth of the time of keys that are in no cache.
template <class T> REGARD_INLINE void fetch_ahead(const T* row, int64_t width) {
  for (int64_t c = 0; c < width; c += 64 / sizeof(T)) __builtin_prefetch(row + c);
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
    for (int v = 0; v < TOGETHER; ++v) fetch_ahead(key + (j + TOGETHER + v) * key_row, width);
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

// COUNT vectors of a row of sums += weights · values, one key after the other. A weight of 0 adds
// nothing, so that a hidden key may hold anything.
template <class Stored, int COUNT>
REGARD_INLINE void add_weighted(int keys, const real* weight, const typename Stored::type* value,
                                int64_t value_row, real* to) {
  Vec sum[COUNT];
  UNROLL for (int v = 0; v < COUNT; ++v) sum[v] = load(to + v * W);
  for (int j = 0; j < keys; ++j) {
    if (weight[j] == 0) continue;
    const Vec w = splat(weight[j]);
    UNROLL for (int v = 0; v < COUNT; ++v) sum[v] += w * Stored::get(value + j * value_row + v * W);
  }
  UNROLL for (int v = 0; v < COUNT; ++v) store(to + v * W, sum[v]);
}

// summed (rows × columns) += weights (rows × SCORE_ROW) · values, for as many keys at a time as stay near
// until every row has read them.
template <class Stored>
__attribute__((noinline)) static void add_values(int rows, int keys, int64_t width, const real* weights,
                                                 const typename Stored::type* value, int64_t value_row,
                                                 real* summed, int64_t columns) {
  constexpr int NEAR = 32;
  const int64_t whole = width / W * W;
  for (int first = 0; first < keys; first += NEAR, value += NEAR * value_row) {
    const int count = keys - first < NEAR ? keys - first : NEAR;
    for (int j = 0; j < NEAR; ++j) fetch_ahead(value + (NEAR + j) * value_row, width);
    for (int r = 0; r < rows; ++r) {
      const real* weight = weights + r * SCORE_ROW + first;
      real* to = summed + r * columns;
      int64_t c = 0;
      for (; c + 8 * W <= whole; c += 8 * W) add_weighted<Stored, 8>(count, weight, value + c, value_row, to + c);
      for (; c + 4 * W <= whole; c += 4 * W) add_weighted<Stored, 4>(count, weight, value + c, value_row, to + c);
      for (; c < whole; c += W) add_weighted<Stored, 1>(count, weight, value + c, value_row, to + c);
      for (; c < width; ++c)
        for (int j = 0; j < count; ++j)
          if (weight[j] != 0) to[c] += weight[j] * Stored::one(value + j * value_row + c);
    }
  }
}

// Enter a head: what its rows read beside keys.
template <class P> static void enter_head(Tile& t, int64_t h) {
  t.h = h;
  read_numbers<P>(t);
  read_queries<P>(t);
}

// One tile for the query rows of `heads` heads from the tile's own on, which read the same keys: the
// products of all of them together, what lies between for each head.
template <class P>
static void weigh_keys(Tile& t, RowState<P>* const* states, int heads, TileMemory<P>& memory, Block block) {
  const Call& call = *t.call;
  const int64_t first = t.h, rows = heads * t.rows;
  for (int k = 0; k < P::DOTS; ++k) {
    const Input& x = call.inputs[P::rights[P::dots[k].right]];
    const char* key = place_of(x, t.b, first, t.j0, 0);
    as_stored(x.storage, [&](auto stored) {
      using Stored = decltype(stored);
      dot_keys<Stored>(rows, t.keys, x.width, memory.left[P::dots[k].left], padded(x.width, W),
                       (const typename Stored::type*)key, x.by_row, memory.scores[k]);
    });
  }
  real* own[Sizes<P>::BUFFERS + 1];
  t.scores = own;
  for (int n = 0; n < heads; ++n) {
    enter_head<P>(t, first + n);
    read_keys<P>(t);
    for (int k = 0; k < Sizes<P>::BUFFERS; ++k) own[k] = memory.scores[k] + n * t.rows * SCORE_ROW;
    weigh(t, *states[n], block);
  }
  t.scores = memory.scores;
  t.h = first;
  const Input& x = call.inputs[P::VALUE];
  const char* value = place_of(x, t.b, first, t.j0, 0);
  for (int k = 0; k < P::COMPONENTS; ++k)
    as_stored(x.storage, [&](auto stored) {
      using Stored = decltype(stored);
      add_values<Stored>(rows, t.keys, x.width, memory.scores[k], (const typename Stored::type*)value,
                         x.by_row, states[0]->summed[k], states[0]->columns);
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

// How many heads of a group see the same tiles of the same keys, and have no more rows than a block.
template <class P> static int64_t heads_together(const Call& call) {
  int64_t found = call.blocks && call.blocks_by_head ? 1 : call.heads / call.groups;
  for (int k = 0; k < P::RIGHTS; ++k) found = least(found, call.inputs[P::rights[k]].share);
  if (P::COMPONENTS) found = least(found, call.inputs[P::VALUE].share);
  return least(found, QUERY_BLOCK / (call.queries > 0 ? call.queries : 1));
}

template <class P> static int sweep_few(const Call& call) {
  static thread_local Scratch scratch;
  const int64_t key_blocks = (call.keys + KEY_BLOCK - 1) / KEY_BLOCK, rows = call.queries;
  const int64_t group = call.heads / call.groups, heads = call.batch * call.heads;
  const int64_t together = heads_together<P>(call);
  const int64_t columns = padded(call.inputs[P::VALUE].width, W);
  const int64_t state_numbers = padded(sizeof(RowState<P>) / sizeof(real) + 1, 64 / sizeof(real));
  const int64_t sums = padded(P::COMPONENTS * rows * columns, 64 / sizeof(real));
  Shared shared;
  if (!shared.allot(heads * call.chunks * (state_numbers + sums) + 2 * call.batch * call.groups)) return NO_MEMORY;
  real* const states = shared.take(heads * call.chunks * state_numbers);
  real* const summed = shared.take(heads * call.chunks * sums);
  int64_t* const finished = (int64_t*)shared.take(2 * call.batch * call.groups);
  __builtin_memset(finished, 0, sizeof(int64_t) * call.batch * call.groups);
  auto state_of = [&](int64_t b, int64_t h, int64_t chunk) {
    return (RowState<P>*)(states + ((b * call.chunks + chunk) * call.heads + h) * state_numbers);
  };
  // The sums of heads lie one behind the other.
  auto start = [&](Tile& t, int64_t chunk) {
    RowState<P>* s = state_of(t.b, t.h, chunk);
    real* place = summed + (t.b * call.chunks + chunk) * call.heads * sums + t.h * t.rows * columns;
    for (int k = 0; k < P::COMPONENTS; ++k) s->summed[k] = place + k * call.heads * rows * columns;
    s->columns = columns;
    s->start(t);
  };
  int status = DONE;
#pragma omp parallel num_threads(int(call.threads))
  {
    TileMemory<P> memory(call, scratch, together * rows, KEY_BLOCK);
    if (!memory.good) __atomic_store_n(&status, NO_MEMORY, __ATOMIC_RELAXED);
    Tile& t = memory.t;
    t.i0 = 0;
    // No thread waits for another: who comes late finds less to do.
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t part = 0; part < call.batch * call.groups * call.chunks; ++part) {
      if (!memory.good) continue;
      const int64_t chunk = part % call.chunks, g = part / call.chunks % call.groups;
      const int64_t end = (g + 1) * group;
      t.b = part / call.chunks / call.groups;
      t.rows = int(call.queries_of(t.b));
      for (int64_t h = g * group; h < end; ++h) {
        enter_head<P>(t, h);
        start(t, chunk);
      }
      const int64_t first = key_blocks * chunk / call.chunks;
      const int64_t last = key_blocks * (chunk + 1) / call.chunks;
      for (int64_t kb = first; kb < last; ++kb) {
        if (kb * KEY_BLOCK >= call.keys_of(t.b)) break;
        // All heads of the group read a block while it is near.
        for (int64_t h = g * group; h < end; h += together) {
          const int some = int(least(together, end - h));
          RowState<P>* own[QUERY_BLOCK];
          for (int n = 0; n < some; ++n) own[n] = state_of(t.b, h + n, chunk);
          for (int k = 0; k < P::LEFTS; ++k) {
            const Input& x = call.inputs[P::lefts[k]];
            const int64_t width = padded(x.width, W);
            for (int n = 0; n < some; ++n)
              lay_plainly(x, t.b, h + n, 0, t.rows, memory.left[k] + n * t.rows * width, width);
          }
          t.h = h;
          each_tile(t, 0, kb, [&](Block block) { weigh_keys(t, own, some, memory, block); });
        }
      }
      if (__atomic_add_fetch(finished + t.b * call.groups + g, 1, __ATOMIC_ACQ_REL) < call.chunks) continue;
      // The last chunk of a group is done; they are joined in order, whoever does it.
      if (t.rows <= 0) continue;
      for (int64_t h = g * group; h < end; ++h) {
        enter_head<P>(t, h);
        RowState<P>& all = *state_of(t.b, h, 0);
        for (int64_t c = 1; c < call.chunks; ++c) join(all, *state_of(t.b, h, c), t.rows);
        finish_rows(t, all);
      }
    }
  }
  return status;
}

}  // namespace regard
