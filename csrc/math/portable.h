// SPDX-License-Identifier: Apache-2.0
// What every file of math/ and cpu/ opens with: the real type and the namespace of the instruction set it is compiled
// for.
#pragma once
#include <cstdint>

#ifdef __CUDACC__
#define DLCORE_HD __host__ __device__ inline
#else
#define DLCORE_HD inline
#endif

#define DLCORE_BEGIN \
  namespace dlcore { \
  namespace cpu {    \
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
