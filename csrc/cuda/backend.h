// SPDX-License-Identifier: Apache-2.0
// The backend over a table of CUDA kernels and the device of device.h. Runs wait for one another, and for the device.
#pragma once
#include "kernels.h"

DLCORE_BEGIN

class DeviceBackend : public Backend {
 public:
  const Traits& traits() const override;
  bool on_host() const override { return false; }
  char* allocate(int64_t bytes) override;
  void release(char* memory, int64_t bytes) override;
  void copy(char* to, const char* from, int64_t bytes) override;
  int64_t scratch(const Instruction&) const override;
  Layout layout(Role, int64_t m, int64_t n, int64_t k) const override;
  int32_t terms(Precision, int64_t m, int64_t n, int64_t k, Gemm) const override;
  Recording* record(const Section*, int32_t count) override;
  void run(const Program*, int32_t count, char* const* bases, int32_t threads) override;
};

DLCORE_END
