// SPDX-License-Identifier: Apache-2.0
// A block of C = or += the block of A (rows, depth) times the block of B (depth, cols), out of the first two caches.
//
// For each strip of B, from the first-level cache, all row tiles run, with A from the second. What comes next is
// fetched into the second-level cache meanwhile, a line now and then.
#pragma once
#include "operands.h"

DLCORE_BEGIN

static Ahead ahead(const real* p, int64_t ld, int64_t width, int64_t rows) {
  const int64_t unit = sizeof(real);
  return {reinterpret_cast<const char*>(p), ld * unit, width * unit, rows, 0};
}

static int64_t lines(const Ahead& of) { return of.rows * ceil_div(of.width, LINE); }

static Ahead ahead_a(const Operands& o, const Area& area) {
  const int64_t ld = o.a->ld;
  if (o.role == Role::tn) return ahead(o.a_data + area.k * ld + area.row, ld, area.rows, area.depth);
  return ahead(o.a_data + area.row * ld + area.k, ld, area.depth, area.rows);
}

// The strips of an area that are read first. Whole rows of an area, a power of two apart, push each other out of the
// cache: A^T B, 4096x4096x512, AVX2, one core, 76 GFLOP/s, 79 strip by strip.
static Ahead ahead_b(const Operands& o, const Area& area) {
  const int64_t ld = o.b->ld, k = o.b->rows, cols = min(wide_strips(area.rows) * STRIP, area.cols);
  if (o.b->layout == Layout::strips) {
    return ahead(o.b_data + area.col * k + area.k * STRIP, k * STRIP, area.depth * STRIP, ceil_div(cols, STRIP));
  }
  if (o.role == Role::nt) return ahead(o.b_data + area.col * ld + area.k, ld, area.depth, cols);
  return ahead(o.b_data + area.k * ld + area.col, ld, cols, area.depth);
}

// t: the first row tile, with so many vectors
template <AOrder order>
static void run_tiles(Tile t, const RowTiles& tiles, int64_t vectors) {
  const int64_t longest = tiles.rows(0);
  const TileFunction run[2] = {find_tile<order>(longest, vectors), find_tile<order>(max(1, longest - 1), vectors)};
  const real* a = t.a;
  real* c = t.c;
  for (int64_t i = 0; i < tiles.count; ++i) {
    const int64_t row = tiles.begin[i];
    t.a = order == AOrder::rows ? a + row * t.lda : a + (t.panel_a > 0 ? i * t.panel_a : row);
    t.c = c + row * t.ldc, t.row = row;
    if (t.strip) {
      find_tile<order, STRIP_VECTORS, TILE_ROWS, true>(longest)(t);
      t.b = t.strip, t.ldb = STRIP, t.strip = nullptr;
    } else {
      run[longest - tiles.rows(i)](t);
    }
  }
}

// What is fetched during an area: of A what comes after it, of B strip after strip and the first ones after it.
struct AreaFetches {
  Ahead a;
  bool strips;
  Ahead after;
};

// t.c (rows, cols) = or += A B of the area, written in whole vectors. kept: where the strips of the area go to stay;
// to = nullptr: nowhere
static void multiply(const Operands& o, const Area& area, Tile t, const AreaFetches& fetched, const Strips& kept,
                     Buffers* buffers) {
  const RowTiles tiles(area.rows);
  const int64_t steps = tiles.count * ceil_div(area.depth, FETCH_DEPTH);
  Fetches fetches = {{fetched.a, {}}, {ceil_div(lines(fetched.a), steps * ceil_div(area.cols, STRIP)), 0}};
  t.depth = area.depth;
  find_rows(o, area, tiles, &t, buffers);
  Area part = area;
  for (int64_t strips, end = area.col + area.cols; part.col < end; part.col += strips * STRIP, t.c += strips * STRIP) {
    strips = group_strips(area.rows, end - part.col);
    part.cols = min(strips * STRIP, end - part.col);
    const int64_t at = t.col = part.col - area.col;
    const Strips to = kept.to ? Strips{kept.to + at / STRIP * kept.panel, kept.panel, kept.made, true}
                              : Strips{buffers->b, area.depth * STRIP, false, false};
    find_strips(o, part, tiles.count, &t, to);
    Area next = part;
    next.col += part.cols, next.cols = end - next.col;
    fetches.next[1] = next.cols == 0 ? fetched.after : fetched.strips ? ahead_b(o, next) : Ahead{};
    fetches.lines[1] = ceil_div(lines(fetches.next[1]), steps);
    t.fetches = fetches.next[0].rows + fetches.next[1].rows > 0 ? &fetches : nullptr;
    if (o.role == Role::tn) {
      run_tiles<AOrder::columns>(t, tiles, ceil_div(part.cols, LANES));
    } else {
      run_tiles<AOrder::rows>(t, tiles, ceil_div(part.cols, LANES));
    }
  }
}

DLCORE_END
