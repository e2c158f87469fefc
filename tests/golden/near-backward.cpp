// The sweep 'backward' of
//     score_ij = 0.25 q_i·k_j − slope[h] |i − j|
//     w_ij     = softmax_j(score_ij | j ≤ i)
//     out_i    = Σ_j w_ij v_j
//
// Inputs, by their number in a call:
//   0: v_j, key row
//   1: q_i, query row
//   2: k_j, key row
//   3: slope[h], number of a head
//   4: the largest exponent of term a, number of a query
//   5: the inverse of the normaliser of term a, number of a query
//   6: the adjoint of the summed row, query row
//   7: the summed row, query row
#define REGARD_QUERY_BLOCK 96
#define REGARD_KEY_BLOCK 256
#define REGARD_QUERY_STEP 32
#define REGARD_KEY_STEP 64
#include "backward.h"

namespace regard {

struct Program {
  static constexpr real HIDDEN = -real(__builtin_inf());
  static constexpr int NUMBERS = 1; static constexpr Slot numbers[] = {{3, true}};
  static constexpr int QUERIES = 2; static constexpr Slot queries[] = {{4, true}, {5, true}};
  static constexpr int KEYS = 0; static constexpr Slot keys[] = {{-1, true}};
  static constexpr int PAIRS = 0; static constexpr Slot pairs[] = {{-1, true}};
  static constexpr int LEFTS = 2; static constexpr int lefts[] = {1, 6};
  static constexpr int RIGHTS = 2; static constexpr int rights[] = {2, 0};
  static constexpr int CHANNEL_ARRAYS = 0; static constexpr int channel_arrays[] = {-1};
  static constexpr int DOTS = 2; static constexpr Dot dots[] = {{0, 0}, {1, 1}};
  static constexpr int CHANNEL_SUMS = 0;
  static constexpr int INPUTS = 8;
  static constexpr int KEPT = 0;
  static constexpr int ROW_SUMS = 0; static constexpr int row_sums[] = {-1};
  static constexpr int KEY_SUMS = 0; static constexpr int key_sums[] = {-1};
  static constexpr int NUMBER_SUMS = 1; static constexpr int number_sums[] = {3};
  static constexpr int LEFT_RESULTS = 1; static constexpr int left_results[] = {1};
  static constexpr int RIGHT_RESULTS = 2; static constexpr int right_results[] = {2, 0};
  static constexpr bool left_in_panels[] = {true, true};
  static constexpr bool right_in_panels[] = {true, false};
  static constexpr int DELTAS = 2; static constexpr int deltas[] = {6, 7};
  static constexpr int PRODUCTS = 2; static constexpr Product products[] = {{0, 0, 0, 1, 2}, {1, 1, 1, -1, 0}};
  static constexpr int FIXED = 1;

  // The sums over channels of a tile's pairs.
  template <class Lefts>
  static void channel_sums(const Tile& t, const Lefts& left, const Laid* right, int64_t kb,
                           int64_t columns, Vec* const* kept) {}

  // The random state of each draw in query row i.
  static void start_row(Tile& t, int i) {}

  // What a tile's channel sums give to their rows.
  template <class Task, class Lefts>
  static void spread_channel_sums(const Tile& t, Task& task, const Lefts& left,
                                  const Laid* right, int64_t kb, int64_t columns) {}

  // What a block of keys has received.
  template <class Task> static void finish_channel_sums(const Tile& t, Task& task) {}

  // What is the same for all keys of query row i.
  static REGARD_INLINE void fix(const Tile& t, int i, Vec* fixed) {
    const Vec x0 = t.query(1, i);
    const Int x1 = x0 != splat(real(0.0));
    const Vec x2 = t.delta(i);
    const Vec x3 = -x2;
    const Vec x4 = x3 * x0;
    const Vec x5 = select(x1, x4, splat(real(0.0)));
    fixed[0] = x5;
  }

  // What W pairs give to every input.
  template <bool MASKED>
  static REGARD_INLINE void adjoints(const Tile& t, int i, int j, const Vec* fixed,
                                     Vec* row, Vec* number) {
    if constexpr (MASKED) {
      const Int x0 = lanes() + integer(t.j0 + j);
      const Int x1 = splat_int(t.i0 + i);
      const Int x2 = x0 <= x1;
      const Vec x3 = t.score(0, i, j);
      const Vec x4 = splat(real(0.25)) * x3;
      const Vec x5 = t.number(0);
      const Int x6 = x1 - x0;
      const Int x7 = vabs(x6);
      const Vec x8 = x5 * to_real(x7);
      const Vec x9 = x4 - x8;
      const Int x10 = inside(t, j) & x2 & (x9 != splat(HIDDEN));
      const Vec x11 = t.score(1, i, j);
      const Vec x12 = t.query(1, i);
      const Vec x13 = x11 * x12;
      const Vec x14 = fixed[0] + x13;
      const Vec x15 = t.query(0, i);
      const Vec x16 = x9 - x15;
      const Vec x17 = vexp(x16);
      const Vec x18 = x14 * x17;
      const Vec x19 = -x18;
      const Vec x20 = x19 * to_real(x7);
      const Vec x21 = select(x10, x20, splat(real(0.0)));
      const Vec x22 = x18 * splat(real(0.25));
      const Vec x23 = select(x10, x22, splat(real(0.0)));
      const Vec x24 = select(x10, x17, splat(real(0.0)));
      const Vec x25 = x24 * x12;
      const Vec x26 = select(x10, x25, splat(real(0.0)));
      number[0] += x21;
      store(t.scores[0] + i * SCORE_ROW + j, x23);
      store(t.scores[1] + i * SCORE_ROW + j, x26);
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
      const Int x9 = (x8 != splat(HIDDEN));
      const Vec x10 = t.score(1, i, j);
      const Vec x11 = t.query(1, i);
      const Vec x12 = x10 * x11;
      const Vec x13 = fixed[0] + x12;
      const Vec x14 = t.query(0, i);
      const Vec x15 = x8 - x14;
      const Vec x16 = vexp(x15);
      const Vec x17 = x13 * x16;
      const Vec x18 = -x17;
      const Vec x19 = x18 * to_real(x6);
      const Vec x20 = select(x9, x19, splat(real(0.0)));
      const Vec x21 = x17 * splat(real(0.25));
      const Vec x22 = select(x9, x21, splat(real(0.0)));
      const Vec x23 = select(x9, x16, splat(real(0.0)));
      const Vec x24 = x23 * x11;
      const Vec x25 = select(x9, x24, splat(real(0.0)));
      number[0] += x20;
      store(t.scores[0] + i * SCORE_ROW + j, x22);
      store(t.scores[1] + i * SCORE_ROW + j, x25);
    }
  }
};

}  // namespace regard

extern "C" __attribute__((visibility("default")))
int regard_run(const int64_t* call) {
  return regard::sweep_keys<regard::Program>(regard::located(call));
}
