// SPDX-License-Identifier: Apache-2.0
// The names of the contract's enums, in their order: what Python says and what messages print.
#pragma once
#include "../backend.h"

namespace dlcore {

constexpr const char* KERNEL_NAMES[] = {"product",
                                        "pointwise",
                                        "pack",
                                        "gather",
                                        "gather_index",
                                        "moments_finish",
                                        "norm_backward_finish",
                                        "layer_norm",
                                        "layer_norm_backward",
                                        "softmax_cross_entropy",
                                        "loss",
                                        "grad_scale",
                                        "update",
                                        "tick",
                                        "softmax"};
constexpr const char* STAGE_NAMES[] = {"affine", "affine2", "add", "activate", "activate_grad", "dropout",
                                       "scale",  "store",   "sum", "dot",      "moments"};
constexpr const char* DTYPE_NAMES[] = {"f32", "f64", "f16", "bf16", "u8",  "i8",
                                       "u16", "i16", "u32", "i32",  "u64", "i64"};
constexpr int64_t DTYPE_SIZES[] = {4, 8, 2, 2, 1, 1, 2, 2, 4, 4, 8, 8};  // bytes
constexpr const char* LAYOUT_NAMES[] = {"row_major", "strips", "planes", "parts"};
constexpr const char* PRECISION_NAMES[] = {"float32", "bf16x3", "bf16"};
constexpr const char* GEMM_NAMES[] = {"auto", "simt", "mma", "wgmma", "cublaslt"};
constexpr const char* ROLE_NAMES[] = {"nn", "nt", "tn"};

template <class T, int64_t n>
constexpr int64_t length(T (&)[n]) {
  return n;
}

static_assert(length(KERNEL_NAMES) == int64_t(Kernel::count));
static_assert(length(STAGE_NAMES) == int64_t(StageKind::moments) + 1);
static_assert(length(DTYPE_NAMES) == int64_t(DType::i64) + 1 && length(DTYPE_SIZES) == length(DTYPE_NAMES));
static_assert(length(LAYOUT_NAMES) == int64_t(Layout::parts) + 1);
static_assert(length(PRECISION_NAMES) == int64_t(Precision::bf16) + 1);
static_assert(length(GEMM_NAMES) == int64_t(Gemm::cublaslt) + 1);
static_assert(length(ROLE_NAMES) == int64_t(Role::tn) + 1);

constexpr int64_t size_of(DType dtype) { return DTYPE_SIZES[int32_t(dtype)]; }
constexpr const char* name_of(Kernel kernel) { return KERNEL_NAMES[int32_t(kernel)]; }
constexpr const char* name_of(StageKind kind) { return STAGE_NAMES[int32_t(kind)]; }
constexpr const char* name_of(DType dtype) { return DTYPE_NAMES[int32_t(dtype)]; }
constexpr const char* name_of(Layout layout) { return LAYOUT_NAMES[int32_t(layout)]; }
constexpr const char* name_of(Gemm gemm) { return GEMM_NAMES[int32_t(gemm)]; }

}  // namespace dlcore
