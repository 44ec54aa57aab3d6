// SPDX-License-Identifier: Apache-2.0
// What losses share. Metrics are summed in the order of cpu/partials.h: rows within a chunk, chunks into the table. Of
// narrow rows a block takes a chunk and does everything; of wide ones a warp measures a row, then tiles make the
// gradient.
#pragma once
#include "panel.cuh"

DLCORE_BEGIN

struct RowMetrics {
  double x[METRICS];
};

__device__ inline RowMetrics row_metrics(double loss, double weight, double correct) {
  RowMetrics row;
  row.x[metric_loss] = loss, row.x[metric_weight] = weight, row.x[metric_correct] = correct, row.x[metric_rows] = 1;
  return row;
}

// The rows of a chunk, which the block has in shared memory: their sum into scratch, that of a single chunk into the
// table.
__device__ inline void add_chunk(const Instruction& in, int operand, int64_t from,
                                 const RowMetrics (&rows)[CHUNK_ROWS]) {
  const int64_t chunk = blockIdx.x;
  const int i = int(threadIdx.x);
  if (i >= METRICS) return;
  double sum = 0;
  const int count = int(min(CHUNK_ROWS, in.rows - chunk * CHUNK_ROWS));
  DLCORE_UNROLL(8)
  for (int r = 0; r < count; ++r) sum += rows[r].x[i];
  if (chunk_count(in) == 1) {
    at<double>(in.operands[operand])[i] += sum;
  } else {
    scratch_at<RowMetrics>(in, from)[chunk].x[i] = sum;
  }
}

inline int32_t loss_phases(const Instruction& in) {
  return in.numbers[1] == 0 ? 1 : chained_phases(in) + !is_narrow(in);
}

inline int64_t loss_items(const Instruction& in, int32_t phase) {
  if (phase == 0) return is_narrow(in) ? chunk_count(in) : row_items(in);
  return phase == 1 && !is_narrow(in) ? tile_items(in) : merge_items(in);
}

// Of the chunks of narrow rows, or of all rows.
inline int64_t metrics_scratch(const Instruction& in) {
  return (is_narrow(in) ? chunk_count(in) : in.rows) * int64_t(sizeof(RowMetrics));
}

struct LossKernels {
  void (*narrow)(Instruction, int64_t metrics);
  size_t narrow_bytes;  // of shared memory
  void (*rows)(Instruction, int64_t metrics);
  void (*gradient)(Instruction);
  int32_t operand;  // the metrics (1, METRICS)
};

// metrics: bytes to metrics_scratch
void launch_loss(const Launch& launch, int32_t phase, const LossKernels& kernels, int64_t metrics);

DLCORE_END
