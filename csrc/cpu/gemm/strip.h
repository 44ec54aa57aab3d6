// SPDX-License-Identifier: Apache-2.0
// A strip: STRIP columns of a (k, n) operand, rows contiguous, (k, STRIP); absent columns are zero.
//
// Strips give the register tiles B in the order they read it, without the cache conflicts of long row strides. They are
// copied from rows of B, or transposed in registers from rows of B^T.
#pragma once
#include "tile.h"

DLCORE_BEGIN

// b (depth, columns) -> strip (depth, STRIP)
static inline void copy_strip(const real* b, int64_t ldb, int64_t depth, int64_t columns, real* strip) {
  if (columns >= STRIP) {
    for (int64_t k = 0; k < depth; ++k, b += ldb, strip += STRIP) {
      for (int64_t c = 0; c < STRIP; c += LANES) store(strip + c, load(b + c));
    }
    return;
  }
  for (int64_t k = 0; k < depth; ++k, b += ldb, strip += STRIP) {
    for (int64_t c = 0; c < STRIP; c += LANES) store(strip + c, load_partial(b + c, max(0, min(columns - c, LANES))));
  }
}

template <int... I>
struct Sequence {};
template <int N, int... I>
struct FirstN : FirstN<N - 1, N - 1, I...> {};
template <int... I>
struct FirstN<0, I...> {
  typedef Sequence<I...> type;
};

// The lanes of a without bit D in their number, with those of b in between, D apart; and the others.
template <int D, int... I>
static inline vec exchange_low(vec a, vec b, Sequence<I...>) {
  return __builtin_shufflevector(a, b, ((I & D) ? I - D + int(LANES) : I)...);
}
template <int D, int... I>
static inline vec exchange_high(vec a, vec b, Sequence<I...>) {
  return __builtin_shufflevector(a, b, ((I & D) ? I + int(LANES) : I + D)...);
}

// Transposes v (LANES, LANES) by exchanging blocks of D, D / 2, ... 1.
template <int D>
static inline void transpose(vec* v) {
  typedef typename FirstN<int(LANES)>::type All;
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) {
    if (i & D) continue;
    const vec a = v[i], b = v[i + D];
    v[i] = exchange_low<D>(a, b, All());
    v[i + D] = exchange_high<D>(a, b, All());
  }
  if constexpr (D > 1) transpose<D / 2>(v);
}

// b (rows <= LANES, depth <= LANES) -> strip (depth, LANES of STRIP)
static inline void transpose_edge(const real* b, int64_t ldb, int64_t rows, int64_t depth, real* strip) {
  vec v[LANES];
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) v[i] = i < rows ? load_partial(b + i * ldb, depth) : vec{};
  transpose<LANES / 2>(v);
#pragma GCC unroll 16
  for (int i = 0; i < LANES; ++i) {
    if (i < depth) store(strip + i * STRIP, v[i]);
  }
}

// b (columns, depth) -> strip (depth, STRIP)
static inline void transpose_strip(const real* b, int64_t ldb, int64_t depth, int64_t columns, real* strip) {
  for (int64_t c = 0; c < STRIP; c += LANES) {
    const real* rows = b + c * ldb;
    int64_t k = 0;
    for (; columns - c >= LANES && k + LANES <= depth; k += LANES) {
      vec v[LANES];
#pragma GCC unroll 16
      for (int i = 0; i < LANES; ++i) v[i] = load(rows + i * ldb + k);
      transpose<LANES / 2>(v);
#pragma GCC unroll 16
      for (int i = 0; i < LANES; ++i) store(strip + (k + i) * STRIP + c, v[i]);
    }
    for (; k < depth; k += LANES) {
      transpose_edge(rows + k, ldb, min(columns - c, LANES), min(depth - k, LANES), strip + k * STRIP + c);
    }
  }
}

DLCORE_END
