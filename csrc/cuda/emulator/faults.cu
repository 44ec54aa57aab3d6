// SPDX-License-Identifier: Apache-2.0
// Kernels with planted faults, which show that the emulator finds them. Each reverses the numbers 0 ... 63 in shared
// memory, and would do it well without its fault.
#include <map>
#include <memory>
#include <stdexcept>

#include "../arch/sm80.cuh"
#include "../arch/sm90.cuh"
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

// A box of (64, 64) with 63 - i in column 0 and a one in column 16 of row 0, multiplied with its columns from 16 on.
enum class Slip {
  none,
  early,
  no_arrival,
  more_bytes,
  again,
  no_fence,
  no_commit,
  no_wait,
  misaligned,
  outside,
  unpublished,
  unacquired,
  released
};
static const TensorMap* box_map;

struct BoxMemory {
  uint16_t box[64 * SWIZZLED_ROW];
  Barrier full;
};

template <Slip slip>
__global__ void box_product(const Instruction) {
  BoxMemory& memory = shared_memory<BoxMemory>();
  if (threadIdx.x == 0) {
    init_barrier(memory.full, 1);
    if (slip != Slip::unpublished) publish_barriers();
    if (slip != Slip::unacquired) acquire_map(box_map);
    copy_box(memory.box, box_map, 0, 0, 0, 0, memory.full);
    if (slip != Slip::no_arrival) arrive_expecting(memory.full, slip == Slip::more_bytes ? 8193 : 8192);
    if (slip == Slip::again) arrive(memory.full);
  }
  __syncthreads();
  if (slip != Slip::early) wait_barrier(memory.full, 0);
  float c[8][4] = {};
  const uint32_t from = shared_address(memory.box);
  const uint32_t b = slip == Slip::misaligned ? from + 128 : slip == Slip::outside ? from + 1024 : from + 32;
  if (slip != Slip::no_fence) fence_sums();
  multiply_add<false, false>(c, describe_matrix(from, 16), describe_matrix(b, 16), true);
  if (slip != Slip::no_commit) commit_products();
  if (slip == Slip::released) {
    __syncthreads();
    if (threadIdx.x == 0) copy_box(memory.box, box_map, 0, 0, 0, 0, memory.full), arrive_expecting(memory.full, 8192);
    __syncthreads();
  }
  if (slip != Slip::no_wait) wait_products<0>();
  if (slip == Slip::early || slip == Slip::released) wait_barrier(memory.full, slip == Slip::released);
  const int row = int(threadIdx.x) / WARP * 16 + int(threadIdx.x) % WARP / 4;
  if (threadIdx.x % 4 == 0) result[row] = c[0][0], result[row + 8] = c[0][2];
  if (slip == Slip::no_wait) wait_products<0>();
}

__global__ void outside_global(const Instruction in) {
  float* numbers = at<float>(in.operands[0]);  // (1, COUNT)
  numbers[threadIdx.x + 1] = float(threadIdx.x);
}

DLCORE_END

namespace dlcore {

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

static const std::map<std::string, void (*)(Instruction)> box_kernels = {
    {"sound_box", box_product<Slip::none>},
    {"box_early", box_product<Slip::early>},
    {"box_arrival_missing", box_product<Slip::no_arrival>},
    {"box_more_bytes", box_product<Slip::more_bytes>},
    {"box_arrival_again", box_product<Slip::again>},
    {"box_fence_missing", box_product<Slip::no_fence>},
    {"box_commit_missing", box_product<Slip::no_commit>},
    {"box_wait_missing", box_product<Slip::no_wait>},
    {"box_misaligned", box_product<Slip::misaligned>},
    {"box_outside", box_product<Slip::outside>},
    {"box_unpublished", box_product<Slip::unpublished>},
    {"box_unacquired", box_product<Slip::unacquired>},
    {"box_released", box_product<Slip::released>},
};

static std::vector<float> run_fault(void (*kernel)(Instruction), const Launch& launch, int threads, size_t bytes,
                                    uint64_t schedule) {
  device_order(schedule);
  launch_kernel(kernel, launch, 1, threads, bytes);
  device_wait();
  return std::vector<float>(result, result + COUNT);
}

static std::vector<float> run_box(void (*kernel)(Instruction), uint64_t schedule) {
  constexpr int64_t ROW = 2 * COUNT, BYTES = ROW * COUNT;
  std::vector<uint16_t> box(COUNT * COUNT);
  for (int i = 0; i < COUNT; ++i) box[size_t(i * COUNT)] = uint16_t(emulator::to_word(float(COUNT - 1 - i)) >> 16);
  box[16] = 0x3f80;  // 1
  char* memory = device_allocate(BYTES);
  const std::unique_ptr<char, void (*)(char*)> owner(memory, [](char* p) { device_release(0, p); });
  device_copy(memory, reinterpret_cast<const char*>(box.data()), BYTES);
  const TensorMap map = device_tensor_map(int64_t(reinterpret_cast<intptr_t>(memory)), {COUNT, COUNT, 1, 1},
                                          {ROW, BYTES, BYTES}, {COUNT, COUNT, 1, 1});
  box_map = &map;
  return run_fault(kernel, {nullptr, {}, 1, {}, nullptr}, 128, sizeof(BoxMemory), schedule);
}

std::vector<float> emulate_fault(const std::string& fault, uint64_t schedule) {
  const OnDevice here(0);
  if (const auto box = box_kernels.find(fault); box != box_kernels.end()) return run_box(box->second, schedule);
  const auto found = kernels.find(fault);
  if (found == kernels.end()) throw std::invalid_argument("emulate_fault: expected a fault, got '" + fault + "'");
  std::vector<float> numbers(COUNT);
  for (int i = 0; i < COUNT; ++i) numbers[size_t(i)] = float(i);
  View view = {
      0, DType::f32, Layout::row_major, 1, int64_t(reinterpret_cast<intptr_t>(numbers.data())), 0, 1, COUNT, COUNT, 1};
  Launch launch = {nullptr, {}, 1, {}, nullptr};
  launch.device.operands = &view;
  return run_fault(found->second, launch, COUNT, fault == "race" ? sizeof(float) : COUNT * sizeof(float), schedule);
}

}  // namespace dlcore
