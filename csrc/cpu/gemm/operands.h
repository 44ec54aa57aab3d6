// SPDX-License-Identifier: Apache-2.0
// How the register tiles reach A and B: in place where that is fast, else through the workspace.
//
// Rows of A are read in place; columns of A (A^T B) are put in the order of the tiles. A strip of B is read in place
// where it is one already or few rows read it; else the first row tile copies it as it reads it (128x512x784, AVX2: 80
// GFLOP/s when copied before, 84 so), and a strip of B^T is transposed. Strips that fit the workspace are kept for the
// row chunks that follow. Columns and strips that stay in a first-level cache are read in place.
#pragma once
#include "../../backend.h"
#include "strip.h"

DLCORE_BEGIN

// At most so deep, a strip of B (16 KB) and the rows of A of a tile (6 KB) stay in a first-level cache of 32 KB.
constexpr int64_t DEPTH = 256;

// Rows of A so many bytes apart fall into one set of a first-level cache of 8 or 12 ways, so a tile of more rows copies
// them: 12 rows, 8 ways, 256x1024x1024, AVX2, 40 GFLOP/s in place, 62 copied. Tiles of 6 rows lose 1 % by copying.
constexpr int64_t SAME_SET = 4096, SET_ROWS = 8;
constexpr int64_t COPY_LD = DEPTH + LANES;

// Rows of so few bytes together are read where they are: 32x32x32, AVX2, A^T B, 1.04 us when copied, 0.93 so.
constexpr int64_t NEAR_BYTES = 16 << 10;
static inline bool is_near(int64_t rows, int64_t ld) { return rows * ld * int64_t(sizeof(real)) <= NEAR_BYTES; }

constexpr int64_t PANEL_ROW = (TILE_ROWS + LANES - 1) / LANES * LANES;

struct Operands {
  Role role;
  const View *a, *b;
  const real *a_data, *b_data;
};

// A part of C and of the depth.
struct Area {
  int64_t row, col, rows, cols;
  int64_t k, depth;
};

// Row tiles of an area, equal to within one row.
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

constexpr int64_t ROW_PANELS = CHUNK_ROWS / TILE_ROWS + 1;

// Strips of B are kept in so much memory, half of a second-level cache, in so many slots.
constexpr int64_t KEPT = (512 << 10) / int64_t(sizeof(real)), SLOTS = 64;

struct Buffers {
  real a[ROW_PANELS * (DEPTH * TILE_ROWS + PANEL_ROW)];
  real b[KEPT];
  int64_t row, k, depth;  // where in A the copy begins that is in a, and its depth; depth 0: none
  int64_t col[SLOTS];     // the column block whose strips are in a slot of b; -1: none
};
static_assert(CHUNK_ROWS * COPY_LD <= ROW_PANELS * (DEPTH * TILE_ROWS + PANEL_ROW), "");
static_assert(WIDEST * DEPTH * STRIP <= KEPT, "");

// Where the strips of an area go, panel elements apart, or are already.
struct Strips {
  real* to;
  int64_t panel;
  bool made, kept;
};

// a (depth, rows) -> for each row tile a panel (depth, TILE_ROWS) and PANEL_ROW to spare. Vectors are stored whole: the
// next row overwrites what is too much.
static void pack_columns(const Operands& o, const Area& area, const RowTiles& tiles, real* to) {
  const int64_t ld = o.a->ld, limit = o.a->cols - area.row, panel = area.depth * TILE_ROWS + PANEL_ROW;
  const real* a = o.a_data + area.k * ld + area.row;
  int64_t whole = tiles.count;
  while (whole > 0 && tiles.begin[whole - 1] + PANEL_ROW > limit) --whole;
  for (int64_t k = 0; k < area.depth; ++k, a += ld, to += TILE_ROWS) {
    for (int64_t i = 0; i < whole; ++i) {
      for (int64_t r = 0; r < PANEL_ROW; r += LANES) store(to + i * panel + r, load(a + tiles.begin[i] + r));
    }
    for (int64_t i = whole; i < tiles.count; ++i) {
      for (int64_t r = 0; r < PANEL_ROW; r += LANES) {
        const int64_t rest = max(0, min(LANES, limit - tiles.begin[i] - r));
        store(to + i * panel + r, load_partial(a + tiles.begin[i] + r, rest));
      }
    }
  }
}

// a (rows, depth) -> the same with rows COPY_LD apart
static void copy_rows(const Operands& o, const Area& area, const RowTiles&, real* to) {
  const real* a = o.a_data + area.row * o.a->ld + area.k;
  for (int64_t r = 0; r < area.rows; ++r) {
    __builtin_memcpy(to + r * COPY_LD, a + r * o.a->ld, area.depth * sizeof(real));
  }
}

// Points t at A as the first row tile reads it. A copy serves the blocks of C beside each other: A^T B, 256x256x256,
// AVX2, 77 GFLOP/s when copied for each, 81 so.
static void find_rows(const Operands& o, const Area& area, const RowTiles& tiles, Tile* t, Buffers* to) {
  const bool columns = o.role == Role::tn;
  t->lda = o.a->ld, t->panel_a = 0;
  t->a = o.a_data + (columns ? area.k * t->lda + area.row : area.row * t->lda + area.k);
  if (columns && is_near(area.depth, t->lda)) return;
  if (!columns && (tiles.rows(0) <= SET_ROWS || o.a->ld * int64_t(sizeof(real)) % SAME_SET != 0)) return;
  if (to->row != area.row || to->k != area.k || to->depth != area.depth) {
    (columns ? pack_columns : copy_rows)(o, area, tiles, to->a);
    to->row = area.row, to->k = area.k, to->depth = area.depth;
  }
  t->a = to->a;
  t->lda = columns ? TILE_ROWS : COPY_LD;
  if (columns) t->panel_a = area.depth * TILE_ROWS + PANEL_ROW;
}

// Points t at the strips of the area: at most WIDEST, whole ones or the first half of one.
static void find_strips(const Operands& o, const Area& area, int64_t row_tiles, Tile* t, const Strips& strips) {
  const int64_t k = o.b->rows, ldb = o.b->ld;
  t->ldb = STRIP, t->strip = nullptr;
  if (o.b->layout == Layout::strips) {
    t->b = o.b_data + area.col * k + area.k * STRIP, t->panel = k * STRIP;
    return;
  }
  const bool transposed = o.role == Role::nt;
  const real* b = transposed ? o.b_data + area.col * ldb + area.k : o.b_data + area.k * ldb + area.col;
  if (!strips.made && !transposed && area.cols % STRIP == 0) {
    t->b = b, t->ldb = ldb, t->panel = STRIP;
    if (row_tiles > 1 && (strips.kept || !is_near(area.depth, ldb))) t->strip = strips.to;
    return;
  }
  t->b = strips.to, t->panel = strips.panel;
  real* to = strips.to;
  for (int64_t c = 0; !strips.made && c < area.cols; c += STRIP, to += strips.panel) {
    const int64_t width = min(STRIP, area.cols - c);
    if (transposed) {
      transpose_strip(b + c * ldb, ldb, area.depth, width, to);
    } else {
      copy_strip(b + c, ldb, area.depth, width, to);
    }
  }
}

DLCORE_END
