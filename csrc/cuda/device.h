// SPDX-License-Identifier: Apache-2.0
// What the backend asks of the machine below it: GPUs, or the emulator's (device.cu over emulator/runtime.h). Failures
// are std::runtime_error, and NoMemory where there is none.
#pragma once
#include <array>
#include <mutex>
#include <string>
#include <vector>

#include "../math/portable.h"

DLCORE_BEGIN

std::string device_absence();  // why there is none; "" when there is one
std::vector<std::string> device_names();
int device_capability(int device);  // 90 for compute capability 9.0

// Makes a device the one of the calling thread; the one before comes back at the end. What follows concerns this device
// and is done in the order it is asked for, on one stream. Refused in a fork of the process that first used a device.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0, device_;
};

std::mutex& device_mutex();  // held by who puts something on its stream, from the first launch of a run to its end

char* device_allocate(int64_t bytes);                         // zeroed
void device_copy(char* to, const char* from, int64_t bytes);  // between host and device in any direction
struct Room {
  int64_t free, total;  // bytes
};
Room device_room();
int device_of(const char* memory);  // where it lies; -1: not on a device

// Of a tensor of bf16 in device memory, sizes[0] elements side by side and strides in bytes between those of the other
// dimensions: which boxes kernels copy into shared memory (CUtensorMap). From compute capability 9.0 on.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};
TensorMap device_tensor_map(int64_t address, const std::array<int64_t, 4>& sizes, const std::array<int64_t, 3>& strides,
                            const std::array<int64_t, 4>& box);

int device_multiprocessors();

// kernel(arguments...) on (blocks, members) blocks; within device_load its code is loaded and it does not run.
void device_launch(const void* kernel, int64_t blocks, int32_t members, int threads, void** arguments,
                   size_t shared_bytes);

// The code of a kernel is loaded when it is first asked for, which a capture may refuse: this asks for the kernels that
// body(argument) launches.
void device_load(void (*body)(void*), void* argument);

// What body(argument) launches, as a graph that can be replayed.
struct Graph;
Graph* device_capture(void (*body)(void*), void* argument);
void device_replay(Graph* graph);

// A second stream copies from pinned memory of the host while kernels run.
char* device_pin(int64_t bytes);
struct Sent;  // the last copy of one pinned block
Sent* device_sender();
void device_send(char* to, const char* pinned, int64_t bytes, Sent* sent);
void device_expect(Sent* sent);  // what follows waits for it
void device_settle(Sent* sent);  // the caller waits for it

uintptr_t device_stream();                 // on which everything is done
void device_follow(uintptr_t the_stream);  // what follows waits for what others put on their stream

void device_order(uint64_t schedule);  // of the emulator's threads and streams
void device_wait();

// These are called in destructors: nothing is done in a fork, or at the end of the process when the runtime is gone.
void device_release(int device, char* memory);
void device_drop(int device, Graph* graph);
void device_drop(int device, Sent* sent);  // waits for it
void device_unpin(int device, char* memory);

DLCORE_END
