// A tile: some query rows and some key rows of one head, with everything a pair may read there.
//
// The emitted program reads tiles by name: `t.query_at(2, i)`. Leaves visiting tiles to the sweeps.
#pragma once

#include "rows.h"
#include "math.h"

namespace regard {

// Query rows and key rows of a tile: a block of scores, of keys and of values fit a core's cache.
constexpr int QUERY_BLOCK = REGARD_QUERY_BLOCK, KEY_BLOCK = REGARD_KEY_BLOCK;
// Blocks of pairs are told empty, full or mixed in steps of so many rows and keys; a tile is a run of
// steps in which the same rows see something.
constexpr int QUERY_STEP = REGARD_QUERY_STEP, KEY_STEP = REGARD_KEY_STEP;
static_assert(QUERY_BLOCK % QUERY_STEP == 0, "a block is whole steps");
static_assert(KEY_BLOCK % KEY_STEP == 0 && KEY_STEP % PANEL == 0, "a tile begins where a panel begins");
// Between rows of scores; one cache line more than a block, so that columns do not share a cache set.
constexpr int SCORE_ROW = KEY_BLOCK + 64 / sizeof(real);

// One of the program's inputs: its place among the call's, and whether it is read as real.
struct Slot {
  int input;
  bool real_kind;
};

// A matrix product of a left and a right input of the program: one score of every pair.
struct Dot {
  int left, right;
};

// What a score's adjoint gives to rows: results for adjoint · right rows and adjointᵀ · left rows, or -1.
struct Product {
  int score, left, right, to_left, to_right;
};

constexpr int MOST_DRAWS = 8, MOST_CHOICES = 4, MOST_PLACED = 2;

struct Tile {
  const Call* call;
  int64_t b = 0, h = 0, i0 = 0, j0 = 0, chunk = 0;
  int rows, keys;
  int first, last;     // the rows of the block that see any of the tile's keys
  int64_t start = 0;   // the tile's first key within its block
  real* numbers;       // one of each
  real* queries;       // QUERY_BLOCK of each
  real* keyed;         // KEY_BLOCK of each
  real* pairs;         // KEY_BLOCK of each, for one query row at a time
  real* const* scores; // QUERY_BLOCK × SCORE_ROW of each dot and channel sum
  real* key_sums;      // KEY_BLOCK of what each key receives, in backward
  const real* deltas;  // of each query row, in backward: its adjoint · its summed row
  uint32_t draws[MOST_DRAWS];  // the random state of each draw in the present query row
  alignas(64) integer chosen[MOST_CHOICES][KEY_BLOCK];  // which keys of the present query row are chosen
  alignas(64) real placed[MOST_PLACED][KEY_BLOCK];      // numbers of its listed keys, 0 elsewhere

  int seen() const { return last - first; }
  real* scores_seen(int k) const { return scores[k] + first * SCORE_ROW; }
  Vec number(int k) const { return splat(numbers[k]); }
  Int whole_number(int k) const { return splat_int(((const integer*)numbers)[k]); }
  Vec query(int k, int i) const { return splat(queries[k * QUERY_BLOCK + i]); }
  Int whole_query(int k, int i) const {
    return splat_int(((const integer*)queries)[k * QUERY_BLOCK + i]);
  }
  Vec delta(int i) const { return splat(deltas[i]); }
  Vec key(int k, int j) const { return load(keyed + k * KEY_BLOCK + j); }
  Int whole_key(int k, int j) const { return load_int((const integer*)keyed + k * KEY_BLOCK + j); }
  Vec pair(int k, int j) const { return load(pairs + k * KEY_BLOCK + j); }
  Int whole_pair(int k, int j) const { return load_int((const integer*)pairs + k * KEY_BLOCK + j); }
  Vec score(int k, int i, int j) const { return load(scores[k] + i * SCORE_ROW + j); }
  // The same for W rows at once, where a row expression is computed.
  Vec rows_of(int k, int i) const { return load(queries + k * QUERY_BLOCK + i); }
  Int whole_rows_of(int k, int i) const { return load_int((const integer*)queries + k * QUERY_BLOCK + i); }

