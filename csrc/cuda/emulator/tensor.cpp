// SPDX-License-Identifier: Apache-2.0
// A tensor core as measured on GPUs of compute capability 8.0 by Fasi, Higham, Mikaitis and Pranesh ("Numerical
// behavior of NVIDIA tensor cores", PeerJ Computer Science 7, 2021): eight products and the sum so far are aligned to
// the largest of them, cut below 24 bits behind its leading one, added exactly, and the sum is cut to float.
#include <algorithm>
#include <cmath>

#include "../../math/storage.h"
#include "sm80.h"

namespace dlcore {
namespace emulator {

namespace {

constexpr int M = 16, N = 8, K = 16, BLOCK = 8;
constexpr double UNIT = 1.0 / (1 << 24), SMALLEST = 1e-200;

// The lower or upper half of a word.
template <class Type>
float half_of_word(uint32_t word, int half) {
  return Type{uint16_t(half ? word >> 16 : word)};
}

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

// f(sum, row, column) of every lane's part of C
template <class F>
void for_sums(void* const (&lanes)[32], F f) {
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4; ++i) {
      f(static_cast<Fragments*>(lanes[lane])->c[i], lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2);
    }
  }
}

}  // namespace

void cut_product(const double* a, const double* b, float* c) {
  for (int k = 0; k < K; k += BLOCK) cut_sums(a + k, reinterpret_cast<const double (*)[N]>(b) + k, c);
}

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

template <class Type>
const char* multiply(void* const (&lanes)[32]) {
  double a[M][K], b[K][N];
  float c[M][N];
  for (int lane = 0; lane < 32; ++lane) {
    const Fragments& own = *static_cast<const Fragments*>(lanes[lane]);
    for (int j = 0; j < 2; ++j) {
      const int row = lane / 4, along = lane % 4 * 2 + j;
      for (int i = 0; i < 4; ++i) a[row + i % 2 * 8][along + i / 2 * 8] = half_of_word<Type>(own.a[i], j);
      for (int i = 0; i < 2; ++i) b[along + i * 8][row] = half_of_word<Type>(own.b[i], j);
    }
  }
  for_sums(lanes, [&](float& own, int row, int column) { c[row][column] = own; });
  for (int row = 0; row < M; ++row) {
    for (int k = 0; k < K; k += BLOCK) cut_sums(&a[row][k], &b[k], c[row]);
  }
  for_sums(lanes, [&](float& own, int row, int column) { own = c[row][column]; });
  return nullptr;
}

const char* multiply_fragments(void* const (&lanes)[32]) { return multiply<cuda::DLCORE_ISA::Brain16>(lanes); }
const char* multiply_fragments_f16(void* const (&lanes)[32]) { return multiply<cuda::DLCORE_ISA::Half16>(lanes); }

}  // namespace emulator
}  // namespace dlcore
