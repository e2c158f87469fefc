// The adjoint sweep: scores are computed again, and every input receives its gradient.
//
// A task is a chunk of the keys of one key head, and visits all query rows of the heads that share it.
// What keys receive is its own; what query rows receive is kept apart for every chunk and added up by
// the caller, in order, so that nothing depends on the number of threads.
// Leaves to others: the derivatives (emitted as `P`).
#pragma once

#include "channels.h"
#include "halves.h"

namespace regard {

// Rows whose sums over channels run side by side, so that none waits for its last addition; and the lines
// of channels a thread has for laying out.
constexpr int ABREAST = 4, LINES = 2 * ABREAST;

// Inputs laid out once for a call: left rows plainly and in panels, right rows transposed and in panels;
// those of the matrix unit's products as bfloat16.
template <class P> struct LaidInputs {
  Laid left[P::LEFTS + 1], left_panels[P::LEFTS + 1], right[P::RIGHTS + 1], right_panels[P::RIGHTS + 1];
  Laid left16[P::LEFTS + 1], left_panels16[P::LEFTS + 1], right16[P::RIGHTS + 1], right_panels16[P::RIGHTS + 1];
  real* deltas = nullptr;
  UnitDots<P> unit;
  int64_t query_rows, key_rows, query_blocks;

  LaidInputs(const Call& call)
      : unit(call), query_rows(least(QUERY_BLOCK, call.queries)), key_rows(least(KEY_BLOCK, call.keys)),
        query_blocks((call.queries + QUERY_BLOCK - 1) / QUERY_BLOCK) {
    for (int k = 0; k < P::LEFTS; ++k) {
      const Input& x = call.inputs[P::lefts[k]];
      auto allot = [&](bool needed, int64_t size) { return Laid(call, x, call.queries, QUERY_BLOCK, needed ? size : 0); };
      const int64_t size = padded(x.width, W) * query_rows;
      left[k] = allot(unit.plain_left(k), size);
      left_panels[k] = allot(unit.plain_left(k) && P::left_in_panels[k], size);
      left16[k] = allot(unit.left(k), bf16_rows_size(query_rows, x.width));
      left_panels16[k] = allot(unit.left(k) && P::left_in_panels[k], bf16_panels_size(query_rows, x.width));
    }
    for (int k = 0; k < P::RIGHTS; ++k) {
      const Input& x = call.inputs[P::rights[k]];
      auto allot = [&](bool needed, int64_t size) { return Laid(call, x, call.keys, KEY_BLOCK, needed ? size : 0); };
      right[k] = allot(unit.plain_right(k), x.width * padded(key_rows, W));
      right_panels[k] = allot(unit.plain_right(k) && P::right_in_panels[k], padded(x.width, W) * key_rows);
      right16[k] = allot(unit.right(k), bf16_rows_size(key_rows, x.width));
      right_panels16[k] = allot(unit.right(k) && P::right_in_panels[k], bf16_panels_size(key_rows, x.width));
    }
  }

  template <class F> void each(F function) {
    for (int k = 0; k < P::LEFTS; ++k) function(left[k]), function(left_panels[k]);
    for (int k = 0; k < P::RIGHTS; ++k) function(right[k]), function(right_panels[k]);
    if (!MATRIX_UNIT) return;
    for (int k = 0; k < P::LEFTS; ++k) function(left16[k]), function(left_panels16[k]);
    for (int k = 0; k < P::RIGHTS; ++k) function(right16[k]), function(right_panels16[k]);
  }
  bool allot(const Call& call, Shared& memory) {
    const int64_t rows = P::DELTAS == 0 ? 0 : call.batch * call.heads * query_blocks * QUERY_BLOCK;
    int64_t numbers = 64 + rows;
    each([&](Laid& x) { numbers += x.numbers() + 16; });
    if (!memory.allot(numbers)) return false;
    each([&](Laid& x) { x.data = memory.take(x.numbers()); });
    deltas = memory.take(rows);
    return true;
  }

  bool lay_queries(const Call& call, int64_t b, int64_t h, int64_t qb, real* line) {
    bool good = true;
    for (int k = 0; k < P::LEFTS; ++k) {
      const Input& x = call.inputs[P::lefts[k]];
      const int64_t i0 = qb * QUERY_BLOCK;
      const int rows = left[k].rows_from(call.queries, i0, call.query_lengths, b, QUERY_BLOCK);
      if (rows <= 0 || !left[k].owned_by(b, h)) continue;
      if (unit.plain_left(k)) {
        good &= lay_plainly(x, b, h, i0, rows, left[k].at(b, h, qb), padded(x.width, W));
        if (P::left_in_panels[k])
          lay_panels(x, b, h, i0, rows, left_panels[k].at(b, h, qb), query_rows, line);
      }
      if (unit.left(k)) {
        good &= lay_bf16_rows(x, b, h, i0, rows, left16[k].at(b, h, qb));
        if (P::left_in_panels[k])
          lay_bf16_panels(x, b, h, i0, rows, left_panels16[k].at(b, h, qb), query_rows, line);
      }
    }
    return good;
  }
  real* deltas_at(const Call& call, int64_t b, int64_t h, int64_t qb) const {
    return deltas + ((b * call.heads + h) * query_blocks + qb) * QUERY_BLOCK;
  }
  // The dot of each row's adjoint and its summed row, added up in the order of `multiply`: where one key
  // has all of the weight, it cancels the key's own product exactly.
  void find_deltas(const Call& call, int64_t b, int64_t h, int64_t qb, real* line) {
    const Input &x = call.inputs[P::deltas[0]], &y = call.inputs[P::deltas[P::DELTAS - 1]];
    const int64_t i0 = qb * QUERY_BLOCK, width = padded(x.width, W);
    const int rows = int(least(QUERY_BLOCK, call.queries_of(b) - i0));
    real* to = deltas_at(call, b, h, qb);
    real* other = line + ABREAST * width;
    for (int i = 0; i < rows; i += ABREAST) {
      const int count = int(least(ABREAST, rows - i));
      lay_plainly(x, b, h, i0 + i, count, line, width);
      lay_plainly(y, b, h, i0 + i, count, other, width);
      real sum[ABREAST]{};
      for (int64_t c = 0; c < x.width; ++c)
        UNROLL for (int r = 0; r < ABREAST; ++r) sum[r] += line[r * width + c] * other[r * width + c];
      for (int r = 0; r < count; ++r) to[i + r] = sum[r];
    }
  }
  bool lay_keys(const Call& call, int64_t b, int64_t h, int64_t kb, real* line) {
    bool good = true;
    for (int k = 0; k < P::RIGHTS; ++k) {
      const Input& x = call.inputs[P::rights[k]];
      const int64_t j0 = kb * KEY_BLOCK;
      const int keys = right[k].rows_from(call.keys, j0, call.key_lengths, b, KEY_BLOCK);
      if (keys <= 0 || !right[k].owned_by(b, h)) continue;
      if (unit.plain_right(k)) {
        good &= lay_transposed(x, b, h, j0, keys, columns_of(call, kb), right[k].at(b, h, kb), line);
        if (P::right_in_panels[k])
          lay_panels(x, b, h, j0, keys, right_panels[k].at(b, h, kb), key_rows, line);
      }
      if (unit.right(k)) {
        good &= lay_bf16_columns(x, b, h, j0, keys, right16[k].at(b, h, kb), line);
        if (P::right_in_panels[k])
          lay_bf16_panels(x, b, h, j0, keys, right_panels16[k].at(b, h, kb), key_rows, line);
      }
    }
    return good;
  }
};

// Memory of a thread.
template <class P> struct KeyTask {
  Tile t;
  real* scores[P::DOTS + P::CHANNEL_SUMS + 1];
  real* right_sums[P::RIGHTS + 1];  // transposed sums of channel loops, channels × KEY_BLOCK
  Vec* lanes_kept;
  Vec* kept[P::CHANNEL_SUMS + 1];  // what sums over channels computed of a row, for their gradient
  uint16_t* narrow;  // what the pairs of a tile give, rounded
  real* line;
  int64_t chunk = 0;
  bool good;

  KeyTask(const Call& call, Scratch& scratch) {
    const int64_t rows = least(QUERY_BLOCK, call.queries);
    int64_t widest = W, widths = 0;
    for (int k = 0; k < P::LEFTS; ++k) widest = widest > call.inputs[P::lefts[k]].width ? widest : call.inputs[P::lefts[k]].width;
    for (int k = 0; k < P::RIGHTS; ++k) {
      widest = widest > call.inputs[P::rights[k]].width ? widest : call.inputs[P::rights[k]].width;
      if (P::CHANNEL_SUMS) widths += call.inputs[P::rights[k]].width;
    }
    for (int k = 0; k < P::CHANNEL_ARRAYS; ++k) {
      const int64_t width = call.inputs[P::channel_arrays[k]].width;
      widest = widest > width ? widest : width;
    }
    widest = padded(widest, LINE_UNIT);
    const int64_t kept_lanes = P::CHANNEL_SUMS ? (P::LEFTS + P::INPUTS) * widest * W : 0;
    const int64_t row_kept = P::KEPT * (KEY_BLOCK / W + 1) * widest * W;
    const int64_t numbers = P::CHANNEL_SUMS * row_kept + (P::DOTS + P::CHANNEL_SUMS) * rows * SCORE_ROW + widths * KEY_BLOCK +
                            P::QUERIES * QUERY_BLOCK + (P::KEYS + P::PAIRS + P::KEY_SUMS) * KEY_BLOCK +
                            (P::NUMBERS + 1) * W + kept_lanes + ROUNDED + LINES * widest + (16 + P::CHANNEL_SUMS) * 16;
    real* next = scratch.take(numbers);
    good = next != nullptr;
    if (!good) return;
    auto take = [&](int64_t count) { real* found = next; next += padded(count, 64 / sizeof(real)); return found; };
    t.call = &call;
    for (int k = 0; k < P::DOTS + P::CHANNEL_SUMS; ++k) scores[k] = take(rows * SCORE_ROW);
    for (int k = 0; k < P::RIGHTS; ++k) right_sums[k] = P::CHANNEL_SUMS ? take(call.inputs[P::rights[k]].width * KEY_BLOCK) : nullptr;
    lanes_kept = (Vec*)take(kept_lanes);
    for (int k = 0; k < P::CHANNEL_SUMS; ++k) kept[k] = (Vec*)take(row_kept);
    t.queries = take(P::QUERIES * QUERY_BLOCK);
    t.keyed = take(P::KEYS * KEY_BLOCK);
    t.pairs = take(P::PAIRS * KEY_BLOCK);
    t.key_sums = take(P::KEY_SUMS * KEY_BLOCK);
    t.numbers = take((P::NUMBERS + 1) * W);
    narrow = (uint16_t*)take(ROUNDED);
    line = take(LINES * widest);
    t.scores = scores;
  }
};

template <class P, bool MASKED>
__attribute__((noinline)) static void spread_tile(Tile& t) {
  Vec number[P::NUMBER_SUMS + 1]{};
  for (int i = t.first; i < t.last; ++i) {
    start_row<P>(t, i);
    Vec row[P::ROW_SUMS + 1]{}, fixed[P::FIXED + 1];
    P::fix(t, i, fixed);
    for (int j = 0; j < t.keys; j += W) P::template adjoints<MASKED>(t, i, j, fixed, row, number);
    for (int k = 0; k < P::ROW_SUMS; ++k)
      *t.call->results[P::row_sums[k]].at(t.chunk, t.b, t.h, t.i0 + i) += sum_of(row[k]);
  }
  for (int k = 0; k < P::NUMBER_SUMS; ++k)
    *t.call->results[P::number_sums[k]].at(t.chunk, t.b, t.h, 0) += sum_of(number[k]);
}

// What the adjoint of one score gives to the rows it is made of.
template <class P>
static void spread_product(const Tile& t, const KeyTask<P>& task, const LaidInputs<P>& laid, int64_t qb,
                           int64_t kb, Product product) {
  const Call& call = *t.call;
  const real* weights = t.scores_seen(product.score);
  const bool by_unit = laid.unit.dot(product.score);
  if (product.to_left >= 0) {
    const Result& r = call.results[product.to_left];
    const int64_t width = padded(call.inputs[P::rights[product.right]].width, W);
    real* to = r.at(t.chunk, t.b, t.h, t.i0 + t.first);
    if (by_unit) {
      const real* keys = laid.right_panels16[product.right].at(t.b, t.h, kb);
      round_rows(t.seen(), t.keys, weights, SCORE_ROW, task.narrow, ROUNDED_ROW);
      multiply_bf16(t.seen(), int(width), t.keys, Bf16Left{task.narrow, ROUNDED_ROW},
                    bf16_panels(keys, laid.key_rows, t.start), to, r.by_row, true);
    } else {
      const real* keys = laid.right_panels[product.right].at(t.b, t.h, kb);
      multiply(t.seen(), int(width), t.keys, Left{weights, SCORE_ROW, 1},
               Panels{keys, laid.key_rows, width, t.start}, to, r.by_row, true);
    }
  }
  if (product.to_right >= 0) {
    const Result& r = call.results[product.to_right];
    const int64_t width = padded(call.inputs[P::lefts[product.left]].width, W);
    real* to = r.at(0, t.b, t.h, t.j0);
    if (by_unit) {
      const real* rows = laid.left_panels16[product.left].at(t.b, t.h, qb);
      round_columns(t.keys, t.seen(), weights, SCORE_ROW, task.narrow, ROUNDED_COLUMN);
      multiply_bf16(t.keys, int(width), t.seen(), Bf16Left{task.narrow, ROUNDED_COLUMN},
                    bf16_panels(rows, laid.query_rows, t.first), to, r.by_row, true);
    } else {
      const real* rows = laid.left_panels[product.left].at(t.b, t.h, qb);
      multiply(t.keys, int(width), t.seen(), Left{weights, 1, SCORE_ROW},
               Panels{rows, laid.query_rows, width, t.first}, to, r.by_row, true);
    }
  }
}

// The pairs of a block of queries and a block of keys, and what their rows receive.
template <class P>
static void spread_block(Tile& t, KeyTask<P>& task, LaidInputs<P>& laid, int64_t qb, int64_t kb, Block block) {
  const Call& call = *t.call;
  real* left[P::LEFTS + 1];
  for (int k = 0; k < P::LEFTS; ++k) left[k] = laid.left[k].at(t.b, t.h, qb);
  const int64_t columns = columns_of(call, kb);
  read_keys<P>(t);
  for (int k = 0; k < P::DOTS; ++k) {
    const int64_t width = call.inputs[P::lefts[P::dots[k].left]].width;
    if (laid.unit.dot(k)) {
      const real* rows = laid.left16[P::dots[k].left].at(t.b, t.h, qb);
      const real* keys = laid.right16[P::dots[k].right].at(t.b, t.h, kb);
      multiply_bf16(t.seen(), int(padded(t.keys, W)), int(width), bf16_left(rows, width, t.first),
                    bf16_columns(keys, width, t.start), t.scores_seen(k), SCORE_ROW, false);
      continue;
    }
    const real* keys = laid.right[P::dots[k].right].at(t.b, t.h, kb) + t.start * width;
    const int64_t by_row = padded(width, W);
    multiply(t.seen(), int(padded(t.keys, W)), int(width), Left{left[P::dots[k].left] + t.first * by_row, by_row, 1},
             Panels{keys, width, columns - t.start}, t.scores_seen(k), SCORE_ROW, false);
  }
  const auto spread = block == FULL ? spread_tile<P, false> : spread_tile<P, true>;
  if constexpr (P::CHANNEL_SUMS == 0) {
    spread(t);
  } else {
    // Row by row, so that what a sum over channels computed is still near when its gradient reads it.
    const PlainRows<P> rows{call, left};
    const int first = t.first, last = t.last;
    for (t.first = first; t.first < last; ++t.first) {
      t.last = t.first + 1;
      P::channel_sums(t, rows, laid.right, kb, columns, task.kept);
      spread(t);
      P::spread_channel_sums(t, task, rows, laid.right, kb, columns);
    }
    t.first = first;
    t.last = last;
  }
  for (int k = 0; k < P::PRODUCTS; ++k) spread_product(t, task, laid, qb, kb, P::products[k]);
}

// A block of keys for one head: all query rows in turn.
template <class P>
static void spread_keys(Tile& t, KeyTask<P>& task, LaidInputs<P>& laid, int64_t kb, bool first) {
  const Call& call = *t.call;
  const int64_t j0 = kb * KEY_BLOCK, keys = least(KEY_BLOCK, call.keys_of(t.b) - j0);
  for (int k = 0; k < P::RIGHT_RESULTS; ++k) {
    const Result& r = call.results[P::right_results[k]];
    if (first || r.share == 1) __builtin_memset(r.at(0, t.b, t.h, j0), 0, sizeof(real) * keys * r.by_row);
  }
  if (P::CHANNEL_SUMS)
    for (int k = 0; k < P::RIGHTS; ++k)
      __builtin_memset(task.right_sums[k], 0, sizeof(real) * call.inputs[P::rights[k]].width * KEY_BLOCK);
  __builtin_memset(t.key_sums, 0, sizeof(real) * P::KEY_SUMS * KEY_BLOCK);
  read_numbers<P>(t);
  const int64_t queries = call.queries_of(t.b);
  for (int64_t qb = 0; qb * QUERY_BLOCK < queries; ++qb) {
    t.i0 = qb * QUERY_BLOCK;
    t.rows = int(least(QUERY_BLOCK, queries - t.i0));
    bool entered = false;
    each_tile(t, qb, kb, [&](Block block) {
      if (!entered) read_queries<P>(t);
      t.deltas = laid.deltas_at(call, t.b, t.h, qb);
      entered = true;
      spread_block(t, task, laid, qb, kb, block);
    });
  }
  for (int k = 0; k < P::KEY_SUMS; ++k) {
    const Result& r = call.results[P::key_sums[k]];
    for (int j = 0; j < keys; ++j) *r.at(0, t.b, t.h, j0 + j) = t.key_sums[k * KEY_BLOCK + j];
  }
  t.j0 = j0;
  t.keys = int(keys);
  P::finish_channel_sums(t, task);
}

// Add what a channel loop found, channels × keys, to rows of keys.
REGARD_INLINE void add_transposed(const Tile& t, const Result& r, const real* sums, int64_t width) {
  for (int j = 0; j < t.keys; ++j) {
    real* row = r.at(0, t.b, t.h, t.j0 + j);
    for (int64_t c = 0; c < width; ++c) row[c] += sums[c * KEY_BLOCK + j];
  }
}

template <class P> static int sweep_keys(const Call& call) {
  static thread_local Scratch scratch;
  const int64_t query_blocks = (call.queries + QUERY_BLOCK - 1) / QUERY_BLOCK;
  const int64_t key_blocks = (call.keys + KEY_BLOCK - 1) / KEY_BLOCK;
  const int64_t heads = call.batch * call.heads, blocks = query_blocks + key_blocks;
  const int64_t group = call.heads / call.groups;
  LaidInputs<P> laid(call);
  Shared shared;
  if (!laid.allot(call, shared)) return NO_MEMORY;
  int status = DONE;
#pragma omp parallel num_threads(int(call.threads))
  {
    [[maybe_unused]] const Tiles tiles;
    KeyTask<P> task(call, scratch);
    if (!task.good) __atomic_store_n(&status, NO_MEMORY, __ATOMIC_RELAXED);
#pragma omp barrier
    const bool ready = __atomic_load_n(&status, __ATOMIC_RELAXED) != NO_MEMORY;
    bool good = true;
#pragma omp for schedule(dynamic, 1)
    for (int64_t part = 0; part < heads * blocks; ++part) {
      if (!ready) continue;
      const int64_t block = part % blocks, h = part / blocks % call.heads, b = part / blocks / call.heads;
      if (block >= query_blocks) {
        good &= laid.lay_keys(call, b, h, block - query_blocks, task.line);
      } else {
        good &= laid.lay_queries(call, b, h, block, task.line);
        if (P::DELTAS > 0) laid.find_deltas(call, b, h, block, task.line);
      }
    }
#pragma omp for schedule(dynamic, 1)
    for (int64_t part = 0; part < call.batch * call.groups * call.chunks; ++part) {
      if (!ready) continue;
      Tile& t = task.t;
      t.chunk = part % call.chunks;
      const int64_t g = part / call.chunks % call.groups;
      t.b = part / call.chunks / call.groups;
      for (int64_t h = g * group; h < (g + 1) * group; ++h)
        for (int k = 0; k < P::LEFT_RESULTS; ++k) {
          const Result& r = call.results[P::left_results[k]];
          __builtin_memset(r.at(t.chunk, t.b, h, 0), 0, sizeof(real) * call.queries * r.by_row);
        }
      // Chunks take blocks in turn, so that a causal mask leaves each about as much to do.
      for (int64_t kb = t.chunk; kb < key_blocks; kb += call.chunks) {
        if (kb * KEY_BLOCK >= call.keys_of(t.b)) break;
        for (t.h = g * group; t.h < (g + 1) * group; ++t.h)
          spread_keys(t, task, laid, kb, t.h == g * group);
      }
    }
    if (!good) __atomic_store_n(&status, NOT_FINITE, __ATOMIC_RELAXED);
  }
  return status;
}

}  // namespace regard
