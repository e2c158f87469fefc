// One call of a kernel: where its tensors lie, and how their rows are read whatever they are stored as.
//
// Python fills `Call` as one array of 64-bit words; every field here is one. Leaves laying rows out for
// products to rows.h.
#pragma once

#include "matrix.h"

namespace regard {

// How numbers are stored. They are computed with as `real`, or `integer`.
enum Storage : int64_t { FLOAT32, FLOAT64, BFLOAT16, FLOAT16, INT64, INT32, INT16, INT8, UINT8, BOOL };

// A tensor that varies along some of b, h, rows, columns; a stride is 0 where it does not.
// Query head h reads head h / share.
struct Input {
  const char* data;
  int64_t storage, by_batch, by_head, by_row, by_column, share, width;
};

// Where a result goes: (chunk, batch, head, row, column), head h at h / share. Null: nobody wants it.
struct Result {
  real* data;
  int64_t by_chunk, by_batch, by_head, by_row, share;
  real* at(int64_t chunk, int64_t b, int64_t h, int64_t row) const {
    return data + chunk * by_chunk + b * by_batch + h / share * by_head + row * by_row;
  }
};

struct Call {
  int64_t batch, heads, groups, queries, keys, chunks, threads, first_head;
  int64_t seed;
  const int64_t* query_lengths;  // null: all rows exist
  const int64_t* key_lengths;
  const int8_t* blocks;  // EMPTY, FULL or MIXED for every block of pairs; null: all are `otherwise`
  int64_t otherwise;     // what all blocks are then
  int64_t blocks_by_batch, blocks_by_head;
  const Input* inputs;
  const Result* results;

  int64_t queries_of(int64_t b) const { return query_lengths ? query_lengths[b] : queries; }
  int64_t keys_of(int64_t b) const { return key_lengths ? key_lengths[b] : keys; }
};

// A call whose inputs and results stand behind it, told by how many words from its first.
REGARD_INLINE Call located(const int64_t* words) {
  Call call = *(const Call*)words;
  call.inputs = (const Input*)(words + (intptr_t)call.inputs);
  call.results = (const Result*)(words + (intptr_t)call.results);
  return call;
}

enum Block : int8_t { EMPTY, FULL, MIXED };

// Status of a call.
enum Status : int { DONE, NOT_FINITE, NO_MEMORY };

REGARD_INLINE int64_t bytes_of(int64_t storage) {
  switch (storage) {
    case FLOAT64: case INT64: return 8;
    case FLOAT32: case INT32: return 4;
    case BFLOAT16: case FLOAT16: case INT16: return 2;
    default: return 1;
  }
}

REGARD_INLINE const char* place_of(const Input& x, int64_t b, int64_t h, int64_t row, int64_t column) {
  const int64_t at = b * x.by_batch + h / x.share * x.by_head + row * x.by_row + column * x.by_column;
  return x.data + at * bytes_of(x.storage);
}

template <class A, class B> constexpr bool same = false;
template <class A> constexpr bool same<A, A> = true;

template <class T, class To>
REGARD_INLINE void copy_as(const char* from, int64_t stride, int count, To* to) {
  const T* x = (const T*)from;
  if (same<T, To> && stride == 1) {
    __builtin_memcpy(to, x, count * sizeof(T));
  } else if (stride == 1) {
    for (int k = 0; k < count; ++k) to[k] = To(x[k]);
  } else {
    for (int k = 0; k < count; ++k) to[k] = To(x[k * stride]);
  }
}

// `count` numbers, `stride` elements apart, as real.
__attribute__((noinline)) static void read_reals(const char* from, int64_t storage, int64_t stride,
                                                 int count, real* to) {
  const uint16_t* half = (const uint16_t*)from;
  switch (storage) {
    case FLOAT32: return copy_as<float>(from, stride, count, to);
    case FLOAT64: return copy_as<double>(from, stride, count, to);
    case BFLOAT16: {
      int k = 0;
      if (stride == 1)
        for (; k + W <= count; k += W) store(to + k, load_bf16(half + k));
      for (; k < count; ++k) to[k] = from_bf16(half[k * stride]);
      return;
    }
    case FLOAT16: {
      int k = 0;
      if (stride == 1)
        for (; k + W <= count; k += W) store(to + k, load_f16(half + k));
      for (; k < count; ++k) to[k] = from_f16(half[k * stride]);
      return;
    }
    case INT64: return copy_as<int64_t>(from, stride, count, to);
    case INT32: return copy_as<int32_t>(from, stride, count, to);
    case INT16: return copy_as<int16_t>(from, stride, count, to);
    case INT8: return copy_as<int8_t>(from, stride, count, to);
    default: return copy_as<uint8_t>(from, stride, count, to);
  }
}

// The same as integer; truth values become 0 or -1.
__attribute__((noinline)) static void read_integers(const char* from, int64_t storage, int64_t stride,
                                                    int count, integer* to) {
  switch (storage) {
    case INT64: return copy_as<int64_t>(from, stride, count, to);
    case INT32: return copy_as<int32_t>(from, stride, count, to);
    case INT16: return copy_as<int16_t>(from, stride, count, to);
    case INT8: return copy_as<int8_t>(from, stride, count, to);
    case UINT8: return copy_as<uint8_t>(from, stride, count, to);
    default:
      for (int k = 0; k < count; ++k) to[k] = -integer(((const uint8_t*)from)[k * stride] != 0);
  }
}

// Into `to`, whose bits are those of reals or of integers.
REGARD_INLINE void read(const char* from, int64_t storage, int64_t stride, int count, bool real_kind,
                        real* to) {
  if (real_kind)
    read_reals(from, storage, stride, count, to);
  else
    read_integers(from, storage, stride, count, (integer*)to);
}

}  // namespace regard
