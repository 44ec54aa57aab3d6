// SPDX-License-Identifier: Apache-2.0
// The sum of the splits of a product, in order, and its chain. Bound by reading the partial results once.
#include "splits.cuh"

DLCORE_BEGIN

__global__ void __launch_bounds__(THREADS, BLOCKS) sum_splits(const Instruction in, const int splits) {
  Tile t = tile_of(in, blockIdx.x);
  const int64_t ld = partial_ld(in);
  map(t, [](real, int, int) { return real(0); });
  for (int s = 0; s < splits; ++s) {
    const real* from = partial(in, s) + t.row * ld + t.col;
    DLCORE_UNROLL(4)
    for (int r = 0; r < SIDE; ++r) {
      real x[SIDE];
      load4(from + r * ld, r < t.rows ? t.cols : 0, x);
      DLCORE_UNROLL(4)
      for (int e = 0; e < SIDE; ++e) t.v[r][e] += x[e];
    }
  }
  run_chain(in, t, shared_memory<ChainMemory>());
}

void launch_sum(const Launch& l, int64_t splits) {
  launch_kernel(sum_splits, l, tile_items(*l.instruction), THREADS, sizeof(ChainMemory), int(splits));
}

void launch_later(const Launch& l, const Splits& splits, int32_t phase) {
  return phase > 1 || splits.count == 1 ? launch_merge(l) : launch_sum(l, splits.count);
}

DLCORE_END
