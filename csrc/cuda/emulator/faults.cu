// SPDX-License-Identifier: Apache-2.0
// Kernels with planted faults, which show that the emulator finds them. Each reverses the numbers 0 ... 63 in shared
// memory, and would do it well without its fault.
#include <map>
#include <stdexcept>

#include "../arch/sm80.cuh"
#include "../cuda.h"

DLCORE_BEGIN

constexpr int COUNT = 64;

static float result[COUNT];

__global__ void sound(const Instruction) {
  float (&numbers)[COUNT] = shared_memory<float[COUNT]>();
  numbers[threadIdx.x] = float(threadIdx.x);
  __syncthreads();
  result[threadIdx.x] = numbers[COUNT - 1 - threadIdx.x];
}

// Reads what another thread may not have written.
__global__ void missing_barrier(const Instruction) {
  float (&numbers)[COUNT] = shared_memory<float[COUNT]>();
  numbers[threadIdx.x] = float(threadIdx.x);
  result[threadIdx.x] = numbers[COUNT - 1 - threadIdx.x];
}

// The last writer wins.
__global__ void race(const Instruction) {
  float& number = shared_memory<float>();
  number = float(threadIdx.x);
  __syncthreads();
  result[threadIdx.x] = number;
}

__global__ void divergent_barrier(const Instruction) {
  if (threadIdx.x % 2 == 0) __syncthreads();
}

__global__ void early_return(const Instruction) {
  if (threadIdx.x == COUNT - 1) return;
  __syncthreads();
}

// Half of a warp names all of its lanes.
__global__ void divergent_shuffle(const Instruction) {
  if (threadIdx.x < 16) result[threadIdx.x] = __shfl_xor_sync(ALL_LANES, float(threadIdx.x), 1);
}

__global__ void outside_shared(const Instruction) {
  float (&numbers)[COUNT] = shared_memory<float[COUNT]>();
  numbers[threadIdx.x + 1] = float(threadIdx.x);
}

// Copied asynchronously, four numbers a thread.
template <bool waits>
__device__ inline void reverse_copy(const float* from) {
  float (&numbers)[COUNT] = shared_memory<float[COUNT]>();
  if (threadIdx.x < COUNT / 4) copy16(&numbers[4 * threadIdx.x], from + 4 * threadIdx.x, true);
  commit_copies();
  if (waits) wait_copies<0>();
  __syncthreads();
  result[threadIdx.x] = numbers[COUNT - 1 - threadIdx.x];
  wait_copies<0>();
}

__global__ void sound_copy(const Instruction in) { reverse_copy<true>(at<float>(in.operands[0])); }
__global__ void missing_wait(const Instruction in) { reverse_copy<false>(at<float>(in.operands[0])); }

__global__ void copy_left(const Instruction in) {
  copy16(&shared_memory<float[COUNT]>(), at<float>(in.operands[0]), true);
  commit_copies();
}

// Rows of a matrix 64 bytes apart: two in each line of banks, at the same places.
__global__ void bank_conflict(const Instruction) {
  uint32_t loaded[4];
  load_matrices<false>(&shared_memory<float[COUNT]>()[threadIdx.x % 4 * 16], loaded);
}

__global__ void outside_global(const Instruction in) {
  float* numbers = at<float>(in.operands[0]);  // (1, COUNT)
  numbers[threadIdx.x + 1] = float(threadIdx.x);
}

DLCORE_END

namespace dlcore {

std::vector<float> emulate_fault(const std::string& fault, uint64_t schedule) {
  using namespace cuda::DLCORE_ISA;
  static const std::map<std::string, void (*)(Instruction)> kernels = {
      {"sound", sound},
      {"missing_barrier", missing_barrier},
      {"race", race},
      {"divergent_barrier", divergent_barrier},
      {"early_return", early_return},
      {"divergent_shuffle", divergent_shuffle},
      {"outside_shared", outside_shared},
      {"sound_copy", sound_copy},
      {"missing_wait", missing_wait},
      {"copy_left", copy_left},
      {"bank_conflict", bank_conflict},
      {"outside_global", outside_global},
  };
  const auto found = kernels.find(fault);
  if (found == kernels.end()) throw std::invalid_argument("emulate_fault: expected a fault, got '" + fault + "'");
  std::vector<float> numbers(COUNT);
  for (int i = 0; i < COUNT; ++i) numbers[size_t(i)] = float(i);
  View view = {
      0, DType::f32, Layout::row_major, 1, int64_t(reinterpret_cast<intptr_t>(numbers.data())), 0, 1, COUNT, COUNT, 1};
  Launch launch = {nullptr, {}, 1};
  launch.device.operands = &view;
  const OnDevice here(0);
  device_order(schedule);
  launch_kernel(found->second, launch, 1, COUNT, fault == "race" ? sizeof(float) : COUNT * sizeof(float));
  device_wait();
  return std::vector<float>(result, result + COUNT);
}

}  // namespace dlcore
