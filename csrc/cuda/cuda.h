// SPDX-License-Identifier: Apache-2.0
// The doors to the backends of this folder, built or not. A backend lives as long as the process.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "../backend.h"

namespace dlcore {

struct CudaInfo {
  bool built;
  std::string absence;  // why there is no backend; "" where there is one
  std::vector<std::string> devices;
  std::vector<std::string> architectures;  // compiled for
};

CudaInfo cuda_info();
Backend* cuda_backend();  // nullptr where there is none

// The kernels of cuda/ in threads of this process, for tests; nullptr where it is not built.
Backend* emulated_backend();
// How often each kernel has been launched there, by its symbol.
std::map<std::string, int64_t> emulated_launches();
// Runs a kernel with a fault that the emulator finds, or that changes its result with the schedule.
std::vector<float> emulate_fault(const std::string& fault, uint64_t schedule);

}  // namespace dlcore
