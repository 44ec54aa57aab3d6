// SPDX-License-Identifier: Apache-2.0
// What this processor can do at most: multiply-adds a second, and bytes moved a second. The caller holds the clock.
//
// fma_probe: CHAINS independent accumulators in registers, twice what two units of latency 4 need; no memory.
// memory_probe: vectors in flight, of several streams side by side, so that only the memory that holds them bounds it.
#include "kernels.h"
#include "simd.h"

DLCORE_BEGIN

constexpr int32_t CHAINS = 12, GROUP = 8;

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

// The sum of what is read, in whole groups of four vectors.
static double read_stream(const real* x, int64_t size) {
  constexpr int64_t group = 4 * LANES;
  vec sums[4] = {};
  for (int64_t i = 0; i + group <= size; i += group) {
#pragma GCC unroll 4
    for (int32_t c = 0; c < 4; ++c) sums[c] = sums[c] + load(x + i + c * LANES);
  }
  return double(reduce_add(sums[0] + sums[1] + sums[2] + sums[3]));
}

// Writes the mean of the streams that are read into the others, in whole groups of vectors.
static void write_mean(char* const* read, int32_t reads, char* const* written, int32_t writes, int64_t size) {
  constexpr int64_t group = GROUP * LANES;
  const vec scale = splat<vec>(real(1) / real(reads));
  for (int64_t i = 0; i + group <= size; i += group) {
    vec sums[GROUP] = {};
    for (int32_t r = 0; r < reads; ++r) {
      const real* x = reinterpret_cast<const real*>(read[r]) + i;
#pragma GCC unroll 8
      for (int32_t c = 0; c < GROUP; ++c) sums[c] = sums[c] + load(x + c * LANES);
    }
    for (int32_t w = 0; w < writes; ++w) {
      real* y = reinterpret_cast<real*>(written[w]) + i;
#pragma GCC unroll 8
      for (int32_t c = 0; c < GROUP; ++c) store(y + c * LANES, sums[c] * scale);
    }
  }
}

// `times` passes over streams of so many bytes each: those that are read and written are updated in place. Without any
// that is written they are read one after another.
void memory_probe(char* const* read, int32_t reads, char* const* written, int32_t writes, int64_t bytes, int64_t times,
                  double* sink) {
  const int64_t size = bytes / int64_t(sizeof(real));
  for (int64_t t = 0; t < times; ++t) {
    if (writes) write_mean(read, reads, written, writes, size);
    for (int32_t r = 0; r < (writes ? 0 : reads); ++r)
      *sink += read_stream(reinterpret_cast<const real*>(read[r]), size);
  }
}

DLCORE_END
