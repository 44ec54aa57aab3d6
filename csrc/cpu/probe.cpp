// SPDX-License-Identifier: Apache-2.0
// What this processor can do at most: multiply-adds a second, and bytes read a second. The caller holds the clock.
//
// fma_probe: CHAINS independent accumulators in registers, twice what two units of latency 4 need; no memory.
// read_probe: one vector a load, four sums in flight, so that only the memory level that holds the bytes bounds it.
#include "kernels.h"
#include "simd.h"

DLCORE_BEGIN

constexpr int32_t CHAINS = 12;

// Multiplications and additions done in `rounds` rounds; the result goes to *sink, so that no loop is left out.
double fma_probe(int64_t rounds, double* sink) {
  vec sums[CHAINS];
  for (int32_t c = 0; c < CHAINS; ++c) sums[c] = splat<vec>(real(c));
  const vec factor = splat<vec>(real(0.5)), addend = splat<vec>(real(1));
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int32_t c = 0; c < CHAINS; ++c) sums[c] = fma(sums[c], factor, addend);
  }
  for (int32_t c = 0; c < CHAINS; ++c) *sink += double(reduce_add(sums[c]));
  return double(rounds) * CHAINS * LANES * 2;
}

// Reads `times` times the `bytes` at p, in whole groups of four vectors.
void read_probe(const char* p, int64_t bytes, int64_t times, double* sink) {
  constexpr int64_t group = 4 * LANES;
  const real* x = reinterpret_cast<const real*>(p);
  vec sums[4] = {};
  for (int64_t t = 0; t < times; ++t) {
    for (int64_t i = 0; i + group <= bytes / int64_t(sizeof(real)); i += group) {
#pragma GCC unroll 4
      for (int32_t c = 0; c < 4; ++c) sums[c] = sums[c] + load(x + i + c * LANES);
    }
  }
  *sink += double(reduce_add(sums[0] + sums[1] + sums[2] + sums[3]));
}

DLCORE_END