  // A table in Python's compute dtype, at this head.
  template <class T> const T* table(int input) const {
    const Input& x = call->inputs[input];
    return (const T*)x.data + b * x.by_batch + h / x.share * x.by_head;
  }
  // A function of i - j alone, told by row and column: where column j0 + j of row i0 + i lies.
  template <class T> const T* diagonal(int input, int i) const {
    return table<T>(input) + (call->queries - 1 - (i0 + i)) + j0;
  }
  // One element of each of W rows: of query row i, the same for all, or of key rows j, j + 1 and so on.
  Vec query_table(int input, int i, Int index) const {
    return gather((const real*)place_of(call->inputs[input], b, h, i0 + i, 0), index);
  }
  Vec key_table(int input, int j, Int index) const {
    const Input& x = call->inputs[input];
    const Int row = vmin(lanes(), splat_int(integer(keys - 1 - j)));
    return gather((const real*)place_of(x, b, h, j0 + j, 0), row * integer(x.by_row) + index);
  }
  // What a pair receives, added where sums are kept: W keys side by side, elements of a table, a pair.
  void add_to_keys(int k, int j, Vec x) const {
    real* place = key_sums + k * KEY_BLOCK + start + j;
    regard::store(place, load(place) + x);
  }
  void add_to_diagonal(int result, int i, int j, Vec x) const {
    real* place = call->results[result].at(chunk, b, h, 0) + (call->queries - 1 - (i0 + i)) + j0 + j;
    regard::store(place, load(place) + x);
  }
  void add_to_table(int result, Int index, Vec x) const {
    real* to = call->results[result].at(chunk, b, h, 0);
    for (int lane = 0; lane < W; ++lane) to[index[lane]] += x[lane];
  }
  void add_to_query_table(int result, int i, Int index, Vec x) const {
    real* to = call->results[result].at(chunk, b, h, i0 + i);
    for (int lane = 0; lane < W; ++lane) to[index[lane]] += x[lane];
  }
  void add_to_key_table(int result, int j, Int index, Vec x) const {
    const Result& r = call->results[result];
    real* to = r.at(0, b, h, j0 + j);
    for (int lane = 0; lane < W && j + lane < keys; ++lane) to[lane * r.by_row + index[lane]] += x[lane];
  }
  void set_pair(int result, int i, int j, Vec x) const {
    real* to = call->results[result].at(0, b, h, i0 + i) + j0 + j;
    for (int lane = 0; lane < W && j + lane < keys; ++lane) to[lane] = x[lane];
  }

  // Visit the tile's keys that an input lists for query row i, as they rise: their places in the tile
  // and in the list.
  template <class F> void each_listed(int input, int i, F visit) {
    const Input& x = call->inputs[input];
    const integer* listed = (const integer*)place_of(x, b, h, i0 + i, 0);
    int64_t low = 0, high = x.width;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (listed[middle] < j0)
        low = middle + 1;
      else
        high = middle;
    }
    for (; low < x.width && listed[low] < j0 + keys; ++low) visit(listed[low] - j0, low);
  }
  // Mark the tile's keys that query row i has among its chosen ones.
  void choose(int k, int input, int i) {
    __builtin_memset(chosen[k], 0, sizeof(integer) * padded(keys, W));
    each_listed(input, i, [&](int64_t j, int64_t) { chosen[k][j] = -1; });
  }
  // Place the numbers that an input holds for the listed keys of query row i.
  void place(int k, int keys_input, int input, int i) {
    const real* numbers_of = (const real*)place_of(call->inputs[input], b, h, i0 + i, 0);
    __builtin_memset(placed[k], 0, sizeof(real) * padded(keys, W));
    each_listed(keys_input, i, [&](int64_t j, int64_t at) { placed[k][j] = numbers_of[at]; });
  }

  // The random state of draws for query row i; what axes a draw reads is written in the program.
  uint32_t drawn(uint32_t place, bool with_batch, bool with_head, bool with_row, int i) const {
    uint32_t state = 0;
    state = mix_in(state, uint32_t(call->seed));
    state = mix_in(state, uint32_t(uint64_t(call->seed) >> 32));
    state = mix_in(state, place);
    if (with_batch) state = mix_in(state, uint32_t(b));
    if (with_head) state = mix_in(state, uint32_t(h + call->first_head));
    if (with_row) state = mix_in(state, uint32_t(i0 + i));
    return state;
  }
};

template <class P> struct Sizes {
  static constexpr int BUFFERS = P::DOTS + P::CHANNEL_SUMS > P::COMPONENTS
                                     ? P::DOTS + P::CHANNEL_SUMS
                                     : P::COMPONENTS;
};

template <class P> REGARD_INLINE void read_numbers(Tile& t) {
  for (int k = 0; k < P::NUMBERS; ++k) {
    const Input& x = t.call->inputs[P::numbers[k].input];
    read(place_of(x, t.b, t.h, 0, 0), x.storage, 1, 1, P::numbers[k].real_kind, t.numbers + k);
  }
}

template <class P> REGARD_INLINE void read_queries(Tile& t) {
  for (int k = 0; k < P::QUERIES; ++k) {
    const Input& x = t.call->inputs[P::queries[k].input];
    real* to = t.queries + k * QUERY_BLOCK;
    read(place_of(x, t.b, t.h, t.i0, 0), x.storage, x.by_row, t.rows, P::queries[k].real_kind, to);
    // Whole vectors of rows are computed with; what stands behind the last row is not used.
    for (int64_t i = t.rows; i < padded(t.rows, W); ++i) to[i] = 0;
  }
}

template <class P> REGARD_INLINE void read_keys(Tile& t) {
  for (int k = 0; k < P::KEYS; ++k) {
    const Input& x = t.call->inputs[P::keys[k].input];
    real* to = t.keyed + k * KEY_BLOCK;
    read(place_of(x, t.b, t.h, t.j0, 0), x.storage, x.by_row, t.keys, P::keys[k].real_kind, to);
    for (int64_t j = t.keys; j < padded(t.keys, W); ++j) to[j] = 0;
  }
}

