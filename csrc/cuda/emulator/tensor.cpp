// SPDX-License-Identifier: Apache-2.0
// A tensor core as measured on GPUs of compute capability 8.0 by Fasi, Higham, Mikaitis and Pranesh ("Numerical
// behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021): eight products and the sum so far are aligned to
// the largest of them, cut below 24 bits behind its leading one, added exactly, and the sum is cut to float.
#include <algorithm>
#include <cmath>

#include "simt.h"

namespace dlcore {
namespace emulator {

namespace {

constexpr int M = 16, N = 8, K = 16, BLOCK = 8, BITS = 24;

float bf16_of(uint32_t word, int half) { return from_word<float>(half ? word & 0xffff0000u : word << 16); }

float cut_to_float(double x) {
  const float nearest = float(x);
  return std::abs(double(nearest)) > std::abs(x) && std::isfinite(nearest) ? std::nextafter(nearest, 0.0f) : nearest;
}

// addends: BLOCK products, exact in double, and the sum so far
float cut_sum(const double (&addends)[BLOCK + 1]) {
  double largest = 0, plain = 0;
  for (double x : addends) largest = std::max(largest, std::abs(x)), plain += x;
  if (!std::isfinite(plain)) return float(plain);
  if (largest == 0) return 0;
  const int exponent = std::ilogb(largest);
  const double scale = std::ldexp(1.0, BITS - exponent);
  int64_t sum = 0;
  for (double x : addends) sum += int64_t(x * scale);
  return cut_to_float(std::ldexp(double(sum), exponent - BITS));
}

}  // namespace

// A phase reads 8 rows of 16 bytes: without conflicts when they lie in different eighths of the 32 banks.
const char* load_rows(void* const (&lanes)[32]) {
  const char* rows[32];
  for (int lane = 0; lane < 32; ++lane) rows[lane] = static_cast<const char*>(static_cast<Rows*>(lanes[lane])->row);
  for (int i = 0; i < 4; ++i) {
    unsigned taken = 0;
    for (int r = 0; r < 8; ++r) taken |= 1u << ((rows[8 * i + r] - here.shared) / 16 % 8);
    if (taken != 0xff) return "expected rows of a matrix in different banks, got a conflict";
  }
  for (int lane = 0; lane < 32; ++lane) {
    Rows& own = *static_cast<Rows*>(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      uint16_t pair[2];
      for (int j = 0; j < 2; ++j) {
        const int across = lane / 4, along = lane % 4 * 2 + j;
        std::memcpy(&pair[j], rows[8 * i + (own.transposed ? along : across)] + 2 * (own.transposed ? across : along),
                    2);
      }
      own.loaded[i] = pair[0] | uint32_t(pair[1]) << 16;
    }
  }
  return nullptr;
}

const char* multiply_fragments(void* const (&lanes)[32]) {
  double a[M][K], b[K][N];
  for (int lane = 0; lane < 32; ++lane) {
    const Fragments& own = *static_cast<const Fragments*>(lanes[lane]);
    for (int j = 0; j < 2; ++j) {
      const int row = lane / 4, along = lane % 4 * 2 + j;
      for (int i = 0; i < 4; ++i) a[row + i % 2 * 8][along + i / 2 * 8] = bf16_of(own.a[i], j);
      for (int i = 0; i < 2; ++i) b[along + i * 8][row] = bf16_of(own.b[i], j);
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    Fragments& own = *static_cast<Fragments*>(lanes[lane]);
    for (int i = 0; i < 4; ++i) {
      const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      for (int k = 0; k < K; k += BLOCK) {
        double addends[BLOCK + 1] = {};
        for (int e = 0; e < BLOCK; ++e) addends[e] = a[row][k + e] * b[k + e][column];
        addends[BLOCK] = own.c[i];
        own.c[i] = cut_sum(addends);
      }
    }
  }
  return nullptr;
}

}  // namespace emulator
}  // namespace dlcore
