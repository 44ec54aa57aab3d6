// SPDX-License-Identifier: Apache-2.0
// The instructions of a warp with a tensor core: rows of a matrix to the lanes, and products of fragments.
#include <cstring>

#include "../../math/storage.h"
#include "sm80.h"

namespace dlcore {
namespace emulator {

namespace {

constexpr int M = 16, N = 8, K = 16;

// The lower or upper half of a word.
template <class Type>
float half_of_word(uint32_t word, int half) {
  return Type{uint16_t(half ? word >> 16 : word)};
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
  for (int row = 0; row < M; ++row) cut_product(a[row], b[0], c[row]);
  for_sums(lanes, [&](float& own, int row, int column) { own = c[row][column]; });
  return nullptr;
}

const char* multiply_fragments(void* const (&lanes)[32]) { return multiply<cuda::DLCORE_ISA::Brain16>(lanes); }
const char* multiply_fragments_f16(void* const (&lanes)[32]) { return multiply<cuda::DLCORE_ISA::Half16>(lanes); }

}  // namespace emulator
}  // namespace dlcore
