// Sums over the keys j <= i of f(i) · g(j) · v(j), chunk by chunk, and their gradient.
//
// Inside a chunk every pair is computed; what stands before it is a state, the sum of g(j) ⊗ v(j).
// Tasks are heads. Widths are multiples of W, and rows lie one after another.
//
// Source: Sun et al. 2023, arXiv 2307.08621, equation 7.
#pragma once

#include "rows.h"

namespace regard {

// Rows of the blocks on a chunk's diagonal, above which nothing is computed; and of a chunk: as many
// whole blocks as hold 32 rows.
constexpr int BLOCK = PANEL;
constexpr int CHUNK = (31 / BLOCK + 1) * BLOCK;

// One matrix or vector for each head, the last numbers side by side. Null: there is none.
struct Heads {
  real* data;
  int64_t by_batch, by_head;
  real* at(int64_t b, int64_t h) const { return data ? data + b * by_batch + h * by_head : nullptr; }
};

struct States {
  int64_t batch, heads, rows, width, value_width, threads;
  Heads f, g, v;             // rows × width, rows × width, rows × value_width
  Heads sums, totals;        // before: width × value_width and width; no totals, none are summed
  Heads values, row_totals;  // results: rows × value_width and rows; in backward what they receive
  Heads sums_after, totals_after;
  Heads to_f, to_g, to_v, to_sums, to_totals;  // what the inputs receive
};

// 0 … N - 1.
template <int... I> struct Places {};
template <int N, int... I> struct Upto : Upto<N - 1, N - 1, I...> {};
template <int... I> struct Upto<0, I...> {
  using places = Places<I...>;
};

// Number by number of both, from the first or from the middle.
template <int... I> REGARD_INLINE Vec merge_low(Vec a, Vec b, Places<I...>) {
  return __builtin_shufflevector(a, b, (I / 2 + I % 2 * W)...);
}
template <int... I> REGARD_INLINE Vec merge_high(Vec a, Vec b, Places<I...>) {
  return __builtin_shufflevector(a, b, (W / 2 + I / 2 + I % 2 * W)...);
}

// to (W × to_row) becomes the transpose of W × W numbers: log2 W times, rows are merged with those half of
// them away, number by number.
REGARD_INLINE void transpose_square(const real* from, int64_t from_row, real* to, int64_t to_row) {
  constexpr Upto<W>::places places{};
  Vec x[W], y[W];
  UNROLL for (int r = 0; r < W; ++r) x[r] = load(from + r * from_row);
  UNROLL for (int done = 1; done < W; done *= 2) {
    UNROLL for (int r = 0; r < W / 2; ++r) {
      y[2 * r] = merge_low(x[r], x[r + W / 2], places);
      y[2 * r + 1] = merge_high(x[r], x[r + W / 2], places);
    }
    UNROLL for (int r = 0; r < W; ++r) x[r] = y[r];
  }
  UNROLL for (int r = 0; r < W; ++r) store(to + r * to_row, x[r]);
}

// to (columns × to_row) becomes the transpose of rows; zeros fill the last one's block up.
static void transpose(const real* from, int rows, int64_t columns, real* to, int64_t to_row) {
  const int64_t end = least(to_row, padded(rows, BLOCK));
  const int whole = rows / W * W;
  for (int r = 0; r < whole; r += W)
    for (int64_t c = 0; c < columns; c += W)
      transpose_square(from + r * columns + c, columns, to + c * to_row + r, to_row);
  if (whole == end) return;
  for (int64_t c = 0; c < columns; ++c) {
    int r = whole;
    for (; r < rows; ++r) to[c * to_row + r] = from[r * columns + c];
    for (; r < end; ++r) to[c * to_row + r] = 0;
  }
}

// c = or += a · b, all of whose rows lie one after another; b has `columns`, a multiple of W.
static REGARD_INLINE void add_product(int rows, int columns, int depth, Left a, const real* b, real* c,
                                      bool add) {
  int column = 0;
  for (; column + PANEL <= columns; column += PANEL)
    multiply_panel<TILE_VECS>(rows, depth, a, b + column, columns, c + column, columns, add);
  for (; column < columns; column += W)
    multiply_panel<1>(rows, depth, a, b + column, columns, c + column, columns, add);
}

// pairs (rows × CHUNK) = a · b, as far as the diagonal; the rest of the blocks on it becomes 0.
static void pair_up(int rows, int depth, const real* a, const real* b, real* pairs) {
  for (int first = 0; first < rows; first += BLOCK) {
    multiply_panel<TILE_VECS>(rows - first, depth, Left{a + first * depth, depth, 1}, b + first, CHUNK,
                              pairs + first * CHUNK + first, CHUNK, false);
    for (int i = first; i < least(rows, first + BLOCK); ++i)
      for (int j = i + 1; j < first + BLOCK; ++j) pairs[i * CHUNK + j] = 0;
  }
}

// c = pairs · b, row i over j <= i.
static void sum_earlier(int rows, int columns, const real* pairs, const real* b, real* c) {
  for (int first = 0; first < rows; first += BLOCK) {
    const int end = int(least(rows, first + BLOCK));
    add_product(end - first, columns, end, Left{pairs + first * CHUNK, CHUNK, 1}, b, c + first * columns,
                false);
  }
}

// c = pairsᵀ · b, row j over i >= j.
static void sum_later(int rows, int columns, const real* pairs, const real* b, real* c) {
  for (int first = 0; first < rows; first += BLOCK) {
    const int end = int(least(rows, first + BLOCK));
    add_product(end - first, columns, rows - first, Left{pairs + first * CHUNK + first, 1, CHUNK},
                b + first * columns, c + first * columns, false);
  }
}

// line += factor · x.
REGARD_INLINE void add_line(real* line, const real* x, real factor, int64_t width) {
  for (int64_t c = 0; c < width; c += W) store(line + c, load(line + c) + load(x + c) * factor);
}

REGARD_INLINE real dot(const real* a, const real* b, int64_t width) {
  Vec sum{};
  for (int64_t c = 0; c < width; c += W) sum += load(a + c) * load(b + c);
  return sum_of(sum);
}

// What a thread works in: as many numbers as `count` says before it is taken.
struct Room {
  real* next;
  real* take(int64_t numbers) {
    real* found = next;
    next += padded(numbers, 64 / int64_t(sizeof(real)));
    return found;
  }
};

static void forward_head(const States& call, int64_t b, int64_t h, Room room) {
  const int width = int(call.width), across = int(call.value_width);
  real* state = call.sums_after.at(b, h);
  real* total = call.totals_after.at(b, h);
  real *turned = room.take(width * CHUNK), *pairs = room.take(CHUNK * CHUNK);
  __builtin_memcpy(state, call.sums.at(b, h), sizeof(real) * width * across);
  if (total) __builtin_memcpy(total, call.totals.at(b, h), sizeof(real) * width);
  for (int64_t start = 0; start < call.rows; start += CHUNK) {
    const int rows = int(least(CHUNK, call.rows - start));
    const real *f = call.f.at(b, h) + start * width, *g = call.g.at(b, h) + start * width;
    const real* v = call.v.at(b, h) + start * across;
    real* to = call.values.at(b, h) + start * across;
    transpose(g, rows, width, turned, CHUNK);
    pair_up(rows, width, f, turned, pairs);
    sum_earlier(rows, across, pairs, v, to);
    add_product(rows, across, width, Left{f, width, 1}, state, to, true);
    add_product(width, across, rows, Left{g, 1, width}, v, state, true);
    if (!total) continue;
    real* totals = call.row_totals.at(b, h) + start;
    for (int i = 0; i < rows; ++i) {
      Vec sum{};
      for (int j = 0; j <= i; j += W) sum += load(pairs + i * CHUNK + j);
      totals[i] = sum_of(sum) + dot(f + i * width, total, width);
    }
    for (int j = 0; j < rows; ++j) add_line(total, g + j * width, 1, width);
  }
}

static int64_t forward_room(const States& call) { return call.width * CHUNK + CHUNK * CHUNK + 64; }

// The states before each chunk, transposed, each followed by its totals.
static void keep_states(const States& call, int64_t b, int64_t h, real* kept) {
  const int width = int(call.width), across = int(call.value_width);
  const int64_t numbers = (across + 1) * width;
  real* total = kept + across * width;
  transpose(call.sums.at(b, h), width, across, kept, width);
  __builtin_memset(total, 0, sizeof(real) * width);
  if (call.totals.data) __builtin_memcpy(total, call.totals.at(b, h), sizeof(real) * width);
  for (int64_t start = 0; start + CHUNK < call.rows; start += CHUNK, kept += numbers) {
    const real* g = call.g.at(b, h) + start * width;
    const real* v = call.v.at(b, h) + start * across;
    __builtin_memcpy(kept + numbers, kept, sizeof(real) * numbers);
    add_product(across, width, CHUNK, Left{v, 1, across}, g, kept + numbers, true);
    for (int j = 0; j < CHUNK; ++j) add_line(kept + numbers + across * width, g + j * width, 1, width);
  }
}

static void backward_head(const States& call, int64_t b, int64_t h, Room room) {
  const int width = int(call.width), across = int(call.value_width);
  const int64_t numbers = (across + 1) * width, chunks = (call.rows + CHUNK - 1) / CHUNK;
  real* kept = room.take(chunks * numbers);
  real *turned_g = room.take(width * CHUNK), *turned_v = room.take(across * CHUNK);
  real *pairs = room.take(CHUNK * CHUNK), *adjoints = room.take(CHUNK * CHUNK);
  real *turned_later = room.take(across * width), *lone = room.take(width);
  // What the state after the chunk receives.
  real* later = call.to_sums.at(b, h);
  real* later_total = call.totals.data ? call.to_totals.at(b, h) : lone;
  __builtin_memcpy(later, call.sums_after.at(b, h), sizeof(real) * width * across);
  __builtin_memset(lone, 0, sizeof(real) * width);
  if (call.totals.data) __builtin_memcpy(later_total, call.totals_after.at(b, h), sizeof(real) * width);
  keep_states(call, b, h, kept);
  for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
    const int64_t start = chunk * CHUNK;
    const int rows = int(least(CHUNK, call.rows - start));
    const real *f = call.f.at(b, h) + start * width, *g = call.g.at(b, h) + start * width;
    const real *v = call.v.at(b, h) + start * across, *grad = call.values.at(b, h) + start * across;
    const real* totals = call.totals.data ? call.row_totals.at(b, h) + start : nullptr;
    real *to_f = call.to_f.at(b, h) + start * width, *to_g = call.to_g.at(b, h) + start * width;
    real* to_v = call.to_v.at(b, h) + start * across;
    const real *before = kept + chunk * numbers, *before_total = before + across * width;
    transpose(g, rows, width, turned_g, CHUNK);
    transpose(v, rows, across, turned_v, CHUNK);
    transpose(later, width, across, turned_later, width);
    pair_up(rows, width, f, turned_g, pairs);
    pair_up(rows, across, grad, turned_v, adjoints);
    if (totals)
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j <= i; ++j) adjoints[i * CHUNK + j] += totals[i];
    sum_earlier(rows, width, adjoints, g, to_f);
    add_product(rows, width, across, Left{grad, across, 1}, before, to_f, true);
    sum_later(rows, width, adjoints, f, to_g);
    add_product(rows, width, across, Left{v, across, 1}, turned_later, to_g, true);
    sum_later(rows, across, pairs, grad, to_v);
    add_product(rows, across, width, Left{g, width, 1}, later, to_v, true);
    add_product(width, across, rows, Left{f, 1, width}, grad, later, true);
    if (!totals) continue;
    for (int i = 0; i < rows; ++i) {
      add_line(to_f + i * width, before_total, totals[i], width);
      add_line(to_g + i * width, later_total, 1, width);
    }
    for (int i = 0; i < rows; ++i) add_line(later_total, f + i * width, totals[i], width);
  }
}

static int64_t backward_room(const States& call) {
  const int64_t chunks = (call.rows + CHUNK - 1) / CHUNK, across = call.value_width;
  return (chunks + 1) * (across + 1) * call.width + (call.width + across) * CHUNK + 2 * CHUNK * CHUNK +
         call.width + 256;
}

using Head = void (*)(const States&, int64_t, int64_t, Room);

static int each_head(const States& call, int64_t numbers, Head run) {
  int status = DONE;
#pragma omp parallel for schedule(dynamic, 1) num_threads(int(call.threads))
  for (int64_t task = 0; task < call.batch * call.heads; ++task) {
    static thread_local Scratch scratch;
    if (real* room = scratch.take(numbers))
      run(call, task / call.heads, task % call.heads, Room{room});
    else
      __atomic_store_n(&status, NO_MEMORY, __ATOMIC_RELAXED);
  }
  return status;
}

}  // namespace regard

extern "C" {
__attribute__((visibility("default"))) int regard_forward(const regard::States* call) {
  return regard::each_head(*call, regard::forward_room(*call), regard::forward_head);
}
__attribute__((visibility("default"))) int regard_backward(const regard::States* call) {
  return regard::each_head(*call, regard::backward_room(*call), regard::backward_head);
}
}
