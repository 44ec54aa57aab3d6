// SPDX-License-Identifier: Apache-2.0
// Register tiles of the matrix product: C (R, W vectors) = A (R, depth) B (depth, W vectors), bound by the FMA units.
//
// Each element is one chain of FMAs in increasing depth, so its bits do not depend on the tile that holds it.
// Every row count up to TILE_ROWS has a tile of its own: edges run at full speed. Few rows take wide tiles, because
// the FMA units (latency 4 cycles, 2 a cycle) want 8 accumulators.
#pragma once
#include "finish.h"

DLCORE_BEGIN

constexpr int STRIP_VECTORS = 2;
constexpr int64_t STRIP = STRIP_VECTORS * LANES;
// Accumulators, one row of B and a broadcast fill the registers: 28 + 3 of 32, 12 + 3 of 16; a product that is no
// FMA needs one register more.
#if defined(__AVX512F__)
constexpr int TILE_ROWS = 14;
#elif defined(__FMA__)
constexpr int TILE_ROWS = 6;
#else
constexpr int TILE_ROWS = 4;
#endif

constexpr int64_t LINE = 64;  // bytes of a cache line

// Rows of bytes to fetch into the second-level cache, a line at a time.
struct Ahead {
  const char* p;
  int64_t ld, width, rows;
  int64_t at;  // of the row at p

  void fetch() {
    __builtin_prefetch(p + at, 0, 2);
    at += LINE;
    const bool ends = at >= width;
    at = ends ? 0 : at, p += ends ? ld : 0, rows -= ends;
  }
};

// What the row tiles of a strip fetch for what comes after it: of A and of B, so many lines in each FETCH_DEPTH.
struct Fetches {
  Ahead next[2];
  int64_t lines[2];

  void step() {
    for (int i = 0; i < 2; ++i) {
      for (int64_t line = 0; line < lines[i] && next[i].rows > 0; ++line) next[i].fetch();
    }
  }
};

// So deep go multiply-adds between fetches, which cost nothing there; all of a tile's at once took 6 % of a product's
// time.
constexpr int64_t FETCH_DEPTH = 8;

enum class AOrder { rows, columns };
enum class Sum { assign, add, resume };  // c = ab; c = c + ab; c = the chain of FMAs that goes on from c

struct Tile {
  const real* a;  // (R, depth), rows lda apart; columns: (depth, R), likewise
  int64_t lda;
  int64_t panel_a;  // of columns that were copied, from row tile to row tile; 0: in place
  const real* b;    // (depth, STRIP), rows ldb apart; one such panel for each strip
  int64_t ldb, panel;
  real* strip;  // (depth, STRIP), receives a copy of b in tiles that pack
  int64_t depth;
  real* c;  // (R, W vectors)
  int64_t ldc;
  Sum sum;
  const Finish* finish;  // of sums that are complete, or nullptr
  int64_t row, col;      // in the block that it finishes
  Fetches* fetches;      // or nullptr
};
typedef void (*TileFunction)(const Tile&);

template <AOrder order, int W, int R, bool packs = false>
static void tile(const Tile& t) {
  vec sum[R][W] = {};
  if (t.sum == Sum::resume) {
#pragma GCC unroll 16
    for (int i = 0; i < R * W; ++i) sum[i / W][i % W] = load(t.c + i / W * t.ldc + i % W * LANES);
  }
  const real *a = t.a, *b = t.b;
  real* strip = t.strip;
  const int64_t lda = order == AOrder::rows ? t.lda : 1, next = order == AOrder::rows ? 1 : t.lda;
  const auto multiply_add = [&]() __attribute__((always_inline)) {
    vec y[W];
#pragma GCC unroll 16
    for (int w = 0; w < W; ++w) {
      y[w] = load(b + w / STRIP_VECTORS * t.panel + w % STRIP_VECTORS * LANES);
      if (packs) store(strip + w * LANES, y[w]);
    }
    strip += packs ? STRIP : 0;
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const vec x = splat(a[r * lda]);
#pragma GCC unroll 16
      for (int w = 0; w < W; ++w) sum[r][w] = fma<vec>(x, y[w], sum[r][w]);
    }
    a += next, b += t.ldb;
  };
  int64_t rest = t.depth;
  for (; t.fetches && rest > FETCH_DEPTH; rest -= FETCH_DEPTH) {
    t.fetches->step();
#pragma GCC unroll 1
    for (int64_t k = 0; k < FETCH_DEPTH; ++k) multiply_add();
  }
  for (; rest > 0; --rest) multiply_add();
  if (t.sum == Sum::add) {
#pragma GCC unroll 32
    for (int i = 0; i < R * W; ++i) sum[i / W][i % W] = load(t.c + i / W * t.ldc + i % W * LANES) + sum[i / W][i % W];
  }
  if (t.finish) {
    finish_sums(*t.finish, t.row, t.col, sum);
    if (!t.finish->keeps) return;
  }
#pragma GCC unroll 32
  for (int i = 0; i < R * W; ++i) store(t.c + i / W * t.ldc + i % W * LANES, sum[i / W][i % W]);
}

// The tile of 1 <= rows <= R rows and W vectors.
template <AOrder order, int W, int R, bool packs = false>
static TileFunction find_tile(int64_t rows) {
  if constexpr (R > 1) {
    if (rows < R) return find_tile<order, W, R - 1, packs>(rows);
  }
  return tile<order, W, R, packs>;
}

// Strips that a tile of these rows spans, to have 8 accumulators.
constexpr int WIDEST = 4;
static inline int64_t wide_strips(int64_t rows) { return rows > 3 ? 1 : rows > 1 ? 2 : WIDEST; }

// As many of them as so many columns hold, or one that they do not fill.
static inline int64_t group_strips(int64_t rows, int64_t columns) {
  int64_t strips = wide_strips(rows);
  while (strips > 1 && strips * STRIP > columns) strips /= 2;
  return strips;
}

// vectors: half a strip, or as many strips as wide_strips allows
template <AOrder order>
static TileFunction find_tile(int64_t rows, int64_t vectors) {
  if (vectors == 1) return find_tile<order, 1, TILE_ROWS>(rows);
  if (vectors == STRIP_VECTORS) return find_tile<order, STRIP_VECTORS, TILE_ROWS>(rows);
  if (vectors == 2 * STRIP_VECTORS) return find_tile<order, 2 * STRIP_VECTORS, 3>(rows);
  return tile<order, WIDEST * STRIP_VECTORS, 1>;
}

DLCORE_END
