// SPDX-License-Identifier: Apache-2.0
// pointwise: the chain applied to x (rows, cols), bound by the memory that x, operands and stores touch.
#include "chain.h"

DLCORE_BEGIN

static int32_t phases(const Instruction& in) { return chain_reduces(in) ? 2 : 1; }

static int64_t items(const Instruction& in, int32_t phase) { return phase == 0 ? block_items(in) : merge_items(in); }

// Nothing is copied where x can be read as it is. Moments read it twice, so they want its rows close together.
static void open_block(const Call& call, Block& block) {
  const View& x = call.instruction->operands[0];
  if (x.dtype != REAL || x.step != 1 || has_moments(*call.instruction)) return load_block(call, block);
  block.from = at<const real>(call, x) + block.row * x.ld + block.col;
  block.from_ld = x.ld;
}

static void run(const Call& call, int32_t phase, int64_t begin, int64_t end, char* workspace) {
  if (phase == 1) return merge_chain(call, begin, end);
  run_blocks(call, begin, end, workspace, [&](Block& block) { open_block(call, block); });
}

extern const KernelEntry pointwise_entry = {phases, items, chain_scratch, run};

DLCORE_END
