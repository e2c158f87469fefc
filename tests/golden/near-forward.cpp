// The sweep 'forward' of
//     score_ij = 0.25 q_i·k_j − slope[h] |i − j|
//     w_ij     = softmax_j(score_ij | j ≤ i)
//     out_i    = Σ_j w_ij v_j
//
// Inputs, by their number in a call:
//   0: q_i, query row
//   1: k_j, key row
//   2: slope[h], number of a head
//   3: v_j, key row
#define REGARD_QUERY_BLOCK 96
#define REGARD_KEY_BLOCK 256
#define REGARD_QUERY_STEP 32
#define REGARD_KEY_STEP 64
#include "forward.h"

namespace regard {

struct Program {
  static constexpr real HIDDEN = -real(__builtin_inf());
  static constexpr int NUMBERS = 1; static constexpr Slot numbers[] = {{2, true}};
  static constexpr int QUERIES = 0; static constexpr Slot queries[] = {{-1, true}};
  static constexpr int KEYS = 0; static constexpr Slot keys[] = {{-1, true}};
  static constexpr int PAIRS = 0; static constexpr Slot pairs[] = {{-1, true}};
  static constexpr int LEFTS = 1; static constexpr int lefts[] = {0};
  static constexpr int RIGHTS = 1; static constexpr int rights[] = {1};
  static constexpr int CHANNEL_ARRAYS = 0; static constexpr int channel_arrays[] = {-1};
  static constexpr int DOTS = 1; static constexpr Dot dots[] = {{0, 0}};
  static constexpr int CHANNEL_SUMS = 0;
  static constexpr int TERMS = 1, SUMS = 1, COMPONENTS = 1, FINALS = 2;
  static constexpr int VALUE = 3;  // the input that is weighed

  // The sums over channels of a tile's pairs.
  template <class Lefts>
  static void channel_sums(const Tile& t, const Lefts& left, const Laid* right, int64_t kb,
                           int64_t columns, Vec* const* kept) {}

  // The random state of each draw in query row i.
  static void start_row(Tile& t, int i) {}

  // What m is before any key.
  static real start(const Tile& t, int term, int i) {
    return HIDDEN;
  }

  // Whether a part of the summed row is scaled by a term's exp(-m).
  static constexpr bool shifts(int component, int term) {
    if (component == 0 && term == 0) return true;
    return false;
  }

  // Let m rise: what was summed so far is scaled down.
  static void rescale(int term, real moved, real factor, real* sums) {
    if (term == 0) {
      sums[0 * QUERY_BLOCK] *= factor;
    }
  }

  // The exponents of W pairs, -inf where hidden.
  template <bool MASKED>
  static REGARD_INLINE void scores(const Tile& t, int i, int j, Vec* score) {
    if constexpr (MASKED) {
      const Vec x0 = t.score(0, i, j);
      const Vec x1 = splat(real(0.25)) * x0;
      const Vec x2 = t.number(0);
      const Int x3 = splat_int(t.i0 + i);
      const Int x4 = lanes() + integer(t.j0 + j);
      const Int x5 = x3 - x4;
      const Int x6 = vabs(x5);
      const Vec x7 = x2 * to_real(x6);
      const Vec x8 = x1 - x7;
      const Int x9 = x4 <= x3;
      score[0] = select(inside(t, j) & x9, x8, splat(HIDDEN));
    } else {
      const Vec x0 = t.score(0, i, j);
      const Vec x1 = splat(real(0.25)) * x0;
      const Vec x2 = t.number(0);
      const Int x3 = splat_int(t.i0 + i);
      const Int x4 = lanes() + integer(t.j0 + j);
      const Int x5 = x3 - x4;
      const Int x6 = vabs(x5);
      const Vec x7 = x2 * to_real(x6);
      const Vec x8 = x1 - x7;
      score[0] = x8;
    }
  }

  // What W pairs add to row sums, and what their values are weighed with.
  template <bool MASKED>
  static REGARD_INLINE void weights(const Tile& t, int i, int j, const Vec* score,
                                    const Vec* shift, Vec* sum, Vec* weight) {
    const Vec x0 = vexp_nonpositive(score[0] - shift[0]);
    sum[0] += x0;
    weight[0] = x0;
  }

  // The values of W rows when all keys were seen.
  template <class State> static void finish(const Tile& t, State& s, int i) {
    const Vec x0 = load(&s.top[0][i]);
    const Vec x1 = select(x0 == splat(HIDDEN), Vec{}, x0);
    store(&s.found[0][i], x1);
    const Vec x2 = load(&s.sum[0][i]);
    const Int x3 = x2 == splat(real(0.0));
    const Vec x4 = select(x3, splat(real(1.0)), x2);
    const Vec x5 = splat(real(1.0)) / x4;
    const Vec x6 = select(x3, splat(real(0.0)), x5);
    store(&s.found[1][i], x6);
    store(&s.coefficient[0][i], x6);
  }
};

}  // namespace regard

extern "C" __attribute__((visibility("default")))
int regard_run(const int64_t* call) {
  return regard::sweep_rows<regard::Program>(regard::located(call));
}
