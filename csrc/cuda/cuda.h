// SPDX-License-Identifier: Apache-2.0
// The doors to the backends of this folder, built or not. A backend lives as long as the process.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "../backend.h"

namespace dlcore {

// Host memory that is pinned, and as much of the device's, which gets its bytes while kernels run.
class Feed {
 public:
  virtual ~Feed() = default;
  virtual char* host() const = 0;
  virtual char* memory() const = 0;
  virtual void send(int64_t bytes) = 0;  // returns at once; what is sent may not change before settle
  virtual void settle() = 0;             // waits for what was sent
  virtual void expect() = 0;             // lets the next run wait for it
};

// A backend with memory of its own.
class DeviceDoor : public Backend {
 public:
  virtual int number() const = 0;                       // of the device
  virtual int64_t room() const = 0;                     // bytes that are free
  virtual int holder(const char* memory) const = 0;     // number of the device where it lies; -1: none
  virtual uintptr_t stream() const = 0;                 // on which everything runs
  virtual void follow(uintptr_t the_stream) const = 0;  // the next run waits for what is on another stream by now
  virtual Feed* feed(int64_t bytes) const = 0;
};

struct CudaInfo {
  bool built;
  std::string absence;  // why there is no backend; "" where there is one
  std::vector<std::string> devices;
  std::vector<std::string> architectures;  // compiled for
};

CudaInfo cuda_info();
CudaInfo emulator_info();
DeviceDoor* cuda_backend(int device);  // nullptr where there is none

// The kernels of cuda/ in threads of this process, for tests; nullptr where it is not built.
DeviceDoor* emulated_backend(int device);
// How often each kernel has been launched there, by its symbol.
std::map<std::string, int64_t> emulated_launches();
// Runs a kernel with a fault that the emulator finds, or that changes its result with the schedule.
std::vector<float> emulate_fault(const std::string& fault, uint64_t schedule);
// How many "allocations", "launches", "loads" of kernels, "copies", "captures" and "replays" there were; how many
// things are "waiting" on streams; bytes "used" of the current device; the number of the current "device".
int64_t emulator_count(const std::string& what);
// Sets "limit", bytes of each device; the current "device"; 0: no "library" of products, or no "loads" so far; or which
// of the next "allocations" or "launches" fails.
void emulator_set(const std::string& what, int64_t value);
// A stream of somebody else, on which nothing runs before somebody waits, and what he writes there.
uintptr_t emulator_stream();
void emulator_write(uintptr_t stream, uintptr_t address, const std::string& bytes);
void emulate_capability(int capability);  // of the GPU from now on: 80 for 8.0
// A product of bf16 terms (m, n, k, terms, gemm = mma): {rows and columns of a tile, tiles down and across, splits,
// depth of each}, and {row, column, depth} at which a block begins.
std::vector<int64_t> emulate_cut(const std::vector<int64_t>& product);
std::vector<int64_t> emulate_place(const std::vector<int64_t>& product, int64_t block);
// The place in shared memory of a chunk of a tile with so many chunks in a row.
int emulate_swizzle(int row, int chunk, int across);
// As products of warpgroups read a matrix from this address of shared memory on.
uint64_t emulate_descriptor(uint32_t address, uint32_t leading);

}  // namespace dlcore
