// SPDX-License-Identifier: Apache-2.0
// Rows of any DType read and written as real.
#pragma once
#include "../math/storage.h"
#include "kernels.h"

DLCORE_BEGIN

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
      return convert_row<To, Half16>(row, step, n, to);
    case DType::bf16:
      return convert_row<To, Brain16>(row, step, n, to);
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
