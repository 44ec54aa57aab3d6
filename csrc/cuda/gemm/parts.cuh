// SPDX-License-Identifier: Apache-2.0
// Matrices in parts, [parts][rows][pitch] with zeros behind the last column: how a tile is written into them, and read
// from one part. Rows begin at multiples of 16 bytes, for cp.async and for the copies of a tensor map.
#pragma once
#include "../../math/bf16.h"
#include "../../math/storage.h"
#include "../rows.cuh"

DLCORE_BEGIN

DLCORE_HD int64_t pitch_of(const View& parts) { return round_up(parts.cols, PART_ALIGN); }

// Between float and f16, by instructions where there are any.
__device__ inline uint32_t to_f16(real x) {
#ifdef DLCORE_EMULATOR
  return half_of(x).bits;
#else
  uint16_t half;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(x));
  return half;
#endif
}
__device__ inline real from_f16(uint32_t half) {
#ifdef DLCORE_EMULATOR
  return Half16{uint16_t(half)};
#else
  real x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(uint16_t(half)));
  return x;
#endif
}

// Four neighbours of one part; from: a multiple of 8 bytes.
__device__ inline void load_part4(DType type, const uint16_t* from, int n, real (&x)[4]) {
  const float2 q = n > 0 ? *reinterpret_cast<const float2*>(from) : make_float2(0, 0);
  DLCORE_UNROLL(4)
  for (int i = 0; i < 4; ++i) {
    const uint32_t pair = uint32_t(bits(i < 2 ? q.x : q.y));
    x[i] = type == DType::f16 ? from_f16(i % 2 ? pair >> 16 : pair & 0xffff)
                              : float_of_bits(i % 2 ? pair & 0xffff0000 : pair << 16);
  }
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
  load_part4(p.type, reinterpret_cast<const uint16_t*>(p.from), n, x);
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
    h[i] = type == DType::f16 ? to_f16(given) : uint32_t(bits(part_of(given, p))) >> 16;
  }
  *reinterpret_cast<float2*>(to) =
      make_float2(from_bits<real>(integer(h[0] | h[1] << 16)), from_bits<real>(integer(h[2] | h[3] << 16)));
}

DLCORE_END
