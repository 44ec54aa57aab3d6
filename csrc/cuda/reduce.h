// SPDX-License-Identifier: Apache-2.0
// Where the reductions of a chain keep the results of chunks of rows: at the beginning of the instruction's scratch,
// or, of a single chunk, where they belong. The merge of several chunks is the last phase of a kernel.
#pragma once
#include "kernels.h"

DLCORE_BEGIN

DLCORE_HD bool is_reduction(const Stage& s) {
  return s.kind == StageKind::sum || s.kind == StageKind::dot || s.kind == StageKind::moments;
}

DLCORE_HD bool has_reduction(const Instruction& in) {
  for (int32_t i = 0; i < in.stage_count; ++i)
    if (is_reduction(in.chain[i])) return true;
  return false;
}

DLCORE_HD int64_t chunk_count(const Instruction& in) { return ceil_div(in.rows, CHUNK_ROWS); }
DLCORE_HD bool chain_reduces(const Instruction& in) { return chunk_count(in) > 1 && has_reduction(in); }
DLCORE_HD int64_t partial_cols(const Instruction& in) { return round_up(in.cols, COLUMN_ALIGN); }
DLCORE_HD int64_t results(const Stage& s) { return s.kind == StageKind::moments ? 2 : 1; }

// Reals of the reductions before a stage, or of all.
DLCORE_HD int64_t partials_before(const Instruction& in, const Stage* end) {
  int64_t count = 0;
  for (const Stage* s = in.chain; s != end; ++s) count += is_reduction(*s) ? results(*s) : 0;
  return count * chunk_count(in) * partial_cols(in);
}

inline int64_t chain_scratch(const Instruction& in) {
  return chain_reduces(in) ? partials_before(in, in.chain + in.stage_count) * int64_t(sizeof(real)) : 0;
}

inline int64_t merge_items(const Instruction& in) { return ceil_div(in.cols, COLUMN_ALIGN); }
inline int32_t chained_phases(const Instruction& in) { return chain_reduces(in) ? 2 : 1; }

// Merges the chunks of every reduction of the chain, in order.
void launch_merge(const Launch& launch);

DLCORE_END
