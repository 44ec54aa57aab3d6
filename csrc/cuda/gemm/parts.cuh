// SPDX-License-Identifier: Apache-2.0
// Operands in bf16 parts, [parts][rows][pitch] with zeros behind the last column: how a tile is written into them. Rows
// begin at multiples of 16 bytes, for cp.async and for the copies of a tensor map.
#pragma once
#include "../../math/bf16.h"
#include "../rows.cuh"

DLCORE_BEGIN

DLCORE_HD int64_t pitch_of(const View& parts) { return round_up(parts.cols, PART_ALIGN); }

// Part p of x.
__device__ inline real part_of(real x, int p) {
  real h = round_bf16(x);
  DLCORE_UNROLL(1)
  for (int i = 0; i < p; ++i) x -= h, h = round_bf16(x);
  return h;
}

// Part p of the first n <= 4 elements, and zeros. to: a multiple of 8 bytes
__device__ inline void store_part4(uint16_t* to, int p, const real (&x)[4], int n) {
  real h[4];
  DLCORE_UNROLL(4)
  for (int i = 0; i < 4; ++i) h[i] = part_of(i < n ? x[i] : real(0), p);
  *reinterpret_cast<float2*>(to) = make_float2(pair_bf16(h[0], h[1]), pair_bf16(h[2], h[3]));
}

DLCORE_END
