// SPDX-License-Identifier: Apache-2.0
// The sum of the metrics of all rows or chunks. One block: a thread reads a chunk, then one adds each metric in order.
#include "metrics.cuh"

DLCORE_BEGIN

static const int CHUNKS = 512;  // at a time

__device__ static RowMetrics sum_of(const RowMetrics* of, int64_t count) {
  RowMetrics sum = {};
  DLCORE_UNROLL(4)
  for (int64_t r = 0; r < count; ++r) {
    DLCORE_UNROLL(4)
    for (int i = 0; i < METRICS; ++i) sum.x[i] += of[r].x[i];
  }
  return sum;
}

// The first count of them, `together` a chunk.
__global__ void __launch_bounds__(CHUNKS) merge_metrics(const Instruction in, const int32_t operand, const int64_t from,
                                                        const int64_t count, const int64_t together) {
  RowMetrics(&chunks)[CHUNKS] = shared_memory<RowMetrics[CHUNKS]>();
  const RowMetrics* all = scratch_at<RowMetrics>(in, from);
  double* metrics = at<double>(in.operands[operand]);
  const int i = int(threadIdx.x);
  double total = i < METRICS ? metrics[i] : 0;
  for (int64_t first = 0; first < chunk_count(in); first += CHUNKS) {
    const int64_t begin = (first + i) * together;
    __syncthreads();
    if (begin < count) chunks[i] = sum_of(all + begin, min(together, count - begin));
    __syncthreads();
    if (i >= METRICS) continue;
    const int n = int(min(CHUNKS, chunk_count(in) - first));
    DLCORE_UNROLL(8)
    for (int k = 0; k < n; ++k) total += chunks[k].x[i];
  }
  if (i < METRICS) metrics[i] = total;
}

static void launch_merge_metrics(const Launch& l, int32_t operand, int64_t from, int64_t count, int64_t together) {
  launch_kernel(merge_metrics, l, 1, CHUNKS, sizeof(RowMetrics[CHUNKS]), operand, from, count, together);
}

void launch_loss(const Launch& l, int32_t phase, const LossKernels& kernels, int64_t metrics) {
  const Instruction& in = *l.instruction;
  const int64_t blocks = loss_items(in, phase), chunks = chunk_count(in);
  if (phase > 1 || (phase == 1 && is_narrow(in))) return launch_merge(l);
  if (phase == 1) return launch_kernel(kernels.gradient, l, blocks, THREADS, sizeof(ChainMemory));
  if (!is_narrow(in)) {
    launch_kernel(kernels.rows, l, blocks, THREADS, 0, metrics);
    return launch_merge_metrics(l, kernels.operand, metrics, in.rows, CHUNK_ROWS);
  }
  launch_kernel(kernels.narrow, l, blocks, THREADS, kernels.narrow_bytes, metrics);
  if (chunks > 1) launch_merge_metrics(l, kernels.operand, metrics, chunks, 1);
}

DLCORE_END
