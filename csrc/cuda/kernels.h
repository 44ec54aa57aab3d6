// SPDX-License-Identifier: Apache-2.0
// The table of CUDA kernels, and what its functions on the host are given. No word of CUDA here: the emulator and plain
// C++ include it too.
#pragma once
#include <vector>

#include "../backend.h"
#include "../math/scalar.h"
#include "device.h"

DLCORE_BEGIN

// One run of an instruction. `device` is the instruction as kernels see it: its views (with scratch as the last
// operand), stages and numbers lie in device memory, and the offset of a view is the address of member 0.
struct Launch {
  const Instruction* instruction;
  Instruction device;
  int32_t members;
  Instruction bound;      // as `device`, but on the host; of products by a library, which take addresses there
  const TensorMap* maps;  // in device memory
};

// What the recorder asks of every kernel, and how a phase is launched. Phases follow one another on one stream.
struct Entry : KernelEntry {
  void (*launch)(const Launch& launch, int32_t phase);
  // The tensor maps of a product of wgmma, of operands that have addresses as offsets.
  std::vector<TensorMap> (*maps)(const Instruction&, const View* operands, int32_t members) = nullptr;
  // What stands behind the numbers on the device.
  std::vector<double> (*table)(const Instruction&) = nullptr;
};

extern const Entry product_entry, pointwise_entry, pack_entry, gather_entry, gather_index_entry, moments_finish_entry,
    norm_backward_finish_entry, layer_norm_entry, layer_norm_backward_entry, softmax_cross_entropy_entry, loss_entry,
    grad_scale_entry, update_entry, tick_entry, softmax_entry;
#ifndef DLCORE_CUDA_90a
#define DLCORE_CUDA_90a 0  // are files for compute capability 9.0 alone compiled?
#endif
extern const Entry mma_product_entry, wgmma_product_entry;  // of products of bf16 terms
extern const Entry library_product_entry;

// Is it a product by cuBLASLt?
DLCORE_HD bool is_library(const Instruction& in) {
  return in.kernel == Kernel::product && in.number_count > 2 && Gemm(int(in.numbers[2])) == Gemm::cublaslt;
}
void check_library(const char* who);         // it is there, and begun on the current device
void prepare_library(const Launch& launch);  // with addresses: what may not happen in a capture

extern const KernelEntry* const kernel_table[];  // in the order of enum Kernel, each an Entry
extern const Traits traits;

constexpr int64_t TILE = 64;  // rows and columns that a block takes through a chain, and the width of a strip

inline int32_t one_phase(const Instruction&) { return 1; }
inline int64_t no_scratch(const Instruction&) { return 0; }

DLCORE_END
