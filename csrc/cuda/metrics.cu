// SPDX-License-Identifier: Apache-2.0
// The sum of the rows' metrics in the order of cpu/partials.h: rows within a chunk, chunks into the table. One block.
#include "metrics.cuh"

DLCORE_BEGIN

__global__ void __launch_bounds__(THREADS)
    merge_metrics(const Instruction in, const int32_t operand, const int64_t from) {
  const RowMetrics* rows = scratch_at<RowMetrics>(in, from);
  RowMetrics* chunks = scratch_at<RowMetrics>(in, from) + in.rows;
  for (int64_t k = threadIdx.x; k < chunk_count(in); k += THREADS) {
    RowMetrics sum = {0, 0, 0};
    for (int64_t r = k * CHUNK_ROWS; r < min(in.rows, (k + 1) * CHUNK_ROWS); ++r) {
      sum.loss += rows[r].loss;
      sum.weight += rows[r].weight;
      sum.correct += rows[r].correct;
    }
    chunks[k] = sum;
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  double* metrics = at<double>(in.operands[operand]);
  for (int64_t k = 0; k < chunk_count(in); ++k) {
    metrics[metric_loss] += chunks[k].loss;
    metrics[metric_weight] += chunks[k].weight;
    metrics[metric_correct] += chunks[k].correct;
  }
  metrics[metric_rows] += double(in.rows);
}

void launch_metrics(const Launch& launch, int32_t operand, int64_t from) {
  launch_kernel(merge_metrics, launch, 1, THREADS, 0, operand, from);
}

DLCORE_END
