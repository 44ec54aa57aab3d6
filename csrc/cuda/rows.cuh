// SPDX-License-Identifier: Apache-2.0
// What kernels share that walk along rows: four elements at once where they are aligned, and sums over a warp.
#pragma once
#include "launch.cuh"

DLCORE_BEGIN

__device__ inline bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(float4) == 0; }

// The first n <= 4 elements; the others read as 0.
__device__ inline void load4(const real* p, int n, real (&x)[4]) {
  if (n == 4 && is_aligned(p)) {
    const float4 q = *reinterpret_cast<const float4*>(p);
    x[0] = q.x, x[1] = q.y, x[2] = q.z, x[3] = q.w;
    return;
  }
  DLCORE_UNROLL(4)
  for (int i = 0; i < 4; ++i) x[i] = i < n ? p[i] : real(0);
}

__device__ inline void store4(real* p, const real (&x)[4], int n) {
  if (n == 4 && is_aligned(p)) {
    *reinterpret_cast<float4*>(p) = make_float4(x[0], x[1], x[2], x[3]);
    return;
  }
  DLCORE_UNROLL(4)
  for (int i = 0; i < 4; ++i) {
    if (i < n) p[i] = x[i];
  }
}

// The same into memory of the device, which the compiler cuts into four stores where it is left to it.
__device__ inline void store4_global(real* p, const real (&x)[4], int n) {
#ifndef DLCORE_EMULATOR
  if (n == 4 && is_aligned(p)) {
    asm volatile("st.global.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(p), "f"(x[0]), "f"(x[1]), "f"(x[2]), "f"(x[3])
                 : "memory");
    return;
  }
#endif
  store4(p, x, n);
}

// Of all lanes, or of so many neighbours, in one order; every lane gets it.
template <class T, class F>
__device__ inline T warp_reduce(T x, F f, int lanes = WARP) {
  while ((lanes /= 2) > 0) x = f(x, __shfl_xor_sync(ALL_LANES, x, lanes));
  return x;
}

template <class T>
__device__ inline T warp_sum(T x, int lanes = WARP) {
  return warp_reduce(x, [](T a, T b) { return a + b; }, lanes);
}

// Kernels that take a row a warp.
constexpr int ROW_WARPS = THREADS / WARP;

inline int64_t row_items(const Instruction& in) { return ceil_div(in.rows, ROW_WARPS); }
__device__ inline int64_t row_of_warp() { return int64_t(blockIdx.x) * ROW_WARPS + threadIdx.x / WARP; }
__device__ inline int lane_of() { return int(threadIdx.x % WARP); }

// f(column, x) of the elements that a lane takes of a row (const real* or Elements), four neighbours at a time.
template <class Row, class F>
__device__ inline void along_row(const Row& x, int64_t cols, F f) {
  for (int64_t c = 4 * lane_of(); c < cols; c += 4 * WARP) {
    const int n = int(min(4, cols - c));
    real four[4];
    load4(x + c, n, four);
    DLCORE_UNROLL(4)
    for (int i = 0; i < 4; ++i) {
      if (i < n) f(c + i, four[i]);
    }
  }
}

// f(column, x, y) of two rows
template <class Row, class F>
__device__ inline void along_rows(const Row& x, const Row& y, int64_t cols, F f) {
  for (int64_t c = 4 * lane_of(); c < cols; c += 4 * WARP) {
    const int n = int(min(4, cols - c));
    real four[4], other[4];
    load4(x + c, n, four), load4(y + c, n, other);
    DLCORE_UNROLL(4)
    for (int i = 0; i < 4; ++i) {
      if (i < n) f(c + i, four[i], other[i]);
    }
  }
}

DLCORE_END
