// SPDX-License-Identifier: Apache-2.0
// The backend over a table of kernels that run on host threads.
#pragma once
#include "../backend.h"

namespace dlcore {

struct HostKernels {
  const KernelEntry* const* table;  // in the order of enum Kernel
  const Traits* traits;
  Layout (*layout)(Role, int64_t m, int64_t n, int64_t k, bool kept);
  int32_t (*terms)(Precision, int64_t m, int64_t n, int64_t k);
  double (*fma_probe)(int64_t rounds, double* sink);  // of the benchmarks; see cpu/probe.cpp
  void (*memory_probe)(char* const* read, int32_t reads, char* const* written, int32_t writes, int64_t bytes,
                       int64_t times, double* sink);
};

class HostBackend : public Backend {
 public:
  explicit HostBackend(const HostKernels& kernels) : kernels_(kernels) {}
  const Traits& traits() const override { return *kernels_.traits; }
  bool on_host() const override { return true; }
  char* allocate(int64_t bytes) override;
  void release(char* memory, int64_t bytes) override;
  void copy(char* to, const char* from, int64_t bytes) override;
  int64_t scratch(const Instruction&) const override;
  Layout layout(Role, int64_t m, int64_t n, int64_t k, bool kept) const override;
  int32_t terms(Precision, int64_t m, int64_t n, int64_t k, Gemm) const override;
  int64_t depth(const Instruction&) const override;
  Recording* record(const Section*, int32_t count) override;
  void run(const Program*, int32_t count, char* const* bases, int32_t threads) override;

 private:
  HostKernels kernels_;
};

}  // namespace dlcore
