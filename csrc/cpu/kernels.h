// SPDX-License-Identifier: Apache-2.0
// The table of CPU kernels of one instruction set and real type, and how a kernel reaches its operands.
#pragma once
#include "../backend.h"
#include "../math/portable.h"

DLCORE_BEGIN

// nullptr when the view is absent.
template <class T>
inline T* at(const Call& call, const View& view) {
  if (view.arena < 0) return nullptr;
  return reinterpret_cast<T*>(call.bases[view.arena] + view.offset + call.member * view.member_stride);
}

extern const KernelEntry product_entry, pointwise_entry, pack_entry, gather_entry, gather_index_entry,
    moments_finish_entry, norm_backward_finish_entry, layer_norm_entry, layer_norm_backward_entry,
    softmax_cross_entropy_entry, loss_entry, grad_scale_entry, update_entry, tick_entry, softmax_entry;

extern const KernelEntry* const kernel_table[];  // in the order of enum Kernel
extern const Traits traits;

// Strips pay when this many row chunks of the product read the same operand; see gemm/pack.cpp.
Layout operand_layout(Role role, int64_t m, int64_t n, int64_t k, bool kept);

// 0 without a matrix unit; see gemm/product.cpp.
int32_t product_terms(Precision precision, int64_t m, int64_t n, int64_t k);

// Of the benchmarks; see probe.cpp.
double fma_probe(int64_t rounds, double* sink);
void memory_probe(char* const* read, int32_t reads, char* const* written, int32_t writes, int64_t bytes, int64_t times,
                  double* sink);

DLCORE_END
