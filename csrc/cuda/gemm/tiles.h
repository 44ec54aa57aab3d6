// SPDX-License-Identifier: Apache-2.0
// How a product of bf16 terms is cut: tiles of C, their order, splits of the depth, and the model that chooses among
// them. Functions of the shape alone, for every kernel that multiplies parts.
#pragma once
#include "../../math/scalar.h"

DLCORE_BEGIN

constexpr int64_t STAGE_DEPTH = 32;  // what goes through shared memory at a time

struct TileSize {
  int64_t rows, cols;
};
// 64x256 accumulators and twice those of the sums do not fit into registers, so the last is for one term.
constexpr TileSize TILE_SIZES[] = {{64, 64}, {128, 128}, {128, 256}};
constexpr int32_t tile_count(int64_t terms) { return terms == 1 ? 3 : 2; }

struct TermsCut {
  int32_t tile;                 // of TILE_SIZES
  int64_t down, across;         // tiles of C
  int64_t splits, split_depth;  // of each but the last
};

// A multiprocessor of a large GPU, of which there are so many: multiplications, bytes from the second-level cache and
// from shared memory in a cycle; cycles to start a block, to take 64 x 64 elements through a chain, and to launch once
// more. Close to an A100's and an H100's; only their ratios count, and a GPU has yet to tell them.
constexpr int64_t MULTIPROCESSORS = 128, MULTIPLY_RATE = 1024, CACHE_RATE = 48, SHARED_RATE = 128;
constexpr int64_t START = 1500, CHAIN = 600, LAUNCH = 4000;
constexpr int64_t LEAST_SPLIT = 256, MOST_SPLITS = 32;

inline int64_t largest(int64_t a, int64_t b, int64_t c) { return max(a, max(b, c)); }

// Of so much depth of a tile. A warp loads half of the rows and a quarter of the columns.
inline int64_t tile_cycles(const TileSize& tile, int64_t terms, int64_t parts, int64_t depth) {
  const int64_t bytes = 2 * parts * depth;
  return largest(tile.rows * tile.cols * terms * depth / MULTIPLY_RATE, (tile.rows + tile.cols) * bytes / CACHE_RATE,
                 (4 * tile.rows + 2 * tile.cols) * bytes / SHARED_RATE);
}

inline int64_t cut_cycles(int64_t m, int64_t n, int64_t terms, int64_t parts, const TermsCut& c) {
  const TileSize& tile = TILE_SIZES[c.tile];
  const int64_t chain = tile.rows * tile.cols / 4096 * CHAIN;
  const int64_t waves = ceil_div(c.down * c.across * c.splits, MULTIPROCESSORS);
  const int64_t multiply = waves * (START + tile_cycles(tile, terms, parts, c.split_depth) + chain);
  const int64_t moved = 2 * c.splits * m * n * int64_t(sizeof(float));  // partial results, written and read
  return multiply + (c.splits > 1 ? LAUNCH + moved / (MULTIPROCESSORS * CACHE_RATE) : 0);
}

inline TermsCut terms_cut(int64_t m, int64_t n, int64_t k, int64_t terms, int64_t parts) {
  TermsCut best = {};
  int64_t least = INT64_MAX;
  for (int32_t tile = 0; tile < tile_count(terms); ++tile) {
    for (int64_t count = 1; count <= max(1, min(MOST_SPLITS, k / LEAST_SPLIT)); ++count) {
      TermsCut c = {tile, ceil_div(m, TILE_SIZES[tile].rows), ceil_div(n, TILE_SIZES[tile].cols), 0, 0};
      c.split_depth = round_up(ceil_div(k, count), STAGE_DEPTH), c.splits = ceil_div(k, c.split_depth);
      const int64_t cycles = cut_cycles(m, n, terms, parts, c);
      if (cycles < least) least = cycles, best = c;
    }
  }
  return best;
}

// Blocks beside each other share operands in the second-level cache: they go down BAND tiles, then to the next column.
constexpr int64_t BAND = 8;

struct TilePlace {
  int64_t down, across, split;
};

DLCORE_HD TilePlace tile_place(const TermsCut& c, int64_t block) {
  const int64_t tiles = c.down * c.across, split = block / tiles, tile = block % tiles;
  const int64_t first = tile / (BAND * c.across) * BAND, rows = min(BAND, c.down - first);
  const int64_t inside = tile - first * c.across;
  return {first + inside % rows, inside / rows, split};
}

DLCORE_END
