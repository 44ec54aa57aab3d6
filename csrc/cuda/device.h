// SPDX-License-Identifier: Apache-2.0
// What the backend asks of the machine below it: a GPU (device.cu) or the emulator (emulator/device.cpp). Everything is
// done in the order it is asked for, on one stream. Failures are std::runtime_error.
#pragma once
#include <string>
#include <vector>

#include "../math/portable.h"

DLCORE_BEGIN

std::string device_absence();  // why there is none; "" when there is one
std::vector<std::string> device_names();
int device_capability();  // 90 for compute capability 9.0

char* device_allocate(int64_t bytes);  // zeroed; nullptr when there is no room
void device_release(char* memory);
void device_copy(char* to, const char* from, int64_t bytes);  // between host and device in any direction
std::string device_room();                                    // "1.2 of 80 GB free"

// kernel(arguments...) on (blocks, members) blocks.
void device_launch(const void* kernel, int64_t blocks, int32_t members, int threads, void** arguments,
                   size_t shared_bytes);

// What body(argument) launches, as a graph that can be replayed; nullptr where there are none.
struct Graph;
Graph* device_capture(void (*body)(void*), void* argument);
void device_replay(Graph* graph);
void device_drop(Graph* graph);

void device_order(uint64_t schedule);  // of the emulator's threads
void device_wait();

DLCORE_END
