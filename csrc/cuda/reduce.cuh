// SPDX-License-Identifier: Apache-2.0
// The places of partial results on the device.
#pragma once
#include "launch.cuh"
#include "reduce.h"

DLCORE_BEGIN

// (1, cols): result 0 or 1 of a reduction over a chunk of rows
__device__ inline real* chunk_result(const Instruction& in, const Stage& s, int64_t chunk, int64_t result) {
  if (chunk_count(in) == 1) return at<real>(result == 0 ? s.out : s.out2);
  const int64_t rows = chunk * results(s) + result;
  return scratch_at<real>(in) + partials_before(in, &s) + rows * partial_cols(in);
}

DLCORE_END
