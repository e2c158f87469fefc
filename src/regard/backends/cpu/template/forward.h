// Sweeps over the keys of each query row: maxima, row sums and summed rows, block by block.
//
// The largest exponent of a row is found while sums are taken: when it rises, what was summed so far is
// scaled down (Milakov & Gimelshein 2018; Dao et al. 2022). Tasks are blocks of query rows.
// Leaves to others: the program's own arithmetic (emitted as `P`), and gradients (backward.h).
#pragma once

#include "channels.h"
#include "halves.h"
#include "largest.h"
#include "received.h"

namespace regard {

// How many tables' weights a sweep finds: programs without any do not say so.
template <class P, class = void> struct Histograms {
  static constexpr int COUNT = 0;
};
template <class P> struct Histograms<P, decltype(void(P::HISTOGRAMS))> {
  static constexpr int COUNT = P::HISTOGRAMS;
};

// How many components' sums a sweep returns beside the summed row they make up: those of a gradient.
template <class P, class = void> struct Apart {
  static constexpr int COUNT = 0;
};
template <class P> struct Apart<P, decltype(void(P::APART))> {
  static constexpr int COUNT = P::COMPONENTS;
};

// How many of the largest scores of its first term a sweep lists for each query row, with their keys.
template <class P, class = void> struct Listed {
  static constexpr int COUNT = 0;
};
template <class P> struct Listed<P, decltype(void(P::LISTED))> {
  static constexpr int COUNT = P::LISTED;
  static_assert(COUNT <= FEW, "a few are kept in order");
};

// The result that holds a histogram: the weights of a table's rows, for each query row.
template <class P> REGARD_INLINE const Result& histogram(const Call& call, int k) {
  return call.results[P::TERMS + P::SUMS + P::FINALS + (P::COMPONENTS > 0) + Apart<P>::COUNT + k];
}

// What the sweep has found for a block of query rows.
template <class P> struct RowState {
  real top[P::TERMS + 1][QUERY_BLOCK];
  real sum[P::SUMS + 1][QUERY_BLOCK];
  real found[P::FINALS + 1][QUERY_BLOCK];
  real coefficient[P::COMPONENTS + 1][QUERY_BLOCK];
  real share[Histograms<P>::COUNT + 1][QUERY_BLOCK];
  real* summed[P::COMPONENTS + 1];
  int64_t columns;
  static constexpr int LISTED = Listed<P>::COUNT;
  Kept listed[LISTED ? QUERY_BLOCK : 1];
  real listed_values[LISTED * QUERY_BLOCK + 1], listed_keys[LISTED * QUERY_BLOCK + 1];

  void start(const Tile& t) {
    for (int i = 0; i < t.rows; ++i) {
      for (int k = 0; k < P::TERMS; ++k) top[k][i] = P::start(t, k, i);
      for (int k = 0; k < P::SUMS; ++k) sum[k][i] = 0;
      const real nothing = -__builtin_inff();
      if (LISTED) listed[i] = {listed_values + i * LISTED, listed_keys + i * LISTED, 0, 0, nothing, nothing};
    }
    for (int k = 0; k < P::COMPONENTS; ++k)
      __builtin_memset(summed[k], 0, sizeof(real) * t.rows * columns);
  }

  // Let the largest exponent of row i become `largest`.
  void raise(int term, int i, real largest) {
    const real before = top[term][i];
    if (before == largest || largest != largest) return;
    top[term][i] = largest;
    if (before == -__builtin_inff()) return;
    const real moved = before - largest, factor = __builtin_exp(double(moved));
    P::rescale(term, moved, factor, &sum[0][i]);
    for (int k = 0; k < P::COMPONENTS; ++k)
      if (P::shifts(k, term))
        for (int64_t c = 0; c < columns; c += W) {
          real* place = summed[k] + i * columns + c;
          store(place, load(place) * factor);
        }
  }
};

// No key seen yet: subtract nothing.
REGARD_INLINE real finite_shift(real top) { return top == -__builtin_inff() ? real(0) : top; }

// What a row's histograms hold so far is scaled down when its largest exponent rises.
template <class P> static void rescale_histograms(const Tile& t, int term, int i, real before, real top) {
  if (before == top || top != top || before == -__builtin_inff()) return;
  const real factor = __builtin_exp(double(before - top));
  for (int k = 0; k < Histograms<P>::COUNT; ++k) {
    if (!P::shifts_histogram(k, term)) continue;
    const Result& r = histogram<P>(*t.call, k);
    real* to = r.at(0, t.b, t.h, t.i0 + i);
    for (int64_t e = 0; e < r.by_row; ++e) to[e] *= factor;
  }
}

// What a histogram's row sums are multiplied by at the end. A row that sees nothing stays 0.
template <class P> static void finish_histograms(const Tile& t, const RowState<P>& s) {
  for (int k = 0; k < Histograms<P>::COUNT; ++k) {
    const Result& r = histogram<P>(*t.call, k);
    for (int i = 0; i < t.rows; ++i) {
      real* to = r.at(0, t.b, t.h, t.i0 + i);
      for (int64_t e = 0; e < r.by_row; ++e) to[e] = to[e] == 0 ? real(0) : to[e] * s.share[k][i];
    }
  }
}

// The pairs of one tile: scores to weights, in place, and row sums.
template <class P, bool MASKED>
__attribute__((noinline)) static void weigh_tile(Tile& t, RowState<P>& s) {
  for (int i = t.first; i < t.last; ++i) {
    start_row<P>(t, i);
    alignas(64) real kept[P::TERMS + 1][KEY_BLOCK];
    Vec shift[P::TERMS + 1];
    if constexpr (P::TERMS > 0) {
      Vec top[P::TERMS];
      [[maybe_unused]] Tops tops;
      for (int k = 0; k < P::TERMS; ++k) top[k] = splat(s.top[k][i]);
      constexpr int PART = Listed<P>::COUNT > 0 ? Tops::QUARTER : KEY_BLOCK;
      for (int part = 0; part * PART < t.keys; ++part) {
        const int end = int(least((part + 1) * PART, t.keys));
        [[maybe_unused]] Vec most = splat(-__builtin_inff());
#pragma GCC unroll 2
        for (int j = part * PART; j < end; j += W) {
          Vec score[P::TERMS];
          P::template scores<MASKED>(t, i, j, score);
          for (int k = 0; k < P::TERMS; ++k) {
            store(kept[k] + j, score[k]);
            top[k] = vmax(score[k], top[k]);
          }
          if constexpr (Listed<P>::COUNT > 0) most = vmax(score[0], most);
        }
        if constexpr (Listed<P>::COUNT > 0) tops.quarter[part] = most;
      }
      if constexpr (Listed<P>::COUNT > 0) add_to_few(t, s.listed[i], kept[0], Listed<P>::COUNT, tops);
      for (int k = 0; k < P::TERMS; ++k) {
        [[maybe_unused]] const real before = s.top[k][i];
        s.raise(k, i, max_of(top[k]));
        if constexpr (Histograms<P>::COUNT > 0) rescale_histograms<P>(t, k, i, before, s.top[k][i]);
        shift[k] = splat(finite_shift(s.top[k][i]));
      }
    }
    Vec sum[P::SUMS + 1]{};
#pragma GCC unroll 2
    for (int j = 0; j < t.keys; j += W) {
      Vec score[P::TERMS + 1], weight[P::COMPONENTS + 1];
      for (int k = 0; k < P::TERMS; ++k) score[k] = load(kept[k] + j);
      P::template weights<MASKED>(t, i, j, score, shift, sum, weight);
      for (int k = 0; k < P::COMPONENTS; ++k) store(t.scores[k] + i * SCORE_ROW + j, weight[k]);
    }
    for (int k = 0; k < P::SUMS; ++k) s.sum[k][i] += sum_of(sum[k]);
  }
}

template <class P> REGARD_INLINE void weigh(Tile& t, RowState<P>& s, Block block) {
  if (block == FULL)
    weigh_tile<P, false>(t, s);
  else
    weigh_tile<P, true>(t, s);
}

// Write the sums of the components from k on, each times its row's number.
template <class P>
static void write_components(const Tile& t, const RowState<P>& s, const Result& r, int first, int last) {
  const int64_t width = t.call->inputs[P::VALUE].width;
  for (int i = 0; i < t.rows; ++i) {
    real* to = r.at(0, t.b, t.h, t.i0 + i);
    int64_t c = 0;
    for (; c + W <= width; c += W) {
      Vec all{};
      for (int k = first; k < last; ++k) {
        const Vec sum = load(s.summed[k] + i * s.columns + c);
        // A row that sees nothing is 0, even if its number is 1 / 0.
        all += select(sum == real(0), Vec{}, sum * s.coefficient[k][i]);
      }
      store(to + c, all);
    }
    for (; c < width; ++c) {
      real all = 0;
      for (int k = first; k < last; ++k) {
        const real sum = s.summed[k][i * s.columns + c];
        all += sum == 0 ? 0 : sum * s.coefficient[k][i];
      }
      to[c] = all;
    }
  }
}

// Write the largest scores of each row and their keys, as these rise.
template <class P> static void write_listed(const Tile& t, RowState<P>& s, const Result* results) {
  for (int i = 0; i < t.rows; ++i) {
    Kept& row = s.listed[i];
    order_by_key(row);
    __builtin_memcpy(results[0].at(0, t.b, t.h, t.i0 + i), row.columns, sizeof(real) * row.count);
    __builtin_memcpy(results[1].at(0, t.b, t.h, t.i0 + i), row.values, sizeof(real) * row.count);
  }
}

// Turn the state of the rows into results, and write them.
template <class P> static void finish_rows(Tile& t, RowState<P>& s) {
  for (int i = 0; i < t.rows; i += W) P::finish(t, s, i);
  if constexpr (Histograms<P>::COUNT > 0) finish_histograms(t, s);
  const Result* result = t.call->results;
  auto write = [&](const real* from) {
    const Result& r = *result++;
    if (!r.data) return;
    real* to = r.at(0, t.b, t.h, t.i0);
    for (int i = 0; i < t.rows; ++i) to[i * r.by_row] = from[i];
  };
  for (int k = 0; k < P::TERMS; ++k) write(s.top[k]);
  for (int k = 0; k < P::SUMS; ++k) write(s.sum[k]);
  for (int k = 0; k < P::FINALS; ++k) write(s.found[k]);
  if constexpr (P::COMPONENTS > 0) {
    write_components(t, s, *result++, 0, P::COMPONENTS);
    for (int k = 0; k < Apart<P>::COUNT; ++k) write_components(t, s, *result++, k, k + 1);
  }
  if constexpr (Listed<P>::COUNT > 0) write_listed(t, s, result + Histograms<P>::COUNT);
}

// Numbers a thread needs for its tiles, handed out piece by piece.
template <class P> struct TileMemory {
  Tile t;
  RowState<P> state;
  real* scores[Sizes<P>::BUFFERS + 1];
  real* left[P::LEFTS + 1];
  real* left16[P::LEFTS + 1];
  uint16_t* narrow;  // the weights of a tile, rounded
  real* line;
  bool good;

  TileMemory(const Call& call, Scratch& scratch, int64_t rows, int64_t keys) {
    const int64_t columns = P::COMPONENTS ? padded(call.inputs[P::VALUE].width, W) : 0;
    int64_t widest = W, lefts = 0;
    for (int k = 0; k < P::LEFTS; ++k) lefts += rows * padded(call.inputs[P::lefts[k]].width, W);
    for (int k = 0; k < P::RIGHTS; ++k) widest = widest > call.inputs[P::rights[k]].width ? widest : call.inputs[P::rights[k]].width;
    widest = padded(widest > columns ? widest : columns, LINE_UNIT);
    const UnitDots<P> unit(call);
    auto left16_size = [&](int k) { return unit.left(k) ? bf16_rows_size(rows, call.inputs[P::lefts[k]].width) : 0; };
    for (int k = 0; k < P::LEFTS; ++k) lefts += left16_size(k);
    const int64_t numbers = (P::NUMBERS + 1) * W + (P::QUERIES + 0) * QUERY_BLOCK +
                            (P::KEYS + P::PAIRS) * KEY_BLOCK + Sizes<P>::BUFFERS * rows * SCORE_ROW +
                            P::COMPONENTS * rows * columns + lefts + ROUNDED + widest + 64;
    real* next = scratch.take(numbers);
    good = next != nullptr;
    if (!good) return;
    auto take = [&](int64_t count) { real* found = next; next += count; return found; };
    t.call = &call;
    narrow = (uint16_t*)take(ROUNDED);
    for (int k = 0; k < P::LEFTS; ++k) left16[k] = take(left16_size(k));
    for (int k = 0; k < Sizes<P>::BUFFERS; ++k) scores[k] = take(rows * SCORE_ROW);
    for (int k = 0; k < P::COMPONENTS; ++k) state.summed[k] = take(rows * columns);
    for (int k = 0; k < P::LEFTS; ++k) left[k] = take(rows * padded(call.inputs[P::lefts[k]].width, W));
    t.queries = take(P::QUERIES * QUERY_BLOCK);
    t.keyed = take(P::KEYS * KEY_BLOCK);
    t.pairs = take(P::PAIRS * KEY_BLOCK);
    line = take(widest);
    t.numbers = take((P::NUMBERS + 1) * W);
    t.scores = scores;
    state.columns = columns;
  }
};

// The key inputs of a call, transposed for scores and in panels for sums.
template <class P> struct LaidKeys {
  Laid right[P::RIGHTS + 1], right16[P::RIGHTS + 1], value;
  UnitDots<P> unit;

  LaidKeys(const Call& call) : unit(call) {
    for (int k = 0; k < P::RIGHTS; ++k) {
      const Input& x = call.inputs[P::rights[k]];
      const int64_t size = x.width * least(KEY_BLOCK, padded(call.keys, W));
      right[k] = Laid(call, x, call.keys, KEY_BLOCK, unit.plain_right(k) ? size : 0);
      right16[k] = Laid(call, x, call.keys, KEY_BLOCK, unit.right(k) ? bf16_rows_size(allotted(call), x.width) : 0);
    }
    if constexpr (P::COMPONENTS > 0) {
      const Input& x = call.inputs[P::VALUE];
      const int64_t size = padded(x.width, W) * allotted(call);
      value = Laid(call, x, call.keys, KEY_BLOCK, values16() ? bf16_panels_size(allotted(call), x.width) : size);
    }
  }
  // Whether weights times values are the unit's.
  bool values16() const { return unit.rows(P::VALUE); }
  static int64_t allotted(const Call& call) { return least(KEY_BLOCK, call.keys); }

  bool allot(Shared& memory) {
    int64_t numbers = 64;
    for (int k = 0; k < P::RIGHTS; ++k) numbers += right[k].numbers() + right16[k].numbers() + 32;
    if (P::COMPONENTS > 0) numbers += value.numbers() + 16;
    if (!memory.allot(numbers)) return false;
    for (int k = 0; k < P::RIGHTS; ++k) {
      right[k].data = memory.take(right[k].numbers());
      right16[k].data = memory.take(right16[k].numbers());
    }
    if (P::COMPONENTS > 0) value.data = memory.take(value.numbers());
    return true;
  }

  // Lay out block kb of what head h of batch row b is the first to read.
  bool lay(const Call& call, int64_t b, int64_t h, int64_t kb, real* line) {
    const int64_t j0 = kb * KEY_BLOCK;
    bool good = true;
    for (int k = 0; k < P::RIGHTS; ++k) {
      const Input& x = call.inputs[P::rights[k]];
      const int keys = right[k].rows_from(call.keys, j0, call.key_lengths, b, KEY_BLOCK);
      if (keys <= 0 || !right[k].owned_by(b, h)) continue;
      if (unit.plain_right(k))
        good &= lay_transposed(x, b, h, j0, keys, columns_of(call, kb), right[k].at(b, h, kb), line);
      if (unit.right(k)) good &= lay_bf16_columns(x, b, h, j0, keys, right16[k].at(b, h, kb), line);
    }
    if constexpr (P::COMPONENTS > 0) {
      const Input& x = call.inputs[P::VALUE];
      const int keys = value.rows_from(call.keys, j0, call.key_lengths, b, KEY_BLOCK);
      if (keys <= 0 || !value.owned_by(b, h)) return good;
      const auto lay_values = values16() ? lay_bf16_panels : lay_panels;
      good &= lay_values(x, b, h, j0, keys, value.at(b, h, kb), allotted(call), line);
    }
    return good;
  }
};

// The dots and channel sums of one tile.
template <class P>
REGARD_INLINE void score_tile(Tile& t, TileMemory<P>& memory, LaidKeys<P>& laid, int64_t kb) {
  const Call& call = *t.call;
  const int64_t columns = columns_of(call, kb);
  read_keys<P>(t);
  for (int k = 0; k < P::DOTS; ++k) {
    const Dot dot = P::dots[k];
    const int64_t width = call.inputs[P::lefts[dot.left]].width;
    if (laid.unit.dot(k)) {
      const real* keys = laid.right16[dot.right].at(t.b, t.h, kb);
      multiply_bf16(t.seen(), int(padded(t.keys, W)), int(width), bf16_left(memory.left16[dot.left], width, t.first),
                    bf16_columns(keys, width, t.start), t.scores_seen(k), SCORE_ROW, false);
      continue;
    }
    const real* keys = laid.right[dot.right].at(t.b, t.h, kb) + t.start * width;
    const int64_t by_row = padded(width, W);
    multiply(t.seen(), int(padded(t.keys, W)), int(width), Left{memory.left[dot.left] + t.first * by_row, by_row, 1},
             Panels{keys, width, columns - t.start}, t.scores_seen(k), SCORE_ROW, false);
  }
  P::channel_sums(t, PlainRows<P>{call, memory.left}, laid.right, kb, columns, nullptr);
}

// One tile: scores, weights, and weights times values.
template <class P>
REGARD_INLINE void sum_tile(Tile& t, TileMemory<P>& memory, LaidKeys<P>& laid, int64_t kb, Block block) {
  const Call& call = *t.call;
  score_tile(t, memory, laid, kb);
  weigh(t, memory.state, block);
  const int64_t width = memory.state.columns;
  const int64_t allotted = LaidKeys<P>::allotted(call);
  for (int k = 0; k < P::COMPONENTS; ++k) {
    const real* values = laid.value.at(t.b, t.h, kb);
    real* to = memory.state.summed[k] + t.first * width;
    if (laid.values16()) {
      round_rows(t.seen(), t.keys, t.scores_seen(k), SCORE_ROW, memory.narrow, ROUNDED_ROW);
      multiply_bf16(t.seen(), int(width), t.keys, Bf16Left{memory.narrow, ROUNDED_ROW},
                    bf16_panels(values, allotted, t.start), to, width, true);
      continue;
    }
    multiply(t.seen(), int(width), t.keys, Left{t.scores_seen(k), SCORE_ROW, 1},
             Panels{values, allotted, width, t.start}, to, width, true);
  }
}

// Lay the rows of a block of queries out for products.
template <class P> static bool lay_queries(const Tile& t, TileMemory<P>& memory, const LaidKeys<P>& laid) {
  bool good = true;
  for (int k = 0; k < P::LEFTS; ++k) {
    const Input& x = t.call->inputs[P::lefts[k]];
    if (laid.unit.plain_left(k))
      good &= lay_plainly(x, t.b, t.h, t.i0, t.rows, memory.left[k], padded(x.width, W));
    if (laid.unit.left(k)) good &= lay_bf16_rows(x, t.b, t.h, t.i0, t.rows, memory.left16[k]);
  }
  return good;
}

// The result that holds what keys receive: the last one.
template <class P> REGARD_INLINE const Result& received(const Call& call) {
  return (&histogram<P>(call, 0))[Histograms<P>::COUNT + (Listed<P>::COUNT > 0 ? 2 : 0)];
}

// Visit the blocks of keys for each block of query rows; `Work` says what is done there, and whether a task
// is one such block or all those of a chunk.
template <class P, class Work> static int sweep_blocks(const Call& call) {
  static thread_local Scratch scratch;
  const int64_t query_blocks = (call.queries + QUERY_BLOCK - 1) / QUERY_BLOCK;
  const int64_t key_blocks = (call.keys + KEY_BLOCK - 1) / KEY_BLOCK;
  const int64_t layings = call.batch * call.heads * key_blocks;
  const int64_t parts = Work::IN_CHUNKS ? call.chunks : query_blocks;
  const int64_t tasks = call.batch * call.heads * parts;
  const int64_t rows = least(QUERY_BLOCK, padded(call.queries, 1));
  LaidKeys<P> laid(call);
  Shared shared;
  if (!laid.allot(shared)) return NO_MEMORY;
  int status = DONE;
#pragma omp parallel num_threads(int(call.threads))
  {
    [[maybe_unused]] const Tiles tiles;
    TileMemory<P> memory(call, scratch, rows, least(KEY_BLOCK, call.keys));
    Work work(call);
    if (!memory.good || !work.good()) __atomic_store_n(&status, NO_MEMORY, __ATOMIC_RELAXED);
#pragma omp barrier
    const bool ready = __atomic_load_n(&status, __ATOMIC_RELAXED) != NO_MEMORY;
    bool good = true;
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < layings; ++task) {
      if (!ready || P::RIGHTS + P::COMPONENTS == 0) continue;
      const int64_t kb = task % key_blocks, h = task / key_blocks % call.heads, b = task / key_blocks / call.heads;
      good &= laid.lay(call, b, h, kb, memory.line);
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t task = 0; task < tasks; ++task) {
      if (!ready) continue;
      Tile& t = memory.t;
      t.h = task / parts % call.heads;
      t.b = task / parts / call.heads;
      t.chunk = task % parts;
      // The last query rows see most keys under a causal mask, so they come first.
      for (int64_t qb = query_blocks - 1 - t.chunk; qb >= 0; qb -= parts) {
        t.i0 = qb * QUERY_BLOCK;
        t.rows = int(least(QUERY_BLOCK, call.queries_of(t.b) - t.i0));
        if (t.rows <= 0) continue;
        read_numbers<P>(t);
        read_queries<P>(t);
        good &= lay_queries(t, memory, laid);
        work.start(t, memory);
        for (int64_t kb = 0; kb * KEY_BLOCK < call.keys_of(t.b); ++kb)
          each_tile(t, qb, kb, [&](Block block) { work.visit(t, memory, laid, kb, block); });
        work.finish(t, memory);
      }
    }
    if (!good) __atomic_store_n(&status, NOT_FINITE, __ATOMIC_RELAXED);
  }
  return status;
}

