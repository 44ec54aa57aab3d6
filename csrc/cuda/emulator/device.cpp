// SPDX-License-Identifier: Apache-2.0
// The emulator's memory is the host's; there are no graphs, every launch runs at once.
#include "../device.h"

#include <cstdlib>
#include <cstring>

#include "simt.h"

DLCORE_BEGIN

std::string device_absence() { return ""; }
std::vector<std::string> device_names() { return {"emulator"}; }
int device_capability() { return emulator::capability; }

char* device_allocate(int64_t bytes) {
  constexpr int64_t UNIT = 256;  // of CUDA's allocations
  if (bytes > int64_t(1) << 40) return nullptr;
  const size_t size = size_t((bytes > 0 ? bytes : 1) + UNIT - 1) / UNIT * UNIT;
  char* memory = static_cast<char*>(std::aligned_alloc(UNIT, size));
  if (memory != nullptr) std::memset(memory, 0, size);
  return memory;
}

void device_release(char* memory) { std::free(memory); }
void device_copy(char* to, const char* from, int64_t bytes) { std::memcpy(to, from, size_t(bytes)); }
std::string device_room() { return "the emulator gives at most 1 TB"; }

Graph* device_capture(void (*)(void*), void*) { return nullptr; }
void device_replay(Graph*) {}
void device_drop(Graph*) {}

void device_order(uint64_t schedule) { emulator::set_schedule(schedule); }
void device_wait() {}

DLCORE_END
