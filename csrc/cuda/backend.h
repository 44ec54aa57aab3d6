// SPDX-License-Identifier: Apache-2.0
// The backend over a table of CUDA kernels and one device of device.h. Runs on a device wait for one another, and for
// the device.
#pragma once
#include "cuda.h"
#include "kernels.h"

DLCORE_BEGIN

class DeviceBackend : public DeviceDoor {
 public:
  explicit DeviceBackend(int device) : device_(device) {}
  const Traits& traits() const override;
  bool on_host() const override { return false; }
  char* allocate(int64_t bytes) override;
  void release(char* memory, int64_t bytes) override;
  void copy(char* to, const char* from, int64_t bytes) override;
  void put(char* to, const char* from, int64_t bytes) override;
  void settle() noexcept override;
  int64_t scratch(const Instruction&) const override;
  Layout layout(Role, int64_t m, int64_t n, int64_t k, bool kept) const override;
  int32_t terms(Precision, int64_t m, int64_t n, int64_t k, Gemm) const override;
  Recording* record(const Section*, int32_t count) override;
  void run(const Program*, int32_t count, char* const* bases, int32_t threads) override;
  int number() const override { return device_; }
  int64_t room() const override;
  int holder(const char* memory) const override;
  uintptr_t stream() const override;
  void follow(uintptr_t the_stream) const override;
  Feed* feed(int64_t bytes) const override;

 private:
  int device_;
};

// Of each device one, made when it is first asked for; nullptr where there is no such device.
DeviceBackend* backend_on(int device);

DLCORE_END
