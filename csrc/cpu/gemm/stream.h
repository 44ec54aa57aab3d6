// SPDX-License-Identifier: Apache-2.0
// Products of few rows, bound by reading a far B once: rows of it in slices, or strips of it from end to end.
//
// Both cut the depth at the same places and add in the same order.
#pragma once
#include "block.h"

DLCORE_BEGIN

// Up to so many rows, rows of B are read in slices: 1x4096x4096, AVX2, one core, 30 GB/s of 42, against 9 in
// columns of a strip; 20 where a slice has but 512 columns. Slices of 2, 4 or 16 rows: 0.6, 0.8 and 0.8 of the speed of
// 8 (a net of 100 MB of weights, two cores). STREAM_SIZE: elements of C.
constexpr int64_t STREAM_ROWS = 4, STREAM_SIZE = 8192, SLICE = 8;

// to (rows, cols) += from, in whole vectors
static void add_rows(real* to, int64_t to_ld, const real* from, int64_t from_ld, int64_t rows, int64_t cols) {
  for (int64_t r = 0; r < rows; ++r, to += to_ld, from += from_ld) {
    for (int64_t c = 0; c < cols; c += LANES) store(to + c, load(to + c) + load(from + c));
  }
}

// All strips of few rows, SLICE rows of B at a time. t: the first strip
template <AOrder order>
static void run_slices(const Area& area, Tile t) {
  const real *a = t.a, *b = t.b;
  real* c = t.c;
  for (int64_t k = 0; k < area.depth; k += SLICE) {
    t.a = a + k * (order == AOrder::rows ? 1 : t.lda);
    t.depth = min(SLICE, area.depth - k);
    t.sum = k > 0 ? Sum::resume : Sum::assign;
    for (int64_t col = 0, strips; col < area.cols; col += strips * STRIP) {
      strips = group_strips(area.rows, area.cols - col);
      t.b = b + k * t.ldb + col, t.c = c + col;
      find_tile<order>(area.rows, strips * STRIP_VECTORS)(t);
    }
  }
}

// multiply for at most STREAM_ROWS rows and STREAM_SIZE elements, where B is row major and far. sum: the size of t.c
static void stream(const Operands& o, Area area, Tile t, real* sum, Buffers* buffers) {
  Area edge = area;
  edge.cols = area.cols % STRIP, area.cols -= edge.cols, edge.col += area.cols;
  Tile part = t;
  find_rows(o, area, RowTiles(area.rows), &part, buffers);
  part.b = o.b_data + area.k * o.b->ld + area.col, part.ldb = o.b->ld, part.panel = STRIP;
  if (t.sum == Sum::add) part.c = sum;
  if (o.role == Role::tn) {
    run_slices<AOrder::columns>(area, part);
  } else {
    run_slices<AOrder::rows>(area, part);
  }
  if (t.sum == Sum::add) add_rows(t.c, t.ldc, sum, t.ldc, area.rows, area.cols);
  t.c += area.cols;
  if (edge.cols > 0) multiply(o, edge, t, AreaFetches{}, Strips{}, buffers);
}

// A strip that is alone is fetched so many bytes ahead where B has so many that it comes from memory; beside others it
// comes as fast without, and from a third-level cache faster. Without and with, one core, AVX2: 4 rows through 100 MB
// of weights 5.4 and 3.8 ms, through 12 MB 0.32 and 0.45.
constexpr int64_t STREAM_AHEAD = 16 << 10, STREAM_FAR = 8 << 20;

// Through 100 MB of weights and 12 MB, AVX2, one core, strip by strip and as other products: 8 rows 6.2 and 7.3 ms,
// 0.63 and 0.69; 12 rows 7.9 and 9.4, 0.91 and 0.88; 16 rows 10.6 and 10.7, 1.3 and 1.2.
constexpr int64_t STREAM_STRIPS_ROWS = 12;

// The depth: splits, each a sum of its depth blocks, are added in order.
struct DepthCuts {
  int64_t all, split, block;
};

// The fetches of the strip of t alone, in so many row tiles.
static Fetches strip_ahead(const Tile& t, int64_t tiles) {
  const int64_t bytes = t.depth * STRIP * int64_t(sizeof(real)), steps = max(1, (t.depth - 1) / FETCH_DEPTH);
  const Ahead next = {reinterpret_cast<const char*>(t.b) + STREAM_AHEAD, 0, bytes, 1, 0};
  return {{next, {}}, {ceil_div(bytes / LINE, tiles * steps), 0}};
}

// t.c (rows, width) = A B of a group of strips over the whole depth. sum: room for it
static void stream_group(const Tile& t, const RowTiles& tiles, const DepthCuts& depth, bool fetched, int64_t rows,
                         int64_t width, real* sum) {
  const bool one_block = depth.split <= depth.block;
  for (int64_t split = 0; split < depth.all; split += depth.split) {
    const int64_t end = min(depth.all, split + depth.split);
    const bool apart = split > 0 && !one_block;
    Tile part = t;
    if (apart) part.c = sum, part.ldc = width;
    part.sum = split > 0 && one_block ? Sum::add : Sum::assign;
    for (int64_t at = split; at < end; at += depth.block, part.sum = Sum::add) {
      part.a = t.a + at, part.b = t.b + at * STRIP, part.depth = min(depth.block, end - at);
      Fetches fetches = strip_ahead(part, tiles.count);
      part.fetches = fetched ? &fetches : nullptr;
      run_tiles<AOrder::rows>(part, tiles, width / LANES);
    }
    if (apart) add_rows(t.c, t.ldc, sum, width, rows, width);
  }
}

// Whether stream_strips is for so many rows of A: those of two tiles, which it reads in place.
static bool streams_strips(int64_t rows) { return rows <= STREAM_STRIPS_ROWS && RowTiles(rows).rows(0) <= SET_ROWS; }

// block = A B for few rows, B in strips: each group of them is read from its first row to its last, without a break.
// One row through 100 MB of weights, float32, one core, AVX2: 3.0 ms, 4.1 where each split of the depth was an item.
// sum: room for a group
static void stream_strips(const Operands& o, const Block& block, const DepthCuts& depth, real* sum) {
  const bool far = o.b->rows * o.b->cols * int64_t(sizeof(real)) >= STREAM_FAR;
  const RowTiles tiles(block.rows);
  Tile t = {};
  t.a = o.a_data + block.row * o.a->ld, t.lda = o.a->ld;
  t.ldb = STRIP, t.panel = depth.all * STRIP, t.ldc = block.ld;
  for (int64_t col = 0, strips; col < block.cols; col += strips * STRIP) {
    strips = group_strips(block.rows, block.cols - col);
    const int64_t width = round_up(min(strips * STRIP, block.cols - col), LANES);
    t.b = o.b_data + (block.col + col) * depth.all, t.c = block.v + col;
    stream_group(t, tiles, depth, far && strips == 1, block.rows, width, sum);
  }
}

DLCORE_END
