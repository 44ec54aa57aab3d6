// SPDX-License-Identifier: Apache-2.0
// How kernels start, on a GPU and in the emulator, and how they reach their operands and shared memory.
#pragma once
#ifdef DLCORE_EMULATOR
#include <functional>

#include "emulator/simt.h"
#else
#include <cuda_runtime.h>
#endif

#include "device.h"
#include "kernels.h"

DLCORE_BEGIN

constexpr int THREADS = 256;     // of a block, where a kernel does not say otherwise
constexpr int BLOCKS = 3;        // at once on a multiprocessor: a chain has 80 registers then, and spills none;
constexpr int FEWER_BLOCKS = 2;  // where it would
constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int SHARED_ALIGN = 1024;  // bytes, of a block's shared memory

template <class T>
struct Same {
  typedef T type;
};

// kernel(launch.device, more...) on `blocks` blocks for each member.
template <class... More>
void launch_kernel(void (*kernel)(Instruction, More...), const Launch& launch, int64_t blocks, int threads,
                   size_t shared_bytes, typename Same<More>::type... more) {
  Instruction device = launch.device;
#ifdef DLCORE_EMULATOR
  std::function<void()> thread = [=] { kernel(device, more...); };
  void* arguments[] = {&thread};
#else
  void* arguments[] = {&device, &more...};
#endif
  device_launch(reinterpret_cast<const void*>(kernel), blocks, launch.members, threads, arguments, shared_bytes);
}

// The block's shared memory, of as many bytes as the launch says; holds anything until it is written.
template <class T>
__device__ inline T& shared_memory() {
#ifdef DLCORE_EMULATOR
  return *reinterpret_cast<T*>(emulator::here.shared);
#else
  extern __shared__ __align__(SHARED_ALIGN) float4 memory[];
  return *reinterpret_cast<T*>(memory);
#endif
}

// Until the first THREADS threads of the block are here, which go through chains; a block may have more.
__device__ inline void sync_chain() {
#ifdef DLCORE_EMULATOR
  emulator::barrier(THREADS);
#else
  asm volatile("bar.sync 1, %0;" ::"n"(THREADS) : "memory");
#endif
}

// nullptr when the view is absent.
template <class T>
__device__ inline T* at(const View& view) {
  if (view.arena < 0) return nullptr;
  const int64_t address = view.offset + int64_t(blockIdx.y) * view.member_stride;
#ifdef DLCORE_EMULATOR
  return reinterpret_cast<T*>(address);
#else
  return static_cast<T*>(__cvta_global_to_generic(size_t(address)));  // generic ones are slower
#endif
}

template <class T>
__device__ inline T* scratch_at(const Instruction& in, int64_t bytes = 0) {
  return reinterpret_cast<T*>(at<char>(in.operands[in.operand_count]) + bytes);
}

DLCORE_END
