// SPDX-License-Identifier: Apache-2.0
// What kernels that walk along rows share: the edge of a row, and chunks of rows.
#pragma once
#include "stage.h"

DLCORE_BEGIN

// Of a block whose rows are a chunk: it stays in the first-level cache, or near, while its chain runs.
constexpr int64_t BLOCK_COLUMNS = 2 * COLUMN_ALIGN;

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

DLCORE_END
