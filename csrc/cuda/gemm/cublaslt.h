// SPDX-License-Identifier: Apache-2.0
// What is used of NVIDIA's cuBLASLt, which is opened at run time where it is installed: the functions, structs and
// enumerators of cublasLt.h that are the same in CUDA 12 and 13.
#pragma once
#include <cstddef>
#include <cstdint>

namespace dlcore {

enum LtNumber : int32_t {
  LT_COMPUTE_32F = 68,  // CUBLAS_COMPUTE_32F: true float32; tf32 would have another number
  LT_R_32F = 0,         // CUDA_R_32F
  LT_OP_T = 1,          // CUBLAS_OP_T
  LT_DESC_TRANSA = 3,   // CUBLASLT_MATMUL_DESC_TRANSA
  LT_DESC_TRANSB = 4,
  LT_PREF_WORKSPACE = 1,    // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
  LT_PREF_ALIGNMENT_A = 5,  // ..._PREF_MIN_ALIGNMENT_A_BYTES; then of B, C and D
};

struct LtAlgorithm {  // cublasLtMatmulAlgo_t
  uint64_t data[8];
};

struct LtChoice {  // cublasLtMatmulHeuristicResult_t
  LtAlgorithm algorithm;
  size_t workspace;
  int32_t state;
  float waves;
  int32_t reserved[4];
};

// Each returns a status, 0 for success. Products, layouts and preferences are opaque; matrices lie column by column.
struct LtLibrary {
  int (*create)(void** handle);
  int (*make_product)(void** product, int compute, int scale);
  int (*set_product)(void* product, int attribute, const void* value, size_t bytes);
  int (*make_layout)(void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld);
  int (*make_preference)(void** preference);
  int (*set_preference)(void* preference, int attribute, const void* value, size_t bytes);
  int (*drop_preference)(void* preference);
  int (*choose)(void* handle, void* product, void* a, void* b, void* c, void* d, void* preference, int wanted,
                LtChoice* found, int* count);
  int (*multiply)(void* handle, void* product, const void* alpha, const void* a, void* a_layout, const void* b,
                  void* b_layout, const void* beta, const void* c, void* c_layout, void* d, void* d_layout,
                  const LtAlgorithm* algorithm, void* workspace, size_t bytes, void* stream);
};

}  // namespace dlcore
