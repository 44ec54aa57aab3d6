// SPDX-License-Identifier: Apache-2.0
// The merge of partial results of chunks of rows, in chunk order: a thread a column. Moments merge by Chan, Golub and
// LeVeque (1979).
#include "reduce.cuh"

DLCORE_BEGIN

// before: rows that mean and squares hold; rows: of the next chunk
__device__ static void merge_moments(real& mean, real& squares, real next_mean, real next_squares, int64_t before,
                                     int64_t rows) {
  const double total = double(before + rows);
  const real delta = next_mean - mean;
  mean = fma(delta, real(rows / total), mean);
  squares = fma(delta * delta, real(before * (rows / total)), squares + next_squares);
}

__device__ static void merge_stage(const Instruction& in, const Stage& s, int64_t column) {
  const bool two = s.kind == StageKind::moments;
  real total = chunk_result(in, s, 0, 0)[column], squares = two ? chunk_result(in, s, 0, 1)[column] : real(0);
  for (int64_t k = 1; k < chunk_count(in); ++k) {
    const real next = chunk_result(in, s, k, 0)[column];
    if (two) {
      merge_moments(total, squares, next, chunk_result(in, s, k, 1)[column], k * CHUNK_ROWS,
                    min(CHUNK_ROWS, in.rows - k * CHUNK_ROWS));
    } else {
      total = total + next;
    }
  }
  at<real>(s.out)[column] = total;
  if (two) at<real>(s.out2)[column] = squares;
}

__global__ void merge_chain(const Instruction in) {
  const int64_t column = int64_t(blockIdx.x) * COLUMN_ALIGN + threadIdx.x;
  for (int32_t i = 0; i < in.stage_count; ++i)
    if (is_reduction(in.chain[i]) && column < in.cols) merge_stage(in, in.chain[i], column);
}

void launch_merge(const Launch& launch) {
  launch_kernel(merge_chain, launch, merge_items(*launch.instruction), int(COLUMN_ALIGN), 0);
}

DLCORE_END
