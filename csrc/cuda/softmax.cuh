// SPDX-License-Identifier: Apache-2.0
// max and sum of exp(x - max) of a row, by a warp; and the tile exp(x - max) factor, of the rows' max and factor in
// scratch.
#pragma once
#include "../math/functions.h"
#include "chain.cuh"

DLCORE_BEGIN

struct RowScale {
  real max, factor;
};

// In scratch after the chain's.
DLCORE_HD int64_t row_scales_offset(const Instruction& in) {
  return chain_reduces(in) ? partials_before(in, in.chain + in.stage_count) * int64_t(sizeof(real)) : 0;
}
__device__ inline RowScale* row_scales(const Instruction& in) {
  return scratch_at<RowScale>(in, row_scales_offset(in));
}
inline int64_t row_scales_scratch(const Instruction& in) {
  return row_scales_offset(in) + round_up(in.rows * int64_t(sizeof(RowScale)), ALIGNMENT);
}

__device__ inline real row_max(const real* x, int64_t cols) {
  real greatest = -INF;
  along_row(x, cols, [&](int64_t, real v) { greatest = max(greatest, v); });
  return warp_reduce(greatest, [](real a, real b) { return max(a, b); });
}

__device__ inline real sum_of_exponentials(const real* x, int64_t cols, real greatest) {
  real sum = 0;
  along_row(x, cols, [&](int64_t, real v) { sum += exp_(v - greatest); });
  return warp_sum(sum);
}

__device__ inline void load_exponentials(const Instruction& in, Tile& t) {
  load_tile(in.operands[0], t);
  DLCORE_UNROLL(4)
  for (int r = 0; r < SIDE; ++r) {
    const RowScale row = row_scales(in)[min(t.row + r, in.rows - 1)];
    DLCORE_UNROLL(4)
    for (int c = 0; c < SIDE; ++c) t.v[r][c] = exp_(t.v[r][c] - row.max) * row.factor;
  }
}

DLCORE_END