// Row values and summed rows.
template <class P> struct Summing {
  static constexpr bool IN_CHUNKS = false;
  Summing(const Call&) {}
  bool good() const { return true; }
  void start(Tile& t, TileMemory<P>& memory) { memory.state.start(t); }
  void visit(Tile& t, TileMemory<P>& memory, LaidKeys<P>& laid, int64_t kb, Block block) {
    sum_tile(t, memory, laid, kb, block);
  }
  void finish(Tile& t, TileMemory<P>& memory) { finish_rows(t, memory.state); }
};

// The same, and what keys receive.
template <class P> struct Receiving {
  static constexpr bool IN_CHUNKS = true;
  static Scratch& scratch() {
    static thread_local Scratch kept;
    return kept;
  }
  Received<P> tiles;
  Receiving(const Call& call) : tiles(call, scratch()) {}
  bool good() const { return tiles.good; }
  void start(Tile& t, TileMemory<P>& memory) { memory.state.start(t); }
  void visit(Tile& t, TileMemory<P>& memory, LaidKeys<P>& laid, int64_t kb, Block block) {
    tiles.enter(t, memory.scores, kb);
    sum_tile(t, memory, laid, kb, block);
    tiles.leave(t, memory.state, kb);
  }
  void finish(Tile& t, TileMemory<P>& memory) {
    finish_rows(t, memory.state);
    tiles.finish(t, memory.state, received<P>(*t.call));
  }
};

template <class P> static int sweep_rows(const Call& call) {
  if constexpr (Receives<P>::YES)
    if (received<P>(call).data) return sweep_blocks<P, Receiving<P>>(call);
  return sweep_blocks<P, Summing<P>>(call);
}

}  // namespace regard
