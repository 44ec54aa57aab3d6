// SPDX-License-Identifier: Apache-2.0
// What every file of math/, cpu/ and cuda/ opens with: the real type, and the namespace of the folder and instruction
// set it is compiled for.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define DLCORE_HD __host__ __device__ inline
#else
#define DLCORE_HD inline
#endif

#define DLCORE_PRAGMA(text) _Pragma(#text)
#if defined(__CUDA_ARCH__)
#define DLCORE_UNROLL(n) DLCORE_PRAGMA(unroll n)
#elif defined(__CUDACC__)  // the host's half of a .cu file
#define DLCORE_UNROLL(n)
#else
#define DLCORE_UNROLL(n) DLCORE_PRAGMA(GCC unroll n)
#endif

#ifndef DLCORE_FOLDER
#define DLCORE_FOLDER cpu
#endif

#define DLCORE_BEGIN        \
  namespace dlcore {        \
  namespace DLCORE_FOLDER { \
  namespace DLCORE_ISA {
#define DLCORE_END \
  }                \
  }                \
  }

DLCORE_BEGIN
#if DLCORE_REAL_F64
typedef double real;
#else
typedef float real;
#endif
DLCORE_END
