// SPDX-License-Identifier: Apache-2.0
// Matrices in parts, [parts][rows][pitch] with zeros behind the last column: how a tile is written into them, and read
// from one part. Rows begin at multiples of 16 bytes, for cp.async and for the copies of a tensor map.
#pragma once
#include "../../math/bf16.h"
#include "../../math/storage.h"
#include "../rows.cuh"

DLCORE_BEGIN

DLCORE_HD int64_t pitch_of(const View& parts) { return round_up(parts.cols, PART_ALIGN); }

// x as one part holds it, and its bits.
__device__ inline real stored_as(DType type, real x) { return type == DType::f16 ? real(half_of(x)) : round_bf16(x); }
__device__ inline uint32_t bits_as(DType type, real x) {
  return type == DType::f16 ? half_of(x).bits : uint32_t(bits(x)) >> 16;
}

// A row of a matrix from a column on: reals, or one part.
struct Elements {
  const char* from;
  DType type;

  __device__ Elements(const View& view, int64_t row, int64_t col) : type(view.dtype) {
    const int64_t pitch = view.layout == Layout::parts ? pitch_of(view) : view.ld;
    from = at<const char>(view) + (row * pitch + col) * item();
  }
  __device__ Elements(const char* from_, DType type_) : from(from_), type(type_) {}
  __device__ int64_t item() const { return type == DType::f32 ? 4 : 2; }
  __device__ Elements operator+(int64_t n) const { return {from + n * item(), type}; }
};

// The first n <= 4 elements; the others read as 0.
__device__ inline void load4(const Elements& p, int n, real (&x)[4]) {
  if (p.type == DType::f32) return load4(reinterpret_cast<const real*>(p.from), n, x);
  const float2 q = n > 0 ? *reinterpret_cast<const float2*>(p.from) : make_float2(0, 0);
  DLCORE_UNROLL(4)
  for (int i = 0; i < 4; ++i) {
    const uint16_t half = uint16_t(uint32_t(bits(i < 2 ? q.x : q.y)) >> (i % 2 * 16));
    x[i] = p.type == DType::f16 ? float(Half16{half}) : float(Brain16{half});
  }
}

// Part p of x.
__device__ inline real part_of(real x, int p) {
  real h = round_bf16(x);
  DLCORE_UNROLL(1)
  for (int i = 0; i < p; ++i) x -= h, h = round_bf16(x);
  return h;
}

// Part p of the first n <= 4 elements, and zeros. to: a multiple of 8 bytes
__device__ inline void store_part4(DType type, uint16_t* to, int p, const real (&x)[4], int n) {
  uint32_t h[4];
  DLCORE_UNROLL(4)
  for (int i = 0; i < 4; ++i) {
    const real given = i < n ? x[i] : real(0);
    h[i] = bits_as(type, type == DType::f16 ? given : part_of(given, p));
  }
  *reinterpret_cast<float2*>(to) =
      make_float2(from_bits<real>(integer(h[0] | h[1] << 16)), from_bits<real>(integer(h[2] | h[3] << 16)));
}

DLCORE_END