template <class P> REGARD_INLINE void start_row(Tile& t, int i) {
  P::start_row(t, i);
  for (int k = 0; k < P::PAIRS; ++k) {
    const Input& x = t.call->inputs[P::pairs[k].input];
    real* to = t.pairs + k * KEY_BLOCK;
    read(place_of(x, t.b, t.h, t.i0 + i, t.j0), x.storage, x.by_column, t.keys,
         P::pairs[k].real_kind, to);
    for (int64_t j = t.keys; j < padded(t.keys, W); ++j) to[j] = 0;
  }
}

// Left rows of a block, one row a line.
template <class P> struct PlainRows {
  const Call& call;
  real* const* data;
  const real* at(int k) const { return data[k]; }
  int64_t width(int k) const { return call.inputs[P::lefts[k]].width; }
  int64_t by_row(int k) const { return padded(width(k), W); }
};

// Which of the tile's W keys from j on exist.
REGARD_INLINE Int inside(const Tile& t, int j) { return lanes() + j < integer(t.keys); }

// How many keys block kb has room for.
REGARD_INLINE int64_t columns_of(const Call& call, int64_t kb) {
  return least(KEY_BLOCK, padded(call.keys - kb * KEY_BLOCK, W));
}

// The rows of a block that see some key of a step, and what their pairs are.
struct Seen {
  int first, last;
  Block block;
  bool operator==(const Seen& x) const { return first == x.first && last == x.last && block == x.block; }
};

// `codes` are those of one step of keys, `steps` apart.
REGARD_INLINE Seen seen_of(const int8_t* codes, int64_t steps, int rows) {
  Seen seen{0, 0, EMPTY};
  for (int i = 0; i < rows; i += QUERY_STEP, codes += steps) {
    if (*codes == EMPTY) continue;
    if (seen.block == EMPTY) seen = {i, i, Block(*codes)};
    // Rows between that see nothing are masked too.
    if (*codes == MIXED || seen.last < i) seen.block = MIXED;
    seen.last = i + QUERY_STEP;
  }
  return seen;
}

// Call `visit` for each tile of block kb that is not empty, with what its pairs are.
template <class F>
REGARD_INLINE void each_tile(Tile& t, int64_t qb, int64_t kb, F visit) {
  const Call& call = *t.call;
  const int64_t first = kb * KEY_BLOCK, end = least(first + KEY_BLOCK, call.keys_of(t.b));
  auto enter = [&](int64_t from, int64_t to, Seen seen) {
    t.j0 = from;
    t.start = from - first;
    t.keys = int(to - from);
    t.first = seen.first;
    t.last = int(least(seen.last, t.rows));
    // Keys beyond the last one fill its vector up, and must be masked.
    if (t.keys > 0 && t.first < t.last) visit(seen.block == FULL && t.keys % W == 0 ? FULL : MIXED);
  };
  if (!call.blocks) return enter(first, end, Seen{0, t.rows, Block(call.otherwise)});
  const int64_t steps = (call.keys + KEY_STEP - 1) / KEY_STEP;
  const int8_t* blocks = call.blocks + t.b * call.blocks_by_batch + t.h * call.blocks_by_head +
                         qb * (QUERY_BLOCK / QUERY_STEP) * steps;
  for (int64_t from = first; from < end;) {
    const Seen seen = seen_of(blocks + from / KEY_STEP, steps, t.rows);
    int64_t to = from + KEY_STEP;
    while (to < end && seen == seen_of(blocks + to / KEY_STEP, steps, t.rows)) to += KEY_STEP;
    enter(from, least(to, end), seen);
    from = to;
  }
}

// A key input laid out once for a whole call, block by block.
struct Laid {
  real* data = nullptr;
  int64_t heads, batches, blocks, block, share, width;
  bool batched;

  Laid() = default;
  Laid(const Call& call, const Input& x, int64_t rows, int64_t unit, int64_t row_numbers)
      : heads((call.heads + x.share - 1) / x.share), batches(x.by_batch ? call.batch : 1),
        blocks((rows + unit - 1) / unit), block(row_numbers), share(x.share), width(x.width),
        batched(x.by_batch != 0) {}
  // How many of its rows exist, from row `first` on: those of the longest batch row if all share it.
  int rows_from(int64_t all, int64_t first, const int64_t* lengths, int64_t b, int64_t unit) const {
    const int64_t end = lengths && batched ? lengths[b] : all;
    return int(least(unit, end - first));
  }
  // Whether (b, h) is the first that reads its part.
  bool owned_by(int64_t b, int64_t h) const { return (batched || b == 0) && h % share == 0; }
  int64_t numbers() const { return batches * heads * blocks * block; }
  real* at(int64_t b, int64_t h, int64_t k) const {
    return data + (((batched ? b : 0) * heads + h / share) * blocks + k) * block;
  }
};

}  // namespace regard
