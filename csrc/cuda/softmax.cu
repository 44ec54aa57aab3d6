// SPDX-License-Identifier: Apache-2.0
// softmax: of each row of x (rows, cols): a warp a row, then tiles through the chain, x being read again from L2.
#include "softmax.cuh"

DLCORE_BEGIN

static int32_t phases(const Instruction& in) { return 1 + chained_phases(in); }

static int64_t items(const Instruction& in, int32_t phase) {
  return phase == 0 ? row_items(in) : phase == 1 ? tile_items(in) : merge_items(in);
}

__global__ void __launch_bounds__(THREADS) softmax_rows(const Instruction in) {
  const int64_t row = row_of_warp();
  if (row >= in.rows) return;
  const real* x = at<real>(in.operands[0]) + row * in.operands[0].ld;
  const real greatest = row_max(x, in.cols), sum = sum_of_exponentials(x, in.cols, greatest);
  if (lane_of() == 0) row_scales(in)[row] = {greatest, 1 / sum};
}

__global__ void __launch_bounds__(THREADS, BLOCKS) softmax_kernel(const Instruction in) {
  Tile t = tile_of(in, blockIdx.x);
  load_exponentials(in, t);
  run_chain(in, t, shared_memory<ChainMemory>());
}

static void launch(const Launch& l, int32_t phase) {
  const int64_t blocks = items(*l.instruction, phase);
  if (phase == 0) return launch_kernel(softmax_rows, l, blocks, THREADS, 0);
  if (phase == 1) return launch_kernel(softmax_kernel, l, blocks, THREADS, sizeof(ChainMemory));
  launch_merge(l);
}

extern const Entry softmax_entry = {{phases, items, row_scales_scratch, nullptr}, launch};

DLCORE_END
