// SPDX-License-Identifier: Apache-2.0
// The doors to the backends of this folder, built or not. A backend lives as long as the process.
#pragma once
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
// Runs a kernel with a fault that the emulator finds, or that changes its result with the schedule.
std::vector<float> emulate_fault(const std::string& fault, uint64_t schedule);
void emulate_capability(int capability);  // of the GPU from now on: 80 for 8.0
// A product of bf16 terms (m, n, k, terms): {rows and columns of a tile, tiles down and across, splits, depth of each},
// and {row, column, depth} at which a block begins.
std::vector<int64_t> emulate_cut(const std::vector<int64_t>& product);
std::vector<int64_t> emulate_place(const std::vector<int64_t>& product, int64_t block);
// The place in shared memory of a chunk of a tile with so many chunks in a row.
int emulate_swizzle(int row, int chunk, int across);

}  // namespace dlcore
