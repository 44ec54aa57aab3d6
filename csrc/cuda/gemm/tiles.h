// SPDX-License-Identifier: Apache-2.0
// How a product of bf16 terms is cut: tiles of C, their order, splits of the depth, and the model that chooses among
// them. Functions of the shape alone, for every kernel that multiplies parts.
#pragma once
#include "../../math/scalar.h"

DLCORE_BEGIN

struct TileSize {
  int64_t rows, cols;
};

// Kernels that multiply parts.
struct Cores {
  TileSize tiles[3];               // the last for one term: twice its sums do not fit into registers
  int64_t stage_depth;             // what goes through shared memory at a time
  int64_t stage_cycles;            // to wait for it and for its sums
  int64_t rate;                    // multiplications in a cycle of a multiprocessor
  int64_t reads_rows, reads_cols;  // of a row and of a column of a tile from shared memory,
  bool each_term;                  // for each term, or for each part
  bool stays;                      // a block takes one tile after another
};
// mma: a warp loads half of the rows and a quarter of the columns. wgmma: a warpgroup reads half of the rows and all
// columns, and past registers, so for each term.
constexpr Cores MMA = {{{64, 64}, {128, 128}, {128, 256}}, 32, 0, 1024, 4, 2, false, false};
constexpr Cores WGMMA = {{{128, 64}, {128, 128}, {128, 256}}, 64, 64, 2048, 1, 2, true, true};
constexpr int32_t tile_count(int64_t terms) { return terms == 1 ? 3 : 2; }

struct TermsCut {
  int32_t tile;                 // of the kernel
  int64_t down, across;         // tiles of C
  int64_t splits, split_depth;  // of each but the last
};

// A multiprocessor of a large GPU, of which there are so many: bytes from the second-level cache and from shared memory
// in a cycle; cycles to start a block, to take 64 x 64 elements through a chain, and to launch once more. Close to an
// A100's and an H100's; only their ratios count, and a GPU has yet to tell them.
constexpr int64_t MULTIPROCESSORS = 128, CACHE_RATE = 48, SHARED_RATE = 128;
constexpr int64_t START = 1500, CHAIN = 600, LAUNCH = 4000;
constexpr int64_t LEAST_SPLIT = 256, MOST_SPLITS = 32;

inline int64_t largest(int64_t a, int64_t b, int64_t c) { return max(a, max(b, c)); }

// Of so much depth of a tile.
inline int64_t tile_cycles(const Cores& cores, const TileSize& tile, int64_t terms, int64_t parts, int64_t depth) {
  const int64_t loaded = 2 * parts * depth, read = 2 * (cores.each_term ? terms : parts) * depth;
  const int64_t busy =
      largest(tile.rows * tile.cols * terms * depth / cores.rate, (tile.rows + tile.cols) * loaded / CACHE_RATE,
              (cores.reads_rows * tile.rows + cores.reads_cols * tile.cols) * read / SHARED_RATE);
  return busy + ceil_div(depth, cores.stage_depth) * cores.stage_cycles;
}

inline int64_t cut_cycles(const Cores& cores, int64_t m, int64_t n, int64_t terms, int64_t parts, const TermsCut& c) {
  const TileSize& tile = cores.tiles[c.tile];
  const int64_t chain = tile.rows * tile.cols / 4096 * CHAIN;
  const int64_t waves = ceil_div(c.down * c.across * c.splits, MULTIPROCESSORS);
  const int64_t starts = (cores.stays ? 1 : waves) * START;
  const int64_t multiply = starts + waves * (tile_cycles(cores, tile, terms, parts, c.split_depth) + chain);
  const int64_t moved = 2 * c.splits * m * n * int64_t(sizeof(float));  // partial results, written and read
  return multiply + (c.splits > 1 ? LAUNCH + moved / (MULTIPROCESSORS * CACHE_RATE) : 0);
}

inline TermsCut terms_cut(const Cores& cores, int64_t m, int64_t n, int64_t k, int64_t terms, int64_t parts) {
  TermsCut best = {};
  int64_t least = INT64_MAX;
  for (int32_t tile = 0; tile < tile_count(terms); ++tile) {
    for (int64_t count = 1; count <= max(1, min(MOST_SPLITS, k / LEAST_SPLIT)); ++count) {
      TermsCut c = {tile, ceil_div(m, cores.tiles[tile].rows), ceil_div(n, cores.tiles[tile].cols), 0, 0};
      c.split_depth = round_up(ceil_div(k, count), cores.stage_depth), c.splits = ceil_div(k, c.split_depth);
      const int64_t cycles = cut_cycles(cores, m, n, terms, parts, c);
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
