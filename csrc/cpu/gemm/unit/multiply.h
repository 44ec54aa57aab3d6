// SPDX-License-Identifier: Apache-2.0
// C (32, 32) = or += A (32, depth) B (depth, 32) from planes: four sums of 16 by 16, bound by loading tiles.
//
// x y = hh + (hm + mh) + (hl + mm + lh) up to 2^-24 of it, with x = h + m + l. Of the six products the five small ones
// are summed first, over all the depth, so that their roundings vanish beside those of the large one, in an order in
// which each needs one more operand than the last: 16 tile loads for 24 dots, where strictly by size there would be 24.
#pragma once
#include "unit.h"

DLCORE_BEGIN

// The depth of what is packed of A at a time; how its rows and this depth were chosen stands in product.cpp.
constexpr int64_t PANEL_DEPTH = 1024;

// Depth summed in a tile before it is added to C: of three terms and one, the parts left out err more than the sums do.
static inline int64_t tile_depth(int64_t planes) { return planes == 3 ? 256 : PANEL_DEPTH; }

// Planes of A and of B at one step, and the sums they are dotted into.
struct Dots {
  MatrixUnit& unit;
  const real *a, *b;

  void load_a(int64_t plane) {
    unit.load_words<4>(a + plane * PLANE_WORDS);
    unit.load_words<5>(a + plane * PLANE_WORDS + TILE_WORDS);
  }
  void load_b(int64_t plane) {
    unit.load_words<6>(b + plane * PLANE_WORDS);
    unit.load_words<7>(b + plane * PLANE_WORDS + TILE_WORDS);
  }
  void dot() {
    unit.dot<0, 4, 6>();
    unit.dot<1, 4, 7>();
    unit.dot<2, 5, 6>();
    unit.dot<3, 5, 7>();
  }
};

enum Plane { H, M, L };

static inline void small_terms(Dots d) {
  d.load_a(L), d.load_b(H), d.dot();
  d.load_a(M), d.dot();
  d.load_b(M), d.dot();
  d.load_a(H), d.dot();
  d.load_b(L), d.dot();
}

static inline void three_terms(Dots d) {
  d.load_a(M), d.load_b(H), d.dot();
  d.load_a(H), d.dot();
  d.load_b(M), d.dot();
}

static inline void large_term(Dots d) { d.load_a(H), d.load_b(H), d.dot(); }

template <void terms(Dots)>
static inline void sum_steps(MatrixUnit& unit, const real* a, const real* b, int64_t steps, int64_t planes) {
  const int64_t step = planes * PLANE_WORDS;
  for (int64_t s = 0; s < steps; ++s) terms(Dots{unit, a + s * step, b + s * step});
}

// a, b (steps, planes, 2, 16, 16 words), c (32, 32); room: as much as c
static void multiply_steps(MatrixUnit& unit, const real* a, const real* b, int64_t steps, int64_t planes, real* c,
                           int64_t ldc, Sum sum, real* room) {
  unit.clear<0>(), unit.clear<1>(), unit.clear<2>(), unit.clear<3>();
  if (planes == 3) sum_steps<small_terms>(unit, a, b, steps, planes);
  if (planes == 2) {
    sum_steps<three_terms>(unit, a, b, steps, planes);
  } else {
    sum_steps<large_term>(unit, a, b, steps, planes);
  }
  real* to = sum == Sum::add ? room : c;
  const int64_t ld = sum == Sum::add ? STEP : ldc;
  unit.store_sums<0>(to, ld), unit.store_sums<1>(to + SIDE, ld);
  unit.store_sums<2>(to + SIDE * ld, ld), unit.store_sums<3>(to + SIDE * ld + SIDE, ld);
  for (int64_t r = 0; sum == Sum::add && r < STEP; ++r, c += ldc) {
    for (int64_t i = 0; i < STEP; i += LANES) store(c + i, load(c + i) + load(room + r * STEP + i));
  }
}

// The same over any depth, blocks of tile_depth added in order.
static void multiply_planes(MatrixUnit& unit, const real* a, const real* b, int64_t steps, int64_t planes, real* c,
                            int64_t ldc, Sum sum, real* room) {
  const int64_t block = tile_depth(planes) / STEP, words = planes * PLANE_WORDS;
  for (int64_t s = 0; s < steps; s += block, sum = Sum::add) {
    multiply_steps(unit, a + s * words, b + s * words, min(block, steps - s), planes, c, ldc, sum, room);
  }
}

DLCORE_END
