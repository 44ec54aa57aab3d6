// SPDX-License-Identifier: Apache-2.0
// A block of C += the block of A (rows, depth) times the block of B (depth, cols), out of the first two caches.
//
// For each strip of B all row tiles run. The strip is read in place where it is one already or few rows read it; else
// the first row tile copies it to the workspace as it reads it, and a strip of B^T is transposed there. Rows of A are
// read in place, columns of A (A^T B) are put in the order of the tiles first.
#pragma once
#include "../../backend.h"
#include "strip.h"

DLCORE_BEGIN

// A strip of B (16 KB) and the rows of A of a tile (6 KB) stay in a first-level cache of 32 KB.
constexpr int64_t DEPTH = 256;
constexpr int64_t PANEL_STEP = (TILE_ROWS + LANES - 1) / LANES * LANES;

struct Operands {
  Role role;
  const View *a, *b;
  const real *a_data, *b_data;
};

// What one call of multiply takes of A, B and C.
struct Area {
  int64_t row, col, rows, cols;  // of C
  int64_t k, depth;
};

// Bytes to fetch into the second-level cache.
struct Ahead {
  const char* p;
  int64_t ld, width, rows;  // bytes, bytes, rows to go
  int64_t at;               // bytes into the row
};

// Up to so many rows, rows of B are read in slices: 1x4096x4096, AVX2, 19 GB/s against 9.
constexpr int64_t STREAM_ROWS = 4, STREAM_COLUMNS = 512, SLICE = 8;

struct Buffers {
  real c[STREAM_ROWS * STREAM_COLUMNS];
  real a[(CHUNK_ROWS / TILE_ROWS + 1) * (DEPTH * TILE_ROWS + PANEL_STEP)];
  real b[4 * DEPTH * STRIP];
};

// Row tiles of a block, equal to within one row.
struct RowTiles {
  int64_t count;
  int64_t begin[CHUNK_ROWS / TILE_ROWS + 2];

  explicit RowTiles(int64_t rows) {
    count = ceil_div(rows, TILE_ROWS);
    const int64_t each = rows / count, longer = rows % count;
    for (int64_t i = 0; i <= count; ++i) begin[i] = i * each + min(i, longer);
  }
  int64_t rows(int64_t i) const { return begin[i + 1] - begin[i]; }
};

static inline void fetch(Ahead* next, int64_t lines) {
  for (; lines > 0 && next->rows > 0; --lines) {
    __builtin_prefetch(next->p + next->at, 0, 2);
    next->at += 64;
    if (next->at >= next->width) next->at = 0, next->p += next->ld, --next->rows;
  }
}

static Ahead ahead_a(const Operands& o, const Area& area) {
  const int64_t ld = o.a->ld, unit = sizeof(real);
  if (o.role == Role::tn) {
    return {reinterpret_cast<const char*>(o.a_data + area.k * ld + area.row), ld * unit, area.rows * unit, area.depth, 0};
  }
  return {reinterpret_cast<const char*>(o.a_data + area.row * ld + area.k), ld * unit, area.depth * unit, area.rows, 0};
}

static Ahead ahead_b(const Operands& o, const Area& area) {
  const int64_t ld = o.b->ld, unit = sizeof(real);
  if (o.b->layout == Layout::strips) {
    return {reinterpret_cast<const char*>(o.b_data + area.col * o.b->rows + area.k * STRIP), o.b->rows * STRIP * unit,
            area.depth * STRIP * unit, ceil_div(area.cols, STRIP), 0};
  }
  if (o.role == Role::nt) {
    return {reinterpret_cast<const char*>(o.b_data + area.col * ld + area.k), ld * unit, area.depth * unit, area.cols, 0};
  }
  return {reinterpret_cast<const char*>(o.b_data + area.k * ld + area.col), ld * unit, area.cols * unit, area.depth, 0};
}

// Columns of A, a (depth, rows) -> for each row tile (depth, TILE_ROWS) and PANEL_STEP to spare. Vectors are stored
// whole, and the next row overwrites what is too much.
static void pack_columns(const Operands& o, const Area& area, const RowTiles& tiles, real* to) {
  const int64_t ld = o.a->ld, limit = o.a->cols - area.row, panel = area.depth * TILE_ROWS + PANEL_STEP;
  const real* a = o.a_data + area.k * ld + area.row;
  int64_t whole = tiles.count;
  while (whole > 0 && tiles.begin[whole - 1] + PANEL_STEP > limit) --whole;
  for (int64_t k = 0; k < area.depth; ++k, a += ld, to += TILE_ROWS) {
    for (int64_t i = 0; i < whole; ++i) {
      for (int64_t r = 0; r < PANEL_STEP; r += LANES) store(to + i * panel + r, load(a + tiles.begin[i] + r));
    }
    for (int64_t i = whole; i < tiles.count; ++i) {
      for (int64_t r = 0; r < PANEL_STEP; r += LANES) {
        const int64_t rest = max(0, min(LANES, limit - tiles.begin[i] - r));
        store(to + i * panel + r, load_partial(a + tiles.begin[i] + r, rest));
      }
    }
  }
}

// Points t at the strips of area.
static void find_strips(const Operands& o, const Area& area, int64_t row_tiles, Tile* t, real* to) {
  const int64_t k = o.b->rows, ldb = o.b->ld;
  t->ldb = STRIP, t->strip = nullptr;
  if (o.b->layout == Layout::strips) {
    t->b = o.b_data + area.col * k + area.k * STRIP, t->panel = k * STRIP;
    return;
  }
  const bool transposed = o.role == Role::nt;
  const real* b = transposed ? o.b_data + area.col * ldb + area.k : o.b_data + area.k * ldb + area.col;
  if (!transposed && area.cols % STRIP == 0) {
    t->b = b, t->ldb = ldb, t->panel = STRIP;
    if (row_tiles > 1) t->strip = to;
    return;
  }
  t->b = to, t->panel = area.depth * STRIP;
  for (int64_t c = 0; c < area.cols; c += STRIP, to += t->panel) {
    const int64_t width = min(STRIP, area.cols - c);
    if (transposed) {
      transpose_strip(b + c * ldb, ldb, area.depth, width, to);
    } else {
      copy_strip(b + c, ldb, area.depth, width, to);
    }
  }
}

