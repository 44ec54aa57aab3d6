// SPDX-License-Identifier: Apache-2.0
// Where C has few tiles the depth of a product is split: partial results, (splits, m, ld) in scratch behind those of
// the chain, are added in order by the phase that runs the chain. Shared by the kernels that multiply.
#pragma once
#include "../chain.cuh"

DLCORE_BEGIN

// Blocks that fill a large GPU; a split has so much depth at least.
constexpr int64_t FULL = 128, SPLIT_DEPTH = 256;

struct Splits {
  int64_t count, depth;  // depth of each but the last
};

DLCORE_HD Splits split_depth(int64_t k, int64_t count, int64_t align) {
  const int64_t depth = round_up(ceil_div(k, max(1, count)), align);
  return {ceil_div(k, depth), depth};
}

DLCORE_HD Role role_of(const Instruction& in) { return Role(int(in.numbers[0])); }
DLCORE_HD int64_t depth_of(const Instruction& in) {
  const View& a = in.operands[0];
  return role_of(in) == Role::tn ? a.rows : a.cols;
}

DLCORE_HD int64_t partial_ld(const Instruction& in) { return round_up(in.cols, SIDE); }

__device__ inline real* partial(const Instruction& in, int64_t split) {
  const int64_t before = chain_reduces(in) ? partials_before(in, in.chain + in.stage_count) : 0;
  return scratch_at<real>(in) + before + split * in.rows * partial_ld(in);
}

// A tile of C: a partial result, or what goes through the chain.
__device__ inline void finish_tile(const Instruction& in, const Splits& splits, int64_t split, Tile& t,
                                   ChainMemory& memory) {
  if (splits.count > 1) {
    real* to = partial(in, split);
    DLCORE_UNROLL(4)
    for (int r = 0; r < SIDE; ++r) {
      if (r < t.rows) store4(to + (t.row + r) * partial_ld(in) + t.col, t.v[r], t.cols);
    }
  } else if (t.first_row < in.rows && t.first_col < in.cols) {
    run_chain(in, t, memory);
  }
}

inline int64_t split_scratch(const Instruction& in, const Splits& splits) {
  const int64_t partials = splits.count > 1 ? splits.count * in.rows * partial_ld(in) : 0;
  return chain_scratch(in) + partials * int64_t(sizeof(real));
}

inline int32_t split_phases(const Instruction& in, const Splits& splits) {
  return 1 + (splits.count > 1) + chain_reduces(in);
}

// The phases behind the first.
inline int64_t later_items(const Instruction& in, const Splits& splits, int32_t phase) {
  return phase == 1 && splits.count > 1 ? tile_items(in) : merge_items(in);
}
void launch_sum(const Launch& launch, int64_t splits);
void launch_later(const Launch& launch, const Splits& splits, int32_t phase);

DLCORE_END
