// SPDX-License-Identifier: Apache-2.0
// Where reductions over rows lie while a chunk is added, and the loop that adds to them.
#pragma once
#include "stage.h"

DLCORE_BEGIN

inline int64_t chunk_count(const Instruction& in) { return ceil_div(in.rows, CHUNK_ROWS); }
inline int64_t partial_cols(const Instruction& in) { return round_up(in.cols, COLUMN_ALIGN); }
inline int64_t results(const Stage& s) { return s.kind == StageKind::moments ? 2 : 1; }

// (chunks, results, partial_cols), after those of the reductions before it
inline real* partials(const Call& call, const Stage& s) {
  const Instruction& in = *call.instruction;
  real* p = at<real>(call, in.scratch);
  for (const Stage* before = in.chain; before != &s; ++before)
    if (is_reduction(*before)) p += chunk_count(in) * results(*before) * partial_cols(in);
  return p;
}

inline void write_columns(real* to, const real* from, int64_t cols) {
  for_columns(cols, [&](int64_t c, auto edge) { store(to + c, load(from + c), edge); });
}

// Where the results of the block's chunk belong, from its first column on: to where the merge reads them, or out.
inline real* chunk_result(const Call& call, const Stage& s, const View& out, int64_t which, const Block& b) {
  const Instruction& in = *call.instruction;
  if (!chain_reduces(in)) return at<real>(call, out) + b.col;
  return partials(call, s) + (b.row / CHUNK_ROWS * results(s) + which) * partial_cols(in) + b.col;
}

inline void clear(real* to, int64_t cols) {
  for (int64_t c = 0; c < cols; c += LANES) store(to + c, vec{});
}

// f(total) adds to the columns of a block, on from what the blocks above it in its chunk have left: there, where whole
// vectors may be written.
template <class F>
inline void accumulate(const Call& call, const Stage& s, const Block& b, F f) {
  alignas(ALIGNMENT) real room[SLAB_COLUMNS];
  real* to = chunk_result(call, s, s.out, 0, b);
  real* total = chain_reduces(*call.instruction) ? to : room;
  if (b.row % CHUNK_ROWS == 0) {
    clear(total, b.cols);
  } else if (total == room) {
    for_columns(b.cols, [&](int64_t c, auto edge) { store(room + c, load(to + c, edge)); });
  }
  f(total);
  if (total == room) write_columns(to, room, b.cols);
}

DLCORE_END
