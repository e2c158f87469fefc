// A function of each number of rows, and what the numbers receive of what its values receive.
//
// Leaves the function to the emitted program (`P`).
#pragma once

#include "math.h"
#include "rows.h"

namespace regard {

// Rows of each head; in a row numbers lie side by side.
struct MappedRows {
  const real* data;
  int64_t by_batch, by_head, by_row;
};

// Rows of a task.
constexpr int64_t ROWS = 64;

struct MapCall {
  int64_t batch, heads, rows, width, threads;
  MappedRows x, received;
  real* to;  // row after row
};

template <class F>
REGARD_INLINE void map_line(const real* x, const real* received, real* to, int64_t count, F f) {
  int64_t k = 0;
  for (; k + W <= count; k += W) store(to + k, f(load(x + k), load(received + k)));
  if (k == count) return;
  real last[2][W]{};
  for (int64_t lane = 0; k + lane < count; ++lane) {
    last[0][lane] = x[k + lane];
    last[1][lane] = received[k + lane];
  }
  const Vec found = f(load(last[0]), load(last[1]));
  for (int64_t lane = 0; k + lane < count; ++lane) to[k + lane] = found[lane];
}

template <class F> REGARD_INLINE int map_rows(const MapCall& call, F f) {
  const int64_t parts = (call.rows + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static) num_threads(int(call.threads))
  for (int64_t task = 0; task < call.batch * call.heads * parts; ++task) {
    const int64_t start = task % parts * ROWS, head = task / parts;
    const int64_t h = head % call.heads, b = head / call.heads;
    auto at = [&](const MappedRows& x) { return x.data + b * x.by_batch + h * x.by_head; };
    const real *x = at(call.x), *received = at(call.received);
    for (int64_t i = start; i < least(call.rows, start + ROWS); ++i)
      map_line(x + i * call.x.by_row, received + i * call.received.by_row,
               call.to + (head * call.rows + i) * call.width, call.width, f);
  }
  return DONE;
}

}  // namespace regard
