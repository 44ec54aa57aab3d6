// SPDX-License-Identifier: Apache-2.0
// CUDA's words for the host compiler: the kernels of cuda/ run as they are, a fiber for each thread of a block. For
// tests only, one grid at a time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>

#define __global__ __attribute__((visibility("default")))  // so that a launch can be named
#define __device__
#define __launch_bounds__(...)

struct alignas(16) float4 {
  float x, y, z, w;
};

inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

struct alignas(8) float2 {
  float x, y;
};

inline float2 make_float2(float x, float y) { return {x, y}; }

namespace dlcore {
namespace emulator {

struct Index {
  unsigned x, y, z;
};

// Of the fiber that runs.
struct Here {
  Index thread, block, block_size, grid;
  char* shared;
};
extern Here here;

// Blocks until the others come too: all threads of the block, so many of them, or the lanes of mask of a warp.
void barrier();
void barrier(unsigned threads);
enum class Exchange : int32_t { barrier, shuffle, ballot, together };
uint64_t exchange(Exchange kind, uint32_t mask, uint64_t value, uint32_t source);

// All lanes of a warp come together, then work(what each has given) runs once for them; it returns a fault, or nullptr.
typedef const char* Work(void* const (&lanes)[32]);
void together(Work* work, void* given);

// What a lane gives to a load of four matrices, and to a product of 16 x 8 x 16 (tensor.cpp).
struct Rows {
  const void* row;
  bool transposed;
  uint32_t loaded[4];
};
struct Fragments {
  float c[4];
  uint32_t a[4], b[2];
};
Work load_rows, multiply_fragments;

// A copy into shared memory that happens when the thread waits for its group: 16 bytes, zeros behind the first `valid`.
void copy_later(void* to, const void* from, int valid);
void commit_copies();
void wait_copies(int pending);  // until so many groups, the last ones, are left

// Eight products, twice, of a row of depth 16 with columns (16, 8), cut as tensor cores do.
void cut_product(const double* a, const double* b, float* c);

// ---- compute capability 9.0 (sm90.cpp)
typedef uint64_t Barrier;
void init_barrier(Barrier& barrier, int arrivals);
void publish_barriers();
void arrive(Barrier& barrier, int bytes);  // which it expects too
void wait_barrier(Barrier& barrier, uint32_t parity);

// What the stand-in for the driver makes of a tensor of bf16; see TensorMap.
struct BoxMap {
  uint64_t address, sizes[4], strides[3], box[4];
};
struct Place {
  int x, y, z, w;
};
void acquire_map(const void* map);
void copy_box(void* to, const void* map, const Place& place, Barrier& barrier);
bool land_box(uint64_t which);  // one of those on their way; false: there is none

struct Matrix {
  uint64_t descriptor;
  bool down;
};
// What a lane gives to a product of a warpgroup, and to a wait for all but so many groups.
struct Product {
  unsigned thread;
  float* c;
  int blocks;  // of 8 columns
  Matrix a, b;
  bool adds;
};
struct Wait {
  unsigned thread;
  int pending;
};
void fence_sums();
Work issue_product, commit_products, wait_products;

void begin_async(size_t shared_bytes, unsigned threads);
const char* left_async();  // what a block did not wait for; nullptr: nothing

// Of a thread that is at fault, and of one that waits for something to be so.
[[noreturn]] void report(const char* fault);
void wait_until(std::function<bool()> done);

// Runs thread(argument) for every thread of every block, in an order that the schedule decides. Throws
// std::runtime_error where threads wait for one another forever, leave copies that they have not waited for, or where
// one wrote past the end of shared memory.
void run_grid(Index grid, unsigned threads, size_t shared_bytes, void (*thread)(void*), void* argument);

// Counts a launch of a kernel.
void count_launch(const void* kernel);
extern int capability;  // of the GPU that is emulated: 80 for compute capability 8.0

// Another number, another order of the fibers and blocks.
void set_schedule(uint64_t seed);

template <class T>
uint64_t to_word(T value) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "");
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  return word;
}

template <class T>
T from_word(uint64_t word) {
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

}  // namespace emulator
}  // namespace dlcore

#define threadIdx (::dlcore::emulator::here.thread)
#define blockIdx (::dlcore::emulator::here.block)
#define blockDim (::dlcore::emulator::here.block_size)
#define gridDim (::dlcore::emulator::here.grid)

inline void __syncthreads() { dlcore::emulator::barrier(); }

inline void __syncwarp(unsigned mask = 0xffffffffu) {
  dlcore::emulator::exchange(dlcore::emulator::Exchange::barrier, mask, 0, 0);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return unsigned(dlcore::emulator::exchange(dlcore::emulator::Exchange::ballot, mask, predicate != 0, 0));
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }

template <class T>
T __shfl_sync(unsigned mask, T value, int lane) {
  using namespace dlcore::emulator;
  return from_word<T>(exchange(Exchange::shuffle, mask, to_word(value), unsigned(lane) % 32));
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return __shfl_sync(mask, value, int(threadIdx.x % 32) ^ lanes);
}