// What a strip, or the strips of a wide tile, share.
struct Pass {
  RowTiles tiles;
  int64_t vectors;
  Ahead next[2];  // A and B of the area that follows
  int64_t lines[2];  // to fetch with each row tile
};

// All row tiles. t.a and t.c are those of the first.
template <AOrder order>
static void run_tiles(Tile t, Pass* pass) {
  const RowTiles& tiles = pass->tiles;
  const int64_t longest = tiles.rows(0);
  const TileFunction run[2] = {find_tile<order>(longest, pass->vectors), find_tile<order>(max(1, longest - 1), pass->vectors)};
  const real* a = t.a;
  real* c = t.c;
  for (int64_t i = 0; i < tiles.count; ++i) {
    for (int operand = 0; operand < 2; ++operand) fetch(&pass->next[operand], pass->lines[operand]);
    const int64_t row = tiles.begin[i];
    t.a = order == AOrder::rows ? a + row * t.lda : a + i * (t.depth * TILE_ROWS + PANEL_STEP);
    t.c = c + row * t.ldc;
    if (t.strip) {
      find_tile<order, STRIP_VECTORS, TILE_ROWS, true>(longest)(t);
      t.b = t.strip, t.ldb = STRIP, t.strip = nullptr;
    } else {
      run[longest - tiles.rows(i)](t);
    }
  }
}

// t.c (rows, cols) = or += A B of the area, written in whole vectors; meanwhile what comes next is fetched.
static void multiply(const Operands& o, const Area& area, Tile t, const Ahead* ahead, Buffers* buffers) {
  Pass pass = {RowTiles(area.rows), 0, {ahead[0], ahead[1]}, {}};
  const int64_t passes = pass.tiles.count * ceil_div(area.cols, STRIP);
  int64_t lines[2];
  for (int i = 0; i < 2; ++i) lines[i] = ceil_div(ahead[i].rows * ceil_div(ahead[i].width, 64), passes);
  t.depth = area.depth;
  t.a = o.a_data + area.row * o.a->ld + area.k, t.lda = o.a->ld;
  if (o.role == Role::tn) {
    pack_columns(o, area, pass.tiles, buffers->a);
    t.a = buffers->a;
  }
  Area part = area;
  for (int64_t strips, end = area.col + area.cols; part.col < end; part.col += strips * STRIP, t.c += strips * STRIP) {
    strips = wide_strips(area.rows);
    while (strips > 1 && part.col + strips * STRIP > end) strips /= 2;
    part.cols = min(strips * STRIP, end - part.col);
    find_strips(o, part, pass.tiles.count, &t, buffers->b);
    pass.vectors = ceil_div(part.cols, LANES);
    for (int i = 0; i < 2; ++i) pass.lines[i] = strips * lines[i];
    if (o.role == Role::tn) {
      run_tiles<AOrder::packed>(t, &pass);
    } else {
      run_tiles<AOrder::rows>(t, &pass);
    }
  }
}

// The strips of few rows, with B read by whole rows, SLICE at a time, as memory likes it. t: of the first strip
template <AOrder order>
static void run_slices(const Area& area, Tile t) {
  const real *a = t.a, *b = t.b;
  real* c = t.c;
  for (int64_t k = 0; k < area.depth; k += SLICE) {
    t.a = a + k * (order == AOrder::rows ? 1 : TILE_ROWS);
    t.depth = min(SLICE, area.depth - k);
    t.sum = k > 0 ? Sum::resume : Sum::assign;
    for (int64_t col = 0, strips; col < area.cols; col += strips * STRIP) {
      strips = wide_strips(area.rows);
      while (col + strips * STRIP > area.cols) strips /= 2;
      t.b = b + k * t.ldb + col, t.c = c + col;
      find_tile<order>(area.rows, strips * STRIP_VECTORS)(t);
    }
  }
}

// multiply for at most STREAM_ROWS rows, C (rows, <= STREAM_COLUMNS) and B that lies far and in rows
static void stream(const Operands& o, Area area, Tile t, Buffers* buffers) {
  Area edge = area;
  edge.cols = area.cols % STRIP, area.cols -= edge.cols, edge.col += area.cols;
  Tile part = t;
  part.a = o.a_data + area.row * o.a->ld + area.k, part.lda = o.a->ld;
  part.b = o.b_data + area.k * o.b->ld + area.col, part.ldb = o.b->ld, part.panel = STRIP;
  if (t.sum == Sum::add) part.c = buffers->c;
  if (o.role == Role::tn) {
    pack_columns(o, area, RowTiles(area.rows), buffers->a);
    part.a = buffers->a;
    run_slices<AOrder::packed>(area, part);
  } else {
    run_slices<AOrder::rows>(area, part);
  }
  for (int64_t r = 0; t.sum == Sum::add && r < area.rows; ++r) {
    real *to = t.c + r * t.ldc, *from = part.c + r * t.ldc;
    for (int64_t c = 0; c < area.cols; c += LANES) store(to + c, load(to + c) + load(from + c));
  }
  const Ahead none[2] = {};
  t.c += area.cols;
  if (edge.cols > 0) multiply(o, edge, t, none, buffers);
}

DLCORE_END
