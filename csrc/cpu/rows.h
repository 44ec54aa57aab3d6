// SPDX-License-Identifier: Apache-2.0
// What kernels that walk along rows share: the edge of a row, and chunks of rows.
#pragma once
#include "stage.h"

DLCORE_BEGIN

// Rows that a kernel takes at a time: statistics, then the chain over whole rows while they are in cache.
inline int64_t group_rows(const Instruction& instruction) {
  if (has_moments(instruction)) return CHUNK_ROWS;
  return max(4, min(CHUNK_ROWS, SLAB_ELEMENTS / round_up(instruction.cols, COLUMN_ALIGN)));
}

// x inside the row, the other beyond its edge
inline vec within(vec x, Whole, vec) { return x; }
inline vec within(vec x, Part edge, vec other) { return select(lane_numbers() < integer(edge.n), x, other); }

inline bool any(ivec mask) {
  integer lanes = 0;
  for (int64_t i = 0; i < LANES; ++i) lanes |= mask[i];
  return lanes != 0;
}

inline int64_t chunk_count(const Instruction& instruction) { return ceil_div(instruction.rows, CHUNK_ROWS); }

inline int64_t chunk_rows(const Instruction& instruction, int64_t chunk) {
  return min(CHUNK_ROWS, instruction.rows - chunk * CHUNK_ROWS);
}

// The first columns of a group of rows of a chunk, `row` rows into it.
inline Block first_block(const Instruction& instruction, int64_t chunk, int64_t row, char* workspace) {
  Block block;
  block.v = reinterpret_cast<real*>(workspace);
  block.row = chunk * CHUNK_ROWS + row;
  block.col = 0;
  block.rows = min(group_rows(instruction), chunk_rows(instruction, chunk) - row);
  block.ld = slab_columns(block.rows);
  block.cols = min(block.ld, instruction.cols);
  return block;
}

// Moves to the next columns; false when there are none.
inline bool next_block(const Instruction& instruction, Block& block) {
  block.col += block.cols;
  block.cols = min(block.ld, instruction.cols - block.col);
  return block.cols > 0;
}

DLCORE_END
