// SPDX-License-Identifier: Apache-2.0
// Operands of the matrix unit: 32 rows of A or columns of B by 32 of the depth are a step, (planes, 2 tiles, 16, 16
// words) of two bf16 that follow each other in the depth; absent elements are zero.
//
// A tile of A is 16 rows of 16 words, a tile of B 16 words of the depth by 16 columns: each is the other transposed, so
// one writer serves both, from rows and from columns of either.
#pragma once
#include "../../../math/bf16.h"
#include "../strip.h"

DLCORE_BEGIN

constexpr int64_t STEP = PLANE_STEP;  // rows of A, columns of B, and depth
constexpr int64_t SIDE = 16;          // of a tile, in words
constexpr int64_t TILE_WORDS = SIDE * SIDE, PLANE_WORDS = 2 * TILE_WORDS;

enum class Depth { rows, columns };  // in which direction of x it runs
enum class Side { a, b };

// Words to the step of the depth and the strip of 32 columns.
static inline int64_t step_at(int64_t strip, int64_t step, int64_t depth, int64_t planes) {
  return (strip * ceil_div(depth, STEP) + step) * planes * PLANE_WORDS;
}

static inline void write_words(vec even, vec odd, int64_t planes, real* to) {
  for (int64_t p = 0; p < planes; ++p, to += PLANE_WORDS) {
    const vec e = round_bf16(even), o = round_bf16(odd);
    store(to, pair_bf16(e, o));
    even -= e, odd -= o;
  }
}

// Every second lane of a and b.
template <int first, int... I>
static inline vec halve(vec a, vec b, Sequence<I...>) {
  return __builtin_shufflevector(a, b, (2 * I + first)...);
}

// row (32) -> 16 words
static inline void write_row(const real* row, int64_t planes, real* to) {
  typedef typename FirstN<int(LANES)>::type All;
  for (int64_t c = 0; c < STEP; c += 2 * LANES, to += LANES) {
    const vec a = load(row + c), b = load(row + c + LANES);
    write_words(halve<0>(a, b, All()), halve<1>(a, b, All()), planes, to);
  }
}

// Two rows (16) -> 16 words
static inline void write_pair(const real* row, int64_t ld, int64_t planes, real* to) {
  for (int64_t c = 0; c < SIDE; c += LANES) write_words(load(row + c), load(row + ld + c), planes, to + c);
}

// w (16, 16) in place
static inline void transpose_tile(real* w) {
  for (int64_t r = 0; r < SIDE; r += LANES) {
    for (int64_t c = 0; c <= r; c += LANES) {
      vec low[LANES], high[LANES];
#pragma GCC unroll 16
      for (int i = 0; i < LANES; ++i) low[i] = load(w + (r + i) * SIDE + c), high[i] = load(w + (c + i) * SIDE + r);
      transpose<LANES / 2>(low);
      transpose<LANES / 2>(high);
#pragma GCC unroll 16
      for (int i = 0; i < LANES; ++i) store(w + (c + i) * SIDE + r, low[i]), store(w + (r + i) * SIDE + c, high[i]);
    }
  }
}

// x (rows <= 32, cols <= 32) -> one step
static void write_step(const real* x, int64_t ld, int64_t rows, int64_t cols, Depth depth, Side side, int64_t planes,
                       real* to) {
  real whole[STEP * STEP];
  if (rows < STEP || cols < STEP) {
    __builtin_memset(whole, 0, sizeof whole);
    for (int64_t r = 0; r < rows; ++r) __builtin_memcpy(whole + r * STEP, x + r * ld, cols * sizeof(real));
    x = whole, ld = STEP;
  }
  for (int64_t i = 0; i < 2 * SIDE; ++i) {  // rows of the two tiles
    if (depth == Depth::columns) {
      write_row(x + i * ld, planes, to + i * SIDE);
    } else {
      write_pair(x + i % SIDE * 2 * ld + i / SIDE * SIDE, ld, planes, to + i * SIDE);
    }
  }
  if ((depth == Depth::columns) == (side == Side::a)) return;
  for (int64_t tile = 0; tile < 2 * planes; ++tile) transpose_tile(to + tile * TILE_WORDS);
}

DLCORE_END
