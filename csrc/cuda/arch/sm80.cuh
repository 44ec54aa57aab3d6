// SPDX-License-Identifier: Apache-2.0
// What tensor-core kernels use of compute capability 8.0: asynchronous copies into shared memory, matrices of 8 rows of
// 16 bytes loaded by a warp, and products of 16 x 8 x 16 bf16 or f16 summed in float. Older GPUs have neither the
// copies nor bf16: the backend refuses such kernels there, and their bodies are empty.
#pragma once
#include "../launch.cuh"
#ifdef DLCORE_EMULATOR
#include "../emulator/sm80.h"
#else

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800

#define DLCORE_SM80

DLCORE_BEGIN

// 16 bytes to shared memory past the first-level cache; zeros where the source is not there.
__device__ inline void copy16(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(unsigned(__cvta_generic_to_shared(to))),
               "l"(__cvta_generic_to_global(from)), "r"(there ? 16 : 0)
               : "memory");
}

// The copies since the last commit are a group.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until at most the last `pending` groups of this thread are on their way.
template <int pending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Four matrices of 8 x 8 bf16: lanes 8 i to 8 i + 7 point at the rows of matrix i; lane 4 r + c gets in x[i] elements 2
// c and 2 c + 1 of its row r, or, transposed, of its column r.
template <bool transposed>
__device__ inline void load_matrices(const void* row, uint32_t (&x)[4]) {
  const unsigned from = unsigned(__cvta_generic_to_shared(row));
  if constexpr (transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(from)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(from)
                 : "memory");
  }
}

// c (16, 8) += a (16, 16) b (16, 8). Of lane 4 r + j: c[0], c[1] are columns 2 j and 2 j + 1 of row r, c[2], c[3] of
// row r + 8; a[0 ... 3] are (rows, depth) 8 x 8 matrices (0, 0), (1, 0), (0, 1), (1, 1); b[0], b[1] those of the depth.
__device__ inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// The same of f16.
__device__ inline void multiply_add_f16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

DLCORE_END

#endif
#endif
