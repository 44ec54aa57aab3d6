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
  for (int64_t k = 0; k < t.depth; ++k, a += next, b += t.ldb) {
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
  }
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

// vectors: half a strip, or as many strips as wide_strips allows
template <AOrder order>
static TileFunction find_tile(int64_t rows, int64_t vectors) {
  if (vectors == 1) return find_tile<order, 1, TILE_ROWS>(rows);
  if (vectors == STRIP_VECTORS) return find_tile<order, STRIP_VECTORS, TILE_ROWS>(rows);
  if (vectors == 2 * STRIP_VECTORS) return find_tile<order, 2 * STRIP_VECTORS, 3>(rows);
  return tile<order, WIDEST * STRIP_VECTORS, 1>;
}

DLCORE_END
