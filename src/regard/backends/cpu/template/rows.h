// Rows of channels laid out for products: in panels, transposed into panels, or plainly.
//
// Laying out also converts storage to `real` and notes whether every number is finite, because
// 0 · NaN would let a hidden row through a product.
#pragma once

#include <stdlib.h>
#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

#include "call.h"

namespace regard {

// Memory that a thread keeps between calls, so that no call pays for fresh pages.
struct Scratch {
  char* data = nullptr;
  int64_t bytes = 0;
  ~Scratch() { __builtin_free(data); }
  real* take(int64_t numbers) {
    const int64_t wanted = numbers * int64_t(sizeof(real)) + 64;
    if (wanted > bytes) {
      __builtin_free(data);
      data = (char*)__builtin_malloc(wanted);
      bytes = data ? wanted : 0;
    }
    return data ? (real*)(((uintptr_t)data + 63) & ~uintptr_t(63)) : nullptr;
  }
};

constexpr int64_t HUGE_PAGE = 1 << 21;

// Memory of one call, shared by its threads.
struct Shared {
  char* block = nullptr;
  char* next = nullptr;
  bool allot(int64_t numbers) {
    const int64_t bytes = numbers * int64_t(sizeof(real)) + 4096;
    if (bytes < HUGE_PAGE) {
      block = (char*)__builtin_malloc(bytes);
    } else {
      block = (char*)aligned_alloc(HUGE_PAGE, padded(bytes, HUGE_PAGE));
#ifdef MADV_HUGEPAGE
      // Fresh pages are first written here: a fault for every 4 KiB takes longer than the writing.
      if (block) madvise(block, bytes, MADV_HUGEPAGE);
#endif
    }
    next = (char*)(((uintptr_t)block + 63) & ~uintptr_t(63));
    return block != nullptr;
  }
  real* take(int64_t numbers) {
    real* found = (real*)next;
    next += (numbers * int64_t(sizeof(real)) + 63) & ~int64_t(63);
    return found;
  }
  ~Shared() { __builtin_free(block); }
};

// Whether all numbers are finite, told by their bits: GCC 12 takes 0 times a vector to be 0, whatever
// the vector holds.
REGARD_INLINE bool finite(const real* x, int count) {
  const Uint infinity = bits_of(splat(real(__builtin_inf())));
  Int bad{};
  int k = 0;
  for (; k + W <= count; k += W) bad |= (Int)((bits_of(load(x + k)) & infinity) == infinity);
  bool good = !any(bad);
  for (; k < count; ++k) good &= bool(__builtin_isfinite(x[k]));
  return good;
}

// Rows first … first + count - 1 of an input, one row a line of `to`, each padded with zeros.
static bool lay_plainly(const Input& x, int64_t b, int64_t h, int64_t first, int count, real* to,
                        int64_t to_row) {
  bool good = true;
  for (int r = 0; r < count; ++r) {
    real* line = to + r * to_row;
    read_reals(place_of(x, b, h, first + r, 0), x.storage, x.by_column, int(x.width), line);
    for (int64_t c = x.width; c < to_row; ++c) line[c] = 0;
    good &= finite(line, int(x.width));
  }
  return good;
}

// The same in panels of `allotted` rows.
static bool lay_panels(const Input& x, int64_t b, int64_t h, int64_t first, int count, real* to,
                       int64_t allotted, real* line) {
  const int64_t columns = padded(x.width, W);
  bool good = true;
  for (int r = 0; r < count; ++r) {
    read_reals(place_of(x, b, h, first + r, 0), x.storage, x.by_column, int(x.width), line);
    for (int64_t c = x.width; c < columns; ++c) line[c] = 0;
    good &= finite(line, int(x.width));
    for (int64_t c = 0; c < columns; c += PANEL) {
      const int64_t width = least(PANEL, columns - c);
      real* place = to + c * allotted + r * width;
      for (int64_t k = 0; k < width; k += W) store(place + k, load(line + c + k));
    }
  }
  return good;
}

// Rows as columns, in panels of x.width rows; columns behind the first `count` are zeros.
static bool lay_transposed(const Input& x, int64_t b, int64_t h, int64_t first, int count,
                           int64_t columns, real* to, real* line) {
  const int64_t width = x.width;
  bool good = true;
  for (int64_t j = 0; j < columns; ++j) {
    const int64_t start = j / PANEL * PANEL, across = least(PANEL, columns - start);
    real* place = to + start * width + (j - start);
    if (j >= count) {
      for (int64_t c = 0; c < width; ++c) place[c * across] = 0;
      continue;
    }
    read_reals(place_of(x, b, h, first + j, 0), x.storage, x.by_column, int(width), line);
    good &= finite(line, int(width));
    for (int64_t c = 0; c < width; ++c) place[c * across] = line[c];
  }
  return good;
}

}  // namespace regard
