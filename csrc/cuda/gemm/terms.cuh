// SPDX-License-Identifier: Apache-2.0
// What the kernels that multiply bf16 parts on tensor cores share: the order of parts, the way of sums from fragments
// into a chain, and the table's functions.
#pragma once
#include "splits.cuh"
#include "tiles.h"

DLCORE_BEGIN

enum Part { H, M, L };

// Rows 8 words further than a line of banks: the four threads of a row of a fragment write 8 words, four rows a line.
constexpr int SPREAD = int(TILE) + 8;
typedef real SpreadTile[TILE][SPREAD];

// A lane's sums of 16 x 8 of a tile of the chain at (row, col): v[0], v[1] of a row, v[2], v[3] of the row 8 below.
__device__ inline void spread_fragment(const float (&v)[4], int row, int col, SpreadTile& to) {
  const int down = row + lane_of() / 4, across = col + lane_of() % 4 * 2;
  *reinterpret_cast<float2*>(&to[down][across]) = make_float2(v[0], v[1]);
  *reinterpret_cast<float2*>(&to[down + 8][across]) = make_float2(v[2], v[3]);
}

// memory: of the chain, where the tile may lie
__device__ inline void finish_spread(const Instruction& in, const TermsCut& cut, int64_t split, const SpreadTile& from,
                                     Tile& t, ChainMemory& memory) {
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) load4(&from[t.row - t.first_row + r][t.col - t.first_col], SIDE, t.v[r]);
  finish_tile(in, {cut.splits, cut.split_depth}, split, t, memory);
}

inline int32_t terms_of(const Instruction& in) { return int32_t(in.numbers[1]); }

template <const Cores& cores>
inline TermsCut cut_of(const Instruction& in) {
  return terms_cut(cores, in.rows, in.cols, depth_of(in), terms_of(in), PARTS_OF_TERMS[terms_of(in)]);
}
inline int64_t blocks_of(const TermsCut& c) { return c.down * c.across * c.splits; }
inline Splits splits_of(const TermsCut& c) { return {c.splits, c.split_depth}; }

template <const Cores& cores>
inline int32_t terms_phases(const Instruction& in) {
  return split_phases(in, splits_of(cut_of<cores>(in)));
}

template <const Cores& cores>
inline int64_t terms_items(const Instruction& in, int32_t phase) {
  const TermsCut c = cut_of<cores>(in);
  return phase == 0 ? blocks_of(c) : later_items(in, splits_of(c), phase);
}

template <const Cores& cores>
inline int64_t terms_scratch(const Instruction& in) {
  return split_scratch(in, splits_of(cut_of<cores>(in)));
}

DLCORE_END
