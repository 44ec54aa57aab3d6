// SPDX-License-Identifier: Apache-2.0
// Metrics of the losses: what a row adds, in scratch, and its sum.
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

// metrics: (1, METRICS), an operand; from: bytes to the rows' in scratch
void launch_metrics(const Launch& launch, int32_t operand, int64_t from);

DLCORE_END
