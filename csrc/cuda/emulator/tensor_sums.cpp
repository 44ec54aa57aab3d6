// SPDX-License-Identifier: Apache-2.0
// A tensor core as measured on GPUs of compute capability 8.0 by Fasi, Higham, Mikaitis and Pranesh ("Numerical
// behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021): eight products and the sum so far are aligned to
// the largest of them, cut below 24 bits behind its leading one, added exactly, and the sum is cut to float.
//
// A file of its own, without sanitizers: they keep its loops, over arrays of their own size, from becoming vectors.
#include <algorithm>
#include <cmath>

#include "../../math/storage.h"
#include "simt.h"

namespace dlcore {
namespace emulator {

namespace {

constexpr int N = 8, K = 16, BLOCK = 8;
constexpr double UNIT = 1.0 / (1 << 24), SMALLEST = 1e-200;

// c += a b for the columns, in loops that the compiler turns into vectors
void cut_sums(const double* a, const double (*b)[N], float* c) {
  double addends[BLOCK + 1][N], largest[N], plain[N], unit[N], scale[N];
  int32_t sum[N] = {};
  for (int j = 0; j < N; ++j) addends[BLOCK][j] = plain[j] = c[j], largest[j] = std::max(SMALLEST, std::abs(plain[j]));
  for (int e = 0; e < BLOCK; ++e) {
    for (int j = 0; j < N; ++j) {
      const double product = addends[e][j] = a[e] * b[e][j], size = std::abs(product);
      plain[j] += product, largest[j] = size > largest[j] ? size : largest[j];
    }
  }
  for (int j = 0; j < N; ++j) {
    const uint64_t exponent = to_word(largest[j]) & (uint64_t(0x7ff) << 52);
    unit[j] = from_word<double>(exponent) * UNIT,
    scale[j] = from_word<double>((uint64_t(2046) << 52) - exponent) / UNIT;
  }
  for (int e = 0; e <= BLOCK; ++e) {
    for (int j = 0; j < N; ++j) sum[j] += int32_t(addends[e][j] * scale[j]);
  }
  for (int j = 0; j < N; ++j) {
    const double exact = sum[j] * unit[j];
    const float nearest = float(exact);
    const bool beyond = std::abs(double(nearest)) > std::abs(exact) && std::abs(nearest) < INFINITY;
    c[j] = plain[j] - plain[j] != 0 ? float(plain[j]) : from_word<float>(uint32_t(to_word(nearest)) - beyond);
  }
}

}  // namespace

void cut_product(const double* a, const double* b, float* c) {
  for (int k = 0; k < K; k += BLOCK) cut_sums(a + k, reinterpret_cast<const double (*)[N]>(b) + k, c);
}

}  // namespace emulator
}  // namespace dlcore
