// SPDX-License-Identifier: Apache-2.0
// Draws of dropout for a run of columns, a vector of counters at a time: bound by the multiplications of math/philox.h.
#pragma once
#include "../math/philox.h"
#include "simd.h"

DLCORE_BEGIN

typedef uint64_t wide __attribute__((vector_size(VECTOR_BYTES)));
constexpr int64_t WIDE_LANES = VECTOR_BYTES / 8;

template <>
struct Words<wide> {
  static inline wide splat(uint32_t x) { return wide{} + x; }
#if defined(__AVX512F__)
  static inline wide multiply(wide a, wide b) { return (wide)_mm512_maskz_mul_epu32(-1, (__m512i)a, (__m512i)b); }
#elif defined(__AVX2__)
  static inline wide multiply(wide a, wide b) { return (wide)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
#elif defined(__x86_64__)
  static inline wide multiply(wide a, wide b) { return (wide)_mm_mul_epu32((__m128i)a, (__m128i)b); }
#elif defined(__aarch64__)
  static inline wide multiply(wide a, wide b) {
    return (wide)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
  }
#else
  static inline wide multiply(wide a, wide b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
#endif
};

// The even (odd) lanes of a and b in turn.
#if defined(__AVX512F__)
inline wide zip_even(wide a, wide b) { return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14); }
inline wide zip_odd(wide a, wide b) { return __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15); }
#elif defined(__AVX2__)
inline wide zip_even(wide a, wide b) { return __builtin_shufflevector(a, b, 0, 4, 2, 6); }
inline wide zip_odd(wide a, wide b) { return __builtin_shufflevector(a, b, 1, 5, 3, 7); }
#else
inline wide zip_even(wide a, wide b) { return __builtin_shufflevector(a, b, 0, 2); }
inline wide zip_odd(wide a, wide b) { return __builtin_shufflevector(a, b, 1, 3); }
#endif

struct Dropout {
  PhiloxKey<wide> key;
  uint32_t draws, random_op;
};

// Two vectors of counters in flight (AVX2: 0.46 -> 0.38 ns a draw).
constexpr int64_t DROPOUT_COLUMNS = 2 * WIDE_LANES * 8;

// draws (N * WIDE_LANES * 8) from counter `first` on
template <int N>
inline void dropout_block(const Dropout& d, int64_t row, int64_t first, uint16_t* draws) {
  // Lane numbers such that the zips below give counters in order.
  wide lanes;
  for (int64_t i = 0; i < WIDE_LANES; ++i) lanes[i] = uint64_t(i / 2 + i % 2 * (WIDE_LANES / 2));
  const wide low = Words<wide>::splat(~0u);
  wide x[N][4];
  for (int n = 0; n < N; ++n) {
    x[n][0] = lanes + uint64_t(first + n * WIDE_LANES);
    x[n][1] = Words<wide>::splat(uint32_t(row));
    x[n][2] = Words<wide>::splat(d.random_op);
    x[n][3] = Words<wide>::splat(d.draws);
  }
  philox(d.key, x);
  for (int n = 0; n < N; ++n) {
    const wide front = (x[n][0] & low) | (x[n][1] << 32), back = (x[n][2] & low) | (x[n][3] << 32);
    const wide ordered[2] = {zip_even(front, back), zip_odd(front, back)};
    __builtin_memcpy(draws + n * WIDE_LANES * 8, ordered, sizeof ordered);
  }
}

// What is kept of a row's columns from c on, LANES bits; bits (cols / 8), the first column in the lowest bit.
constexpr int64_t KEPT_BYTES = LANES < 8 ? 1 : LANES / 8;

inline uint32_t load_kept(const uint8_t* bits, int64_t c) {
  uint32_t kept = 0;
  __builtin_memcpy(&kept, bits + c / 8, KEPT_BYTES);
  return LANES < 8 ? kept >> c % 8 : kept;
}

inline void store_kept(uint8_t* bits, int64_t c, uint32_t kept) {
  if (LANES < 8) kept = kept << c % 8 | (c % 8 > 0 ? bits[c / 8] : 0);
  __builtin_memcpy(bits + c / 8, &kept, KEPT_BYTES);
}

// draws (round_up(cols, DROPOUT_COLUMNS)) of columns column... of a row; column % 8 == 0
inline void dropout_draws(const Dropout& d, int64_t row, int64_t column, int64_t cols, uint16_t* draws) {
  int64_t c = 0;
  for (; c + DROPOUT_COLUMNS / 2 < cols; c += DROPOUT_COLUMNS) dropout_block<2>(d, row, (column + c) / 8, draws + c);
  if (c < cols) dropout_block<1>(d, row, (column + c) / 8, draws + c);
}

DLCORE_END
