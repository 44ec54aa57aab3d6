// SPDX-License-Identifier: Apache-2.0
// Rows of any DType read and written as real: the one place that knows what a storage type holds.
#pragma once
#include "kernels.h"

DLCORE_BEGIN

inline float float_from_bits(uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

struct Bfloat16 {
  uint16_t bits;
  operator float() const { return float_from_bits(uint32_t(bits) << 16); }
};

struct Float16 {
  uint16_t bits;
  // The product with 2^112 moves the exponent's bias from 15 to 127 and normalises what is subnormal.
  operator float() const {
    const uint32_t magnitude = uint32_t(bits & 0x7fff) << 13, sign = uint32_t(bits & 0x8000) << 16;
    const float scaled = float_from_bits(magnitude) * 5.192296858534828e33f;
    const float finite_or_not = (bits & 0x7c00) == 0x7c00 ? float_from_bits(magnitude | 0x7f800000) : scaled;
    return sign ? -finite_or_not : finite_or_not;
  }
};

constexpr DType REAL = DLCORE_REAL_F64 ? DType::f64 : DType::f32;

inline int64_t size_of(DType dtype) {
  constexpr int8_t sizes[] = {4, 8, 2, 2, 1, 1, 2, 2, 4, 4, 8, 8};
  return sizes[int32_t(dtype)];
}

// from, to: n elements; from in steps of `step` elements
template <class To, class From>
inline void convert_row(const char* row, int64_t step, int64_t n, To* to) {
  const From* from = reinterpret_cast<const From*>(row);
  if (step == 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = To(from[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) to[i] = To(from[i * step]);
  }
}

// To: real or int32_t
template <class To>
inline void load_as(DType dtype, const char* row, int64_t step, int64_t n, To* to) {
  switch (dtype) {
    case DType::f32:
      return convert_row<To, float>(row, step, n, to);
    case DType::f64:
      return convert_row<To, double>(row, step, n, to);
    case DType::f16:
      return convert_row<To, Float16>(row, step, n, to);
    case DType::bf16:
      return convert_row<To, Bfloat16>(row, step, n, to);
    case DType::u8:
      return convert_row<To, uint8_t>(row, step, n, to);
    case DType::i8:
      return convert_row<To, int8_t>(row, step, n, to);
    case DType::u16:
      return convert_row<To, uint16_t>(row, step, n, to);
    case DType::i16:
      return convert_row<To, int16_t>(row, step, n, to);
    case DType::u32:
      return convert_row<To, uint32_t>(row, step, n, to);
    case DType::i32:
      return convert_row<To, int32_t>(row, step, n, to);
    case DType::u64:
      return convert_row<To, uint64_t>(row, step, n, to);
    case DType::i64:
      return convert_row<To, int64_t>(row, step, n, to);
  }
}

inline void load_as_real(DType dtype, const char* row, int64_t step, int64_t n, real* to) {
  load_as(dtype, row, step, n, to);
}

// f32 and f64
inline void store_from_real(DType dtype, const real* from, int64_t n, char* row) {
  const char* p = reinterpret_cast<const char*>(from);
  if (dtype == DType::f32) {
    convert_row<float, real>(p, 1, n, reinterpret_cast<float*>(row));
  } else {
    convert_row<double, real>(p, 1, n, reinterpret_cast<double*>(row));
  }
}

DLCORE_END
