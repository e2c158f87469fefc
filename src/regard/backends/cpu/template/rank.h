// Sweeps that rank the scores of each query row: the threshold of an entmax, or the keys of the largest.
//
// Of a row only those scores are kept that can still matter, which are few: those above the k-th, or
// above the threshold of the keys seen so far, which further keys can only raise. Tasks are blocks of
// query rows.
// Leaves to others: scores (emitted as `P`), laying out and products (forward.h), the few largest of
// a row (largest.h).
#pragma once

#include "forward.h"

namespace regard {

// A step of Newton's doubles the digits; far from the threshold it takes about ln M of them.
// A bound is raised by a few of them whenever so many scores have come in.
constexpr int MOST_STEPS = 64, FEW_STEPS = 2, UNSETTLED = 32, HALVINGS = sizeof(real) == 4 ? 30 : 60;

// u^p of numbers that are not negative, 0 where u is 0.
REGARD_INLINE Vec power_of(Vec u, Vec p) {
  return select(u > real(0), vexp(p * vlog(select(u > real(0), u, splat(1)))), Vec{});
}

// Σ (x - t)₊^p, and Σ (x - t)₊^(p - 1).
struct Excess {
  real sum, slope;
};

enum Power { ONE, TWO, ANY };

template <Power POWER> static Excess excess_of(const real* x, int64_t count, real t, real p) {
  Vec sum{}, slope{};
  for (int64_t k = 0; k < count; k += W) {
    const Vec u = vrelu(load(x + k) - t);
    if constexpr (POWER == ONE) {
      sum += u;
      slope += select(u > real(0), splat(1), Vec{});
    } else if constexpr (POWER == TWO) {
      sum += u * u;
      slope += u;
    } else {
      const Vec inner = power_of(u, splat(p - 1));
      sum += inner * u;
      slope += inner;
    }
  }
  return {sum_of(sum), sum_of(slope)};
}

// Where Σ (x - t)₊^p is 1, or nearer to it, from a t below. The sum falls and is convex in t if p ≥ 1, so
// that no step of Newton's passes the root.
template <Power POWER>
static real rise_to_threshold(const real* x, int64_t count, real p, real t, int steps) {
  for (int step = 0; step < steps; ++step) {
    const Excess found = excess_of<POWER>(x, count, t, p);
    const real risen = t + (found.sum - 1) / (p * found.slope);
    if (!(risen > t)) break;
    t = risen;
  }
  return t;
}

static real rise(const real* x, int64_t count, real gain, real t, int steps) {
  const real p = 1 / gain;
  if (gain == real(1)) return rise_to_threshold<ONE>(x, count, p, t, steps);
  if (gain == real(0.5)) return rise_to_threshold<TWO>(x, count, p, t, steps);
  return p < 1 ? t : rise_to_threshold<ANY>(x, count, p, t, steps);
}

static real halve_to_threshold(const real* x, int64_t count, real p) {
  real low = -1, high = 0;
  for (int step = 0; step < HALVINGS; ++step) {
    const real middle = (low + high) / 2;
    Vec sum{};
    for (int64_t k = 0; k < count; k += W) sum += power_of(vrelu(load(x + k) - middle), splat(p));
    (sum_of(sum) >= 1 ? low : high) = middle;
  }
  return low;
}

// Forget the scores of a row at or below its bound, after raising that by a few steps towards the
// threshold of those kept. What is left stands in `x` too, as (score - top) · gain.
static void raise_bound(Kept& row, real gain, real* x, int steps) {
  int64_t count = 0;
  for (int64_t k = 0; k < row.count; ++k) {
    const real score = row.values[k];
    row.values[count] = score;
    x[count] = (score - row.top) * gain;
    count += score > row.bound;
  }
  row.count = row.settled = count;
  for (int64_t k = count; k < padded(count, W); ++k) x[k] = -1;
  const real least = (row.bound - row.top) * gain;
  row.bound = row.top + rise(x, count, gain, least > -1 ? least : -1, steps) / gain;
}

// The threshold of a row, relative to its largest score.
static real threshold_of(Kept& row, real gain, real* x) {
  if (row.top == -__builtin_inff()) return 0;
  raise_bound(row, gain, x, 0);
  const real least = (row.bound - row.top) * gain;
  if (gain > 1) return halve_to_threshold(x, row.count, 1 / gain);
  return rise(x, row.count, gain, least > -1 ? least : -1, MOST_STEPS);
}

// Keep the k largest of a row; of equal ones those of the lower keys.
static void prune(Kept& row, int64_t k, real* spare) {
  if (row.count <= k) return;
  __builtin_memcpy(spare, row.values, sizeof(real) * row.count);
  const real least = largest_but(spare, row.count, k);
  int64_t above = 0, count = 0;
  for (int64_t c = 0; c < row.count; ++c) above += row.values[c] > least;
  int64_t equal = k - above;
  for (int64_t c = 0; c < row.count; ++c) {
    const real x = row.values[c];
    const bool stays = x > least || (x == least && equal-- > 0);
    row.values[count] = x;
    row.columns[count] = row.columns[c];
    count += stays;
  }
  row.count = count;
  row.bound = least;
}

// Keep the scores of a row of a tile that exceed its bound, from one key to another.
template <class P>
REGARD_INLINE void keep_scores(const Tile& t, Kept& row, const real* scores, int first, int last) {
  for (int j = first; j < last; j += W) {
    if (!any(load(scores + j) > row.bound)) continue;
    const int end = int(least(j + W, t.keys));
    int64_t count = row.count;
    for (int c = j; c < end; ++c) {
      row.values[count] = scores[c];
      if (P::CHOOSES) row.columns[count] = real(t.j0 + c);
      count += scores[c] > row.bound;
    }
    row.count = count;
  }
}

// Memory of a thread beside a tile's: what is kept of each row of each term.
template <class P> struct Ranks {
  Kept kept[P::TERMS][QUERY_BLOCK];
  real numbers[P::TERMS][QUERY_BLOCK];
  real* spare;
  bool good;

  Ranks(const Call& call, Scratch& scratch, int64_t rows) {
    // Pages of scores that are never kept are never touched.
    const int64_t each = padded(call.keys + KEY_BLOCK, W);
    real* next = scratch.take((P::TERMS * rows * (P::CHOOSES ? 2 : 1) + 1) * each);
    good = next != nullptr;
    if (!good) return;
    auto take = [&] { real* found = next; next += each; return found; };
    spare = take();
    for (int k = 0; k < P::TERMS; ++k)
      for (int64_t i = 0; i < rows; ++i) kept[k][i] = {take(), P::CHOOSES ? take() : nullptr, 0, 0, 0, 0};
  }

  // How many keys a row chooses: a NaN chooses none, infinity all.
  int64_t wanted(const Tile& t, int term, int i) const {
    const real k = numbers[term][i];
    return k < real(t.call->keys) ? (k > 0 ? int64_t(__builtin_ceil(k)) : 0) : k == k ? t.call->keys : 0;
  }

  void start(const Tile& t) {
    const real nothing = -__builtin_inff();
    for (int k = 0; k < P::TERMS; ++k)
      for (int i = 0; i < t.rows; ++i) {
        Kept& row = kept[k][i];
        row = {row.values, row.columns, 0, 0, nothing, nothing};
        numbers[k][i] = P::number(t, k, i);
      }
  }

  void add(const Tile& t, int term, int i, const real* scores, const Tops& tops) {
    Kept& row = kept[term][i];
    auto keep = [&](int first, int last) { keep_scores<P>(t, row, scores, first, last); };
    if (P::CHOOSES) {
      const int64_t k = wanted(t, term, i);
      if (k <= 0) return;
      if (k <= FEW) return add_to_few(t, row, scores, k, tops);
      if (row.bound == -__builtin_inff()) row.bound = tops.exceeded_by(k);
      each_quarter_above(t, row, tops, keep);
      if (row.count >= k + 2 * UNSETTLED) prune(row, k, spare);
      return;
    }
    const real largest = tops.largest();
    if (largest > row.top) {
      row.top = largest;
      const real least = largest - 1 / numbers[term][i];
      if (least > row.bound) row.bound = least;
    }
    each_quarter_above(t, row, tops, keep);
    if (row.count >= row.settled + UNSETTLED) raise_bound(row, numbers[term][i], spare, FEW_STEPS);
  }

  void finish(const Tile& t) {
    const Result* results = t.call->results;
    for (int k = 0; k < P::TERMS; ++k)
      for (int i = 0; i < t.rows; ++i) {
        Kept& row = kept[k][i];
        if (P::CHOOSES) {
          prune(row, wanted(t, k, i), spare);
          if (wanted(t, k, i) <= FEW) order_by_key(row);
          __builtin_memcpy(results[k].at(0, t.b, t.h, t.i0 + i), row.columns, sizeof(real) * row.count);
          if (P::VALUED)
            __builtin_memcpy(results[P::TERMS + k].at(0, t.b, t.h, t.i0 + i), row.values, sizeof(real) * row.count);
          continue;
        }
        *results[k].at(0, t.b, t.h, t.i0 + i) = finite_shift(row.top);
        *results[P::TERMS + k].at(0, t.b, t.h, t.i0 + i) = threshold_of(row, numbers[k][i], spare);
      }
  }
};

template <class P, bool MASKED>
__attribute__((noinline)) static void rank_tile(Tile& t, Ranks<P>& ranks) {
  alignas(64) real kept[P::TERMS][KEY_BLOCK];
  for (int i = t.first; i < t.last; ++i) {
    start_row<P>(t, i);
    Tops tops[P::TERMS];
    for (int j = 0; j < t.keys; j += W) {
      Vec score[P::TERMS];
      P::template scores<MASKED>(t, i, j, score);
      for (int k = 0; k < P::TERMS; ++k) {
        store(kept[k] + j, score[k]);
        tops[k].raise(j, score[k]);
      }
    }
    for (int k = 0; k < P::TERMS; ++k) ranks.add(t, k, i, kept[k], tops[k]);
  }
}

// Rank the scores of one tile.
template <class P>
REGARD_INLINE void rank_block(Tile& t, TileMemory<P>& memory, LaidKeys<P>& laid, Ranks<P>& ranks, int64_t kb,
                              Block block) {
  score_tile(t, memory, laid, kb);
  if (block == FULL)
    rank_tile<P, false>(t, ranks);
  else
    rank_tile<P, true>(t, ranks);
}

// The ranks of a block of query rows.
template <class P> struct Ranking {
  static constexpr bool IN_CHUNKS = false;
  static Scratch& scratch() {
    static thread_local Scratch kept;
    return kept;
  }
  Ranks<P> ranks;
  Ranking(const Call& call) : ranks(call, scratch(), least(QUERY_BLOCK, padded(call.queries, 1))) {}
  bool good() const { return ranks.good; }
  void start(Tile& t, TileMemory<P>&) { ranks.start(t); }
  void visit(Tile& t, TileMemory<P>& memory, LaidKeys<P>& laid, int64_t kb, Block block) {
    rank_block(t, memory, laid, ranks, kb, block);
  }
  void finish(Tile& t, TileMemory<P>&) { ranks.finish(t); }
};

template <class P> static int rank_rows(const Call& call) { return sweep_blocks<P, Ranking<P>>(call); }

}  // namespace regard
