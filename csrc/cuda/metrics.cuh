// SPDX-License-Identifier: Apache-2.0
// Metrics of the losses: what a row adds, in scratch, summed in the order of cpu/partials.h: rows within a chunk,
// chunks into the table.
#pragma once
#include "reduce.cuh"

DLCORE_BEGIN

struct RowMetrics {
  double loss, weight, correct;
};

// Of each row, then of each chunk.
inline int64_t row_metrics_scratch(const Instruction& in) {
  return (in.rows + chunk_count(in)) * int64_t(sizeof(RowMetrics));
}

// metrics: (1, METRICS); from: bytes to the rows' in scratch
__global__ static void merge_metrics(const Instruction in, const int32_t operand, const int64_t from) {
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

DLCORE_END
