// SPDX-License-Identifier: Apache-2.0
// pointwise: the chain applied to x (rows, cols), bound by the memory that x, operands and stores touch.
#include "chain.cuh"

DLCORE_BEGIN

static int64_t items(const Instruction& in, int32_t phase) { return phase == 0 ? tile_items(in) : merge_items(in); }

__global__ void __launch_bounds__(THREADS, BLOCKS) pointwise_kernel(const Instruction in) {
  Tile t = tile_of(in, blockIdx.x);
  load_tile(in.operands[0], t);
  run_chain(in, t, shared_memory<ChainMemory>());
}

static void launch(const Launch& l, int32_t phase) {
  if (phase == 1) return launch_merge(l);
  launch_kernel(pointwise_kernel, l, items(*l.instruction, 0), THREADS, sizeof(ChainMemory));
}

extern const Entry pointwise_entry = {{chained_phases, items, chain_scratch, nullptr}, launch};

DLCORE_END
